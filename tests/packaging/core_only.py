"""Run with the core alone: a mounted hub under plain ASGI, every way in that needs no extra, and what the rest says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import Mount

from sseal import Hub, HubSettings, Identity, Publisher
from sseal.auth.jwt import sign
from sseal.testing import open_stream, request

PATIENCE = 60.0
"""Seconds to wait for an event; a busy disk takes its time over a commit."""
SECRET = "a-secret-for-tests-of-more-than-32-bytes"


def say(name: str, text: object) -> None:
    """Print one answer for the test."""
    sys.stdout.write(f"{name}: {text}\n")


def token() -> str:
    """Return alice's token."""
    now = int(time.time())
    claims = {"sub": "alice", "iat": now, "exp": now + 60, "jti": str(now)}
    return sign(claims, SECRET)


async def authenticate(connection: HTTPConnection) -> Identity | None:
    """Let in whoever says who they are."""
    user = connection.headers.get("x-user")
    return None if user is None else Identity(subject=user, issuer="app")


async def arrives(app: Any, hub: Hub, path: str, headers: dict[str, str]) -> str:
    """Publish to alice; return the id the event had on a stream."""
    async with open_stream(app, path, headers={"Accept": "text/event-stream", **headers}) as stream:
        assert stream.status == 200
        assert json.loads((await stream.until("auth", PATIENCE)).data)["subject"] == "alice"
        await hub.publish("user/alice", {"hello": "world"})
        event = await stream.until("message", PATIENCE)
        assert json.loads(event.data) == {"hello": "world"}
        return event.last_event_id


async def works(broker: str) -> None:
    """Take every way into a mounted hub on one kind of log."""
    settings = HubSettings(broker=broker, jwt_secret=(SECRET,), insecure_cookies=True, handle_signals=False)
    hub = Hub(settings, authenticate=authenticate)
    app = Starlette(routes=[Mount("/sse", app=hub.asgi)])
    async with hub.lifespan():
        bearer = {"Authorization": f"Bearer {token()}"}
        await arrives(app, hub, "/sse/events", bearer)
        await arrives(app, hub, "/sse/events", {"X-User": "alice", "Sec-Fetch-Site": "same-origin"})
        minted = await request(app, "POST", "/sse/auth/sse", headers=bearer)
        ticket = f"/sse/events/{minted.json()['ticket']}"
        last = await arrives(app, hub, ticket, {})
        await arrives(app, hub, ticket, {"Last-Event-ID": last})
        opened = await request(app, "POST", "/sse/auth/session", headers=bearer, host="localhost")
        cookie = opened.headers["set-cookie"].partition(";")[0]
        await arrives(app, hub, "/sse/events", {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"})
        if broker.startswith("sqlite"):
            async with open_stream(app, "/sse/events", headers=bearer) as stream:
                await stream.until("auth", PATIENCE)
                async with Publisher(broker) as publisher:
                    await publisher.publish("user/alice", "from elsewhere")
                assert (await stream.until("message", PATIENCE)).data == "from elsewhere"
        refused = await request(app, "GET", "/sse/metrics")
        assert refused.status == 404
        say("metrics", refused.json()["detail"])


@contextlib.contextmanager
def says(name: str) -> Iterator[None]:
    """Print the error of a feature whose package is missing."""
    try:
        yield
    except ImportError as error:
        say(name, error)
    else:
        raise AssertionError(f"{name} did not fail")


def missing() -> None:
    """Ask for each feature whose package is not there."""
    features: dict[str, Callable[[], object]] = {
        "accounts": lambda: Hub(HubSettings(accounts="accounts.db")),
        "jwks": lambda: Hub(HubSettings(jwt_jwks_url="https://issuer.example/keys")),
        "redis": lambda: Hub(HubSettings(broker="redis://localhost")),
        "store": lambda: Hub(HubSettings(store="rediss://localhost")),
        "publisher": lambda: Publisher("redis://localhost").publish_sync("user/alice", "hello"),
        "client": lambda: import_module("sseal.client"),
        "protocol": lambda: import_module("sseal.server.uvicorn"),
    }
    for name, ask in features.items():
        with says(name):
            ask()


if __name__ == "__main__":
    asyncio.run(works("memory://"))
    asyncio.run(works(f"sqlite:///{Path(sys.argv[1]) / 'log.db'}"))
    missing()
