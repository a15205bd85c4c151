"""The hub as an ASGI app: its routes, its start on first use, its lifespan when it has one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..auth.hosts import HostPolicy
from ..errors import Misdirected, RequestTimeout, SsealError, Unavailable
from .admin import AdminEndpoints
from .auth import AuthEndpoints
from .authentication import Authenticator
from .health import HealthEndpoints
from .openapi_endpoint import OpenApiEndpoint
from .publish import PublishEndpoints
from .responses import Guarded, not_found, problem
from .services import Services
from .subscribe import Subscribe

__all__ = ["HubApp"]

_PROBES: Final = ("/healthz", "/readyz")
"""What an orchestrator asks by whatever name it has for the hub; nothing in it is anybody's."""
_FATAL: Final = ("several_workers", "wrong_loop")
"""Reasons not to start that do not pass by themselves."""
_OWN_HEADERS: Final = ("Authorization", "Cache-Control", "Content-Type", "Last-Event-ID")
"""Request headers that a page of an allowed origin may always send."""


class HubApp:
    """An ASGI 3 app. Mount it anywhere, or serve it alone.

    :param services: the parts of the hub.
    :param start: starts the hub if it is not running; called before every request (W39).
    :param stop: drains and stops it; called at lifespan shutdown when the app is served alone.
    """

    def __init__(
        self, services: Services, start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]
    ) -> None:
        self._start = start
        self._stop = stop
        self._hosts = HostPolicy(services.settings.allowed_hosts)
        self._body_timeout = services.settings.body_timeout
        self._audit = services.node.audit
        app: ASGIApp = Router(_routes(services), redirect_slashes=False, default=not_found)
        if services.settings.cors:
            app = CORSMiddleware(
                app,
                allow_origins=sorted(services.origins.allowed),
                allow_credentials=True,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=sorted({*_OWN_HEADERS, *services.settings.allowed_headers}),
                expose_headers=["RateLimit", "RateLimit-Policy", "Retry-After", "WWW-Authenticate"],
                max_age=600,
            )
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the server's lifespan."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] == "http":
            if not self._hosts.allows(_host(scope)) and _path(scope) not in _PROBES:
                await problem(Misdirected("this hub has another name; if not, name this one in allowed_hosts"))(
                    scope, receive, send
                )
                return
            if scope["method"] not in ("GET", "HEAD"):
                receive = _Hurried(receive, self._body_timeout)
        scope["sseal.audit"] = self._audit
        try:
            await self._start()
        except SsealError as error:
            if scope["type"] != "http":
                raise
            # Alive is what the process is; and an EventSource must outlive a hub that is not ready yet (W35).
            if not isinstance(error, Unavailable):  # it names files and servers, which are no caller's business
                error = SsealError("the hub cannot start; its log says why")
            if not isinstance(error, Unavailable) or not _answered_anyway(scope):
                await problem(error)(scope, receive, send)
                return
            scope["sseal.unavailable"] = error
        await self._app(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._start()
        except Unavailable as error:
            if error.code in _FATAL:
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            # Log or store are out of reach: every request tries again, and is refused for now until then.
        except SsealError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._stop()
        await send({"type": "lifespan.shutdown.complete"})


def _answered_anyway(scope: Scope) -> bool:
    path = _path(scope)
    return path == "/healthz" or (scope["method"] == "GET" and path.startswith("/events"))


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _host(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"host":
            return str(value, "latin-1")
    return None


class _Hurried:
    """The ``receive`` of a request whose body has to come within a time, on every server."""

    __slots__ = ("_receive", "_seconds", "_until")

    def __init__(self, receive: Receive, seconds: float) -> None:
        self._receive = receive
        self._seconds = seconds
        self._until = 0.0

    async def __call__(self) -> Message:
        if not self._until:
            self._until = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(self._until):
                return await self._receive()
        except TimeoutError:
            raise RequestTimeout(f"the body did not come within {self._seconds:g} seconds") from None


class _Events:
    """``/events``: a stream for GET, a publish for POST."""

    def __init__(self, subscribe: Subscribe, publish: Guarded) -> None:
        self._subscribe = subscribe
        self._publish = publish

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self._publish if scope["method"] == "POST" else self._subscribe
        await app(scope, receive, send)


def _routes(services: Services) -> list[Route]:
    guarded = partial(Guarded, services.node.stats.refuse)
    authenticator = Authenticator(services)
    subscribe = Subscribe(services.admission, authenticator, services.node, retry_ms=services.settings.retry_ms)
    auth = AuthEndpoints(services, authenticator)
    publish = PublishEndpoints(services, authenticator)
    admin = AdminEndpoints(services, authenticator)
    health = HealthEndpoints(services)
    events = _Events(subscribe, guarded(POST=publish.events))
    openapi = [Route("/openapi.json", guarded(GET=OpenApiEndpoint(services)))] if services.settings.openapi else []
    return [
        Route("/events", events),
        Route("/events/", events),  # never redirects: an EventSource would reconnect to the target (W38)
        Route("/events/{ticket}", subscribe),
        Route("/auth/sse", guarded(POST=auth.ticket)),
        Route("/auth/login", guarded(POST=auth.login)),
        Route("/auth/session", guarded(POST=auth.open_session, DELETE=auth.close_session)),
        Route("/auth/refresh", guarded(POST=auth.refresh)),
        Route("/notifications", guarded(POST=publish.notifications)),
        Route("/admin/connections", guarded(GET=admin.connections)),
        Route("/admin/connections/{id}", guarded(DELETE=admin.disconnect)),
        Route("/admin/revocations", guarded(POST=admin.revoke)),
        Route("/admin/stats", guarded(GET=admin.stats)),
        Route("/healthz", guarded(GET=health.live)),
        Route("/readyz", guarded(GET=health.ready)),
        Route("/metrics", guarded(GET=health.metrics)),
        *openapi,
    ]
