"""A small in-process driver for the hub's ASGI app: one request, or one stream read event by event."""

from __future__ import annotations

import asyncio
import json as jsonlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from sseal.auth.jwt import sign

SECRET = "a secret of more than thirty-two bytes"
T0 = 1_800_000_000.0
PATIENCE = 50.0 * float(os.environ.get("SSEAL_TEST_TIME_UNIT", "0.1"))
"""Seconds after which a wait counts as hung."""

HUB = "http://hub.test"
"""The origin of the hub in process, as its Host header says."""
STREAM = {"accept": "text/event-stream"}
STATUS = {"accept": "text/event-stream, application/problem+json"}
"""Of a program, which wants to be refused by a status (W52)."""
SAME = {"sec-fetch-site": "same-origin"}

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


def token(sub: str | None = "alice", **claims: Any) -> str:
    """Return a good token; ``subscribe``, ``publish`` and ``admin`` go into the grants, None leaves a claim out."""
    grants = {name: claims.pop(name) for name in ("subscribe", "publish", "admin") if name in claims}
    content: dict[str, Any] = {"sub": sub, "iat": T0, "exp": T0 + 3600, "sseal": grants, **claims}
    return sign({name: value for name, value in content.items() if value is not None}, SECRET)


def bearer(sub: str | None = "alice", **claims: Any) -> dict[str, str]:
    """Return the Authorization header of a good token."""
    return {"authorization": f"Bearer {token(sub, **claims)}"}


ADMIN = {"sub": "root", "admin": True, "publish": ["**"], "subscribe": ["**"]}


