"""The hub as an ASGI app: its routes, its start on first use, its lifespan when it has one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..audit import Audit
from ..auth.hosts import HostPolicy
from ..auth.origin import OriginPolicy
from ..errors import Misdirected, RequestTimeout, SsealError, Unavailable
from ..hub_settings import HubSettings
from .cors import with_cors
from .responses import not_found, problem

__all__ = ["HubApp", "HubLifecycle"]

_PROBES: Final = ("/healthz", "/readyz")
"""What an orchestrator asks by whatever name it has for the hub; nothing in it is anybody's."""
_FATAL: Final = ("several_workers", "wrong_loop")
"""Reasons not to start that do not pass by themselves."""


class HubLifecycle(Protocol):
    """Starts and stops the hub."""

    async def start(self) -> None:
        """Start the hub if it is not running; raises `SsealError` when it cannot."""
        ...

    async def stop(self) -> None:
        """Drain and stop it."""
        ...


class HubApp:
    """An ASGI 3 app. Mount it anywhere, or serve it alone.

    :param lifecycle: starts the hub before every request, if it is not running (W39), and stops it at lifespan
        shutdown, when the app is served alone.
    """

    def __init__(
        self,
        routes: Sequence[BaseRoute],
        *,
        settings: HubSettings,
        origins: OriginPolicy,
        audit: Audit,
        lifecycle: HubLifecycle,
    ) -> None:
        self._lifecycle = lifecycle
        self._hosts = HostPolicy(settings.allowed_hosts)
        self._body_timeout = settings.body_timeout
        self._audit = audit
        router = Router(routes, redirect_slashes=False, default=not_found)
        self._app: ASGIApp = with_cors(router, settings, origins.allowed) if settings.cors else router

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
                receive = _TimedBody(receive, self._body_timeout)
        scope["sseal.audit"] = self._audit
        try:
            await self._lifecycle.start()
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
            await self._lifecycle.start()
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
        await self._lifecycle.stop()
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


class _TimedBody:
    """The ``receive`` of a request whose body has to come within a time, on every server."""

    __slots__ = ("_receive", "_seconds", "_until")

    def __init__(self, receive: Receive, seconds: float) -> None:
        self._receive = receive
        self._seconds = seconds
        self._until = 0.0  # in the loop's time; 0 until the body is first asked for

    async def __call__(self) -> Message:
        if not self._until:
            self._until = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(self._until):
                return await self._receive()
        except TimeoutError:
            raise RequestTimeout(f"the body did not come within {self._seconds:g} seconds") from None
