"""The access log: one record per request, with the path but neither its query nor a ticket in it (W22)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..asgi.audit import redacted_path
from ..asgi.responses import problem
from ..errors import Unavailable

__all__ = ["AccessLog"]

_STREAM: Final = b"text/event-stream"
CLIENT_LEFT: Final = 499
"""What nginx logs of a request whose client left before there was an answer."""
_PROBES: Final = ("/healthz", "/readyz", "/metrics")

_ENDING: Final = Unavailable("the hub is shutting down", code="draining", retry_after=5.0)

logger = logging.getLogger("sseal.access")


class AccessLog:
    """ASGI middleware that logs each answer.

    A stream is not logged here: the hub does so at its end, when it knows how much was delivered and why it ended.
    What monitors ask every few seconds is logged at level debug.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and log its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 0
        streams = False

        # Not a coroutine of its own: a stream calls it for each event.
        def watched(message: Message) -> Awaitable[None]:
            nonlocal status, streams
            if message["type"] == "http.response.start":
                status = message["status"]
                streams = status == 200 and any(
                    name.lower() == b"content-type" and value.startswith(_STREAM)
                    for name, value in message.get("headers", ())
                )
            return send(message)

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            # The server ends and waits no longer, for a login whose turn is to come or a body that is not: uvicorn
            # would write a traceback for each and answer 500.
            if not status:
                await problem(_ENDING)(scope, receive, watched)
        except Exception:
            status = status or 500  # what the server answers in that case
            raise
        finally:
            if not streams:
                _log(scope, status, time.perf_counter() - start)


def _log(scope: Scope, status: int, seconds: float) -> None:
    path = redacted_path(scope)
    client = scope.get("client")
    logger.log(
        logging.DEBUG if path.endswith(_PROBES) else logging.INFO,
        "request",
        extra={
            "method": scope["method"],
            "path": path,
            "status": status or CLIENT_LEFT,
            "ms": round(seconds * 1000.0, 2),
            "client": client[0] if client else "",
        },
    )
