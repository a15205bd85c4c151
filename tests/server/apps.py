"""Apps for the tests of this folder to serve."""

from __future__ import annotations

import asyncio
from typing import Any

from sseal import Grants, Hub, HubSettings, Identity, Limits
from sseal.server import direct as direct_path


async def authenticate(connection: Any) -> Identity | None:
    """Trust a header."""
    user = connection.headers.get("x-user")
    grants = Grants(subscribe=("**",), publish=("**",), admin=True)
    return None if user is None else Identity(subject=user, issuer="app", grants=grants)


LIMITS = Limits(connects_per_minute_per_subject=0, connects_per_minute_per_address=0, streams_per_subject=0)
hub = Hub(HubSettings(retry_ms=1000, limits=LIMITS), authenticate=authenticate)
app = hub.asgi


async def late(scope: Any, receive: Any, send: Any) -> None:
    """Hold the first body back for longer than the direct path waits, as a slow middleware does."""

    async def slowly(message: Any) -> None:
        if message["type"] == "http.response.body" and scope["path"] == "/events":
            await asyncio.sleep(0.3)
        await send(message)

    await app(scope, receive, slowly)


async def detached_late(scope: Any, receive: Any, send: Any) -> None:
    """Take messages at once and hand them on much later, in a task of its own."""
    if scope["type"] != "http" or scope["path"] != "/events" or scope["method"] != "GET":
        await app(scope, receive, send)
        return
    queue: asyncio.Queue[Any] = asyncio.Queue()

    async def hand_on() -> None:
        await asyncio.sleep(0.3)
        while True:
            await send(await queue.get())

    task = asyncio.create_task(hand_on())
    try:
        await app(scope, receive, queue.put)
    finally:
        task.cancel()


async def rewriting(scope: Any, receive: Any, send: Any) -> None:
    """Change the first body, as a middleware that injects something does."""
    changed = False

    async def change(message: Any) -> None:
        nonlocal changed
        if message["type"] == "http.response.body" and scope["path"] == "/events" and not changed:
            changed = True
            message = {**message, "body": b": injected\n" + message["body"]}
        await send(message)

    await app(scope, receive, change)


async def older(scope: Any, receive: Any, send: Any) -> None:
    """Serve as if this uvicorn lacked something the direct path needs."""
    direct_path.MISSING[:] = ["RequestResponseCycle.disconnected"]
    await app(scope, receive, send)
