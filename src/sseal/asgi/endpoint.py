"""One path of the HTTP interface: the handler of each method, and the one place where errors become responses."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..delivery.stats import Stats
from ..errors import MethodNotAllowed, SsealError
from .audit import redacted_path
from .requests import HubRequest
from .responses import problem, refusal

__all__ = ["Endpoint", "Handler"]

Handler = Callable[[HubRequest], Awaitable[Response]]
"""Answers one request, or raises an `SsealError` that becomes the answer."""

logger = logging.getLogger("sseal.asgi")


class Endpoint:
    """An ASGI app with a handler per method: errors become problem documents, with nothing half said.

    Starlette's routes would answer a method that a path does not have in plain text, each in its own way; here that is
    a problem document as any other refusal, counted and logged in the same place.

    :param stats: counts the refusals.
    :param read_query: whether a query string that is malformed is refused.
    :param handlers: by method; GET answers HEAD too.
    """

    def __init__(self, stats: Stats, *, read_query: bool = True, **handlers: Handler) -> None:
        self._stats = stats
        self._read_query = read_query
        self.handlers = handlers
        self._allow = ", ".join([*handlers, *(["HEAD"] if "GET" in handlers else [])])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            response = await self._respond(scope, receive)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        method = scope["method"]
        handler = self.handlers.get("GET" if method == "HEAD" else method)
        try:
            if handler is None:
                raise MethodNotAllowed(f"{method} is not allowed here")
            return await handler(HubRequest(scope, receive, read_query=self._read_query))
        except SsealError as error:
            self._stats.refuse(error.code)
            return refusal(error, scope, allow=self._allow)
        except ClientDisconnect:
            raise
        except Exception:
            self._stats.refuse(SsealError.code)
            logger.exception("request failed: %s %s", method, redacted_path(scope))
            return problem(SsealError("the request failed; the log says why"))