@dataclass
class Reply:
    """A complete answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header that may stand once, None if absent."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} stands {len(values)} times"
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """Return every header of a name."""
        return [value for key, value in self.headers if key == name]

    @property
    def json(self) -> Any:
        """The decoded body."""
        return jsonlib.loads(self.body)

    @property
    def cookie(self) -> str:
        """The cookie pair that was set, as a browser sends it back."""
        value = self.header("set-cookie")
        assert value is not None
        return value.partition(";")[0]


@dataclass
class Block:
    """One block of a stream: its fields, data joined."""

    fields: dict[str, str] = field(default_factory=dict)

    @property
    def type(self) -> str:
        """The event type; ``retry`` for a block that only sets the reconnection time."""
        return self.fields.get("event", "message" if "data" in self.fields else "retry")

    @property
    def id(self) -> str | None:
        """The id, None if there is none."""
        return self.fields.get("id")

    @property
    def data(self) -> str:
        """The data."""
        return self.fields["data"]

    @property
    def json(self) -> Any:
        """The decoded data."""
        return jsonlib.loads(self.data)


def parse_blocks(text: str) -> tuple[list[Block], str]:
    """Read the complete blocks of a stream; written apart from the decoder under test. Returns the rest too."""
    *whole, rest = text.split("\n\n")
    blocks = []
    for raw in whole:
        block = Block()
        for line in raw.split("\n"):
            if not line or line.startswith(":"):
                continue
            name, _, value = line.partition(": ")
            block.fields[name] = f"{block.fields[name]}\n{value}" if name in block.fields else value
        if block.fields:
            blocks.append(block)
    return blocks, rest


def make_scope(
    method: str,
    target: str,
    headers: Headers = (),
    *,
    scheme: str = "http",
    client: tuple[str, int] | None = ("192.0.2.7", 50000),
    raw_query: bytes | None = None,
    root_path: str = "",
) -> dict[str, Any]:
    """Return an ASGI scope as a server makes it."""
    path, _, query = target.partition("?")
    pairs = [*(headers.items() if isinstance(headers, Mapping) else headers)]
    if not any(name == "host" for name, _ in pairs):
        pairs.insert(0, ("host", "hub.test"))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": scheme,
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path.encode(),
        "query_string": query.encode() if raw_query is None else raw_query,
        "root_path": root_path,
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs],
        "client": client,
        "server": ("hub.test", 80),
    }


async def request(
    app: Any,
    method: str,
    target: str,
    headers: Headers = (),
    *,
    json: Any = ...,
    body: bytes = b"",
    chunked: bool = False,
    **options: Any,
) -> Reply:
    """Send one request and return its whole answer; an endless one fails by `PATIENCE`."""
    pairs = [*(headers.items() if isinstance(headers, Mapping) else headers)]
    if json is not ...:
        body = jsonlib.dumps(json).encode()
        pairs.append(("content-type", "application/json"))
    if body and not chunked:
        pairs.append(("content-length", str(len(body))))
    pieces = [body[i : i + 65536] for i in range(0, len(body), 65536)] or [b""]
    inbox = [
        {"type": "http.request", "body": piece, "more_body": index < len(pieces) - 1}
        for index, piece in enumerate(pieces)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if inbox:
            return inbox.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async with asyncio.timeout(PATIENCE):
        await app(make_scope(method, target, pairs, **options), receive, send)
    start, *rest = sent
    return Reply(
        start["status"],
        [(name.decode(), value.decode("latin-1")) for name, value in start["headers"]],
        b"".join(message.get("body", b"") for message in rest),
    )


class Stream:
    """A stream request, read block by block."""

    def __init__(self, app: Any, scope: dict[str, Any]) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.raw = b""
        self.over = False
        self._blocks: list[Block] = []
        self._rest = ""
        self._news = asyncio.Event()
        self._gone = asyncio.Event()
        self._asked = False
        self.task = asyncio.create_task(app(scope, self._receive, self._send))
        self.task.add_done_callback(lambda _: self._end())

    def _end(self) -> None:
        self.over = True
        self._news.set()

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = [(name.decode(), value.decode("latin-1")) for name, value in message["headers"]]
        else:
            self.raw += message.get("body", b"")
            blocks, self._rest = parse_blocks(self._rest + message.get("body", b"").decode())
            self._blocks += blocks
        self._news.set()

    @property
    def reply(self) -> Reply:
        """What came so far, as an answer."""
        return Reply(self.status, self.headers, self.raw)

    async def next(self) -> Block | None:
        """Return the next block, None at the end of the stream."""
        async with asyncio.timeout(PATIENCE):
            while not self._blocks:
                if self.over:
                    return None
                self._news.clear()
                await self._news.wait()
        return self._blocks.pop(0)

    async def event(self, kind: str | None = None) -> Block:
        """Return the next event, which is of type ``kind``; reconnection times are passed over."""
        while True:
            block = await self.next()
            assert block is not None, "the stream has ended"
            if block.type != "retry":
                assert kind is None or block.type == kind, block
                return block

    async def answered(self) -> int:
        """Return the status of the answer, once it is there."""
        async with asyncio.timeout(PATIENCE):
            while not self.status and not self.over:
                self._news.clear()
                await self._news.wait()
        return self.status

    async def opened(self) -> Block:
        """Return the opening ``auth``; the request was let in."""
        async with asyncio.timeout(PATIENCE):
            while not self.raw and not self.over:
                self._news.clear()
                await self._news.wait()
        assert self.status == 200, (self.status, self.raw)
        return await self.event("auth")

    async def rest(self) -> list[Block]:
        """Return what comes until the end of the stream."""
        blocks = []
        while (block := await self.next()) is not None:
            blocks.append(block)
        await self.task
        return blocks

    async def refused(self) -> Reply:
        """Return the answer of a request that was not let in."""
        async with asyncio.timeout(PATIENCE):
            await self.task
        return self.reply

    async def leave(self) -> None:
        """Go away, as a closed tab does."""
        self._gone.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(self.task, return_exceptions=True)


def open_stream(app: Any, target: str = "/events", headers: Headers = (), **options: Any) -> Stream:
    """Ask for a stream as a script does."""
    pairs = [*(headers.items() if isinstance(headers, Mapping) else headers)]
    if not any(name == "accept" for name, _ in pairs):
        pairs.append(("accept", "text/event-stream"))
    return Stream(app, make_scope("GET", target, pairs, **options))
