"""Apps on the hub's HTTP/1.1 server that show what it makes of the bytes it gets."""

from __future__ import annotations

import asyncio
import gc
import json
import os
from typing import Any

from sseal.server.uvicorn import HttpLimits, StreamProtocol

StreamProtocol.limits = HttpLimits(head_timeout=1.0, response_timeout=1.0)
release = asyncio.Event()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with what was received; some paths wait, answer at length, or tell about the process."""
    if scope["type"] != "http":
        return
    path = scope["path"]
    if path == "/wait":
        await release.wait()
    elif path == "/release":
        release.set()
    body = b""
    if path != "/unread":
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
    seen: dict[str, Any] = {"method": scope["method"], "path": path, "headers": headers, "body": body.decode("latin-1")}
    if path == "/process":
        seen["garbage"] = gc.collect()
        seen["pid"] = os.getpid()
    answer = b"x" * 8_000_000 if path == "/big" else json.dumps(seen).encode()
    length = (b"content-length", b"%d" % len(answer))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": answer})


async def with_websocket(scope: Any, receive: Any, send: Any) -> None:
    """Accept a WebSocket and close it after a moment; answer requests as `echo`."""
    if scope["type"] != "websocket":
        await echo(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    await asyncio.sleep(0.2)
    await send({"type": "websocket.close"})
