"""What the small apps share: the token check, one queue per reader, and the server they run on."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

_KEY = OctKey.import_key(os.environ["BENCH_SECRET"])
_CLAIMS = jwt.JWTClaimsRegistry(leeway=10)


def verify(authorization: str | None) -> str | None:
    """Return the subject of a bearer token, or None."""
    if authorization is None or not authorization.startswith("Bearer "):
        return None
    try:
        token = jwt.decode(authorization.removeprefix("Bearer "), _KEY, algorithms=["HS256"])
        _CLAIMS.validate(token.claims)
    except (JoseError, ValueError):
        return None
    return str(token.claims["sub"])


class Rooms:
    """Topics and their readers: the usual recipe, one queue per reader."""

    def __init__(self) -> None:
        self._rooms: dict[str, set[asyncio.Queue[tuple[str, str]]]] = {}
        self._count = 0

    def join(self, topics: list[str]) -> asyncio.Queue[tuple[str, str]]:
        """Return a queue that gets every event of these topics from now on."""
        queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        for topic in topics:
            self._rooms.setdefault(topic, set()).add(queue)
        return queue

    async def read(self, queue: asyncio.Queue[tuple[str, str]], topics: list[str]) -> AsyncIterator[tuple[str, str]]:
        """Yield (id, data) until the reader leaves."""
        try:
            while True:
                yield await queue.get()
        finally:
            self.leave(queue, topics)

    def leave(self, queue: asyncio.Queue[tuple[str, str]], topics: list[str]) -> None:
        """Forget a reader."""
        for topic in topics:
            self._rooms[topic].discard(queue)

    def publish(self, topic: str, data: str) -> None:
        """Put an event into the queue of each reader."""
        self._count += 1
        event = (str(self._count), data)
        for queue in self._rooms.get(topic, ()):
            queue.put_nowait(event)


def arguments() -> argparse.ArgumentParser:
    """Return the parser of what all of them are told, having allowed this process its descriptors."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    return parser


def serve(app: Any, port: int, **options: Any) -> None:
    """Run an ASGI app on uvicorn at its fastest."""
    options = {"loop": "uvloop", "http": "httptools", "ws": "none", **options}
    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="warning", backlog=4096, **options)
