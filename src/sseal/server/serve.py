"""Runs the hub, or an app around it, on uvicorn: sockets, descriptors, signals, a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from ..asgi.responses import not_found
from ..errors import InvalidInput, SsealError
from ..hub import Hub
from ..settings import Settings, config_errors, revive, warnings_of
from ..storage.address import redact_url
from ..telemetry import logs, redaction
from .access import AccessLog
from .connections import HttpLimits, spare_descriptors
from .gc_tuning import tune_gc
from .loop import Lifespan, Server, ending_at_signals
from .proxies import Proxies
from .workers import supervise

__all__ = ["listen", "raise_descriptor_limit", "run", "serve", "tune_gc"]

BACKLOG: Final = 4096
"""Connections the kernel holds while a reconnect storm is being accepted."""
SWITCH_INTERVAL: Final = 0.0005
"""Seconds after which Python lets another thread run. With its default of 5 ms, the thread that commits to a SQLite
log starves beside an event loop that is busy in slices of 2 ms: a publish then took up to 1.6 s, now 12 ms."""
HSTS: Final = ("Strict-Transport-Security", "max-age=31536000")
"""For a year this host is asked by https only (RFC 6797). Where a proxy speaks TLS, that is for the proxy to say."""
END_TIMEOUT: Final = 3
"""Seconds that requests may take to end after a signal."""
logger = logging.getLogger("sseal.server")


def serve(settings: Settings) -> None:
    """Serve one hub, or as many as `workers` says, until SIGTERM or SIGINT.

    :raises SsealError: the settings are unsafe or incomplete, the address is taken, or the hub did not start.
    """
    if refused := config_errors(settings):
        raise SsealError("\n".join(refused), code="settings_refused")
    _log(settings)
    # It speaks of the workers of a server that starts them itself; here the setting `workers` does.
    os.environ.pop("WEB_CONCURRENCY", None)
    listener = listen(settings.host, settings.port)
    announce = partial(_announce, settings, listener.getsockname())
    if settings.workers > 1:
        listeners = share(listener, settings.workers)
        supervise(_work, settings.model_dump(), listeners, ready=announce)
    else:
        _serve(settings, listener, announce)
    logger.info("stopped")


def _work(dumped: dict[str, object], listener: socket.socket, ready: Callable[[], None]) -> None:
    """Be one of several workers."""
    settings = revive(dumped)
    _log(settings)
    _serve(settings, listener, ready)


def _log(settings: Settings) -> None:
    logs.setup(level=settings.log_level, form=settings.log_format)
    redaction.install()


def _serve(settings: Settings, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve one hub in this process."""
    hub = Hub(settings.hub())
    app: ASGIApp = hub.asgi if settings.metrics else _WithoutMetrics(hub.asgi)
    app = AccessLog(app)
    if settings.forwarded_allow_ips:
        app = Proxies(app, settings.forwarded_allow_ips, settings.forwarded_header)
    run(
        app,
        [listener],
        ready=ready,
        leaving=lambda: hub.node.draining,
        protocol=_protocol(_limits(settings, hub)),
        root_path=settings.root_path,
        timeout_keep_alive=settings.keep_alive_timeout,
        headers=[HSTS] if settings.tls else [],
        proxy_headers=False,
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
    )


def listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address, not yet listening.

    :raises InvalidInput: the address cannot be had; says why.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise InvalidInput("host", f"{host} is no address of this machine ({error.strerror})") from None
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        problem = f"cannot listen on {host}:{port} ({error.strerror}); choose another"
        raise InvalidInput("port", problem, code="not_started") from None
    return listener


def share(listener: socket.socket, count: int) -> list[socket.socket]:
    """Return as many listening sockets on the address of one, which is closed; the kernel spreads clients evenly.

    From one common socket the worker that wakes first takes all that wait: streams would pile up on it.

    :raises InvalidInput: somebody else took the address in between.
    """
    family, address = listener.family, listener.getsockname()
    listener.close()
    made = []
    for _ in range(count):
        each = socket.socket(family, socket.SOCK_STREAM)
        made.append(each)
        try:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.bind(address)
            each.listen(BACKLOG)
        except OSError as error:
            for other in made:
                other.close()
            problem = f"cannot be shared by workers ({error.strerror}); choose another"
            raise InvalidInput("port", problem, code="not_started") from None
    return made


def run(
    app: ASGIApp,
    listeners: Sequence[socket.socket],
    *,
    ready: Callable[[], None] | None = None,
    leaving: Callable[[], bool] = lambda: False,
    protocol: type[asyncio.Protocol] | str | None = None,
    **options: Any,
) -> None:
    """Run an ASGI app on uvicorn until SIGTERM or SIGINT; then return, within five seconds.

    There is no ``limit_concurrency``: it counts streams, and its 503 ends an EventSource for good (W33).

    :param listeners: bound sockets; closed at the end.
    :param ready: called once requests are answered.
    :param leaving: tells that nobody shall come in any more: a proxy then goes to the next hub at once, instead of
        being sent away by one that is ending.
    :param protocol: the HTTP protocol; None for the best there is, with the limits it has by itself.
    :param options: more options for ``uvicorn.Config``.
    :raises SsealError: the app did not start; says what it said.
    :raises InvalidInput: the certificate or its key cannot be used.
    """
    config = uvicorn.Config(
        app,
        loop="uvloop" if importlib.util.find_spec("uvloop") else "asyncio",
        http=protocol or _protocol(),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=END_TIMEOUT,
        backlog=BACKLOG,
        workers=1,
        **options,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or str(error)
        raise InvalidInput("tls_cert_file", f"certificate or key cannot be used ({reason}); both are PEM") from None
    config.lifespan_class = Lifespan
    server = Server(config, ready, leaving)
    tune_gc(lambda: len(server.server_state.connections))
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        with ending_at_signals(server):
            server.run(sockets=list(listeners))
    except SystemExit as error:
        if error.code:
            fault = redaction.redact(server.fault) or "the server did not start; the log says why"
            raise SsealError(fault, code="not_started") from None
    finally:
        for listener in listeners:
            listener.close()


def _limits(settings: Settings, hub: Hub) -> HttpLimits:
    """Return what a connection to this hub may take that is no stream."""
    limits = hub.settings.limits
    return HttpLimits(
        response_timeout=settings.response_timeout,
        connections=limits.http_connections,
        connections_per_address=limits.http_connections_per_address,
        proxies=settings.forwarded_allow_ips,
        closed=hub.node.stats.connections_closed,
    )


def _protocol(limits: HttpLimits | None = None) -> type[asyncio.Protocol] | str:
    """Return the protocol with bounds and the direct path where it can be had, else uvicorn's own."""
    if importlib.util.find_spec("httptools") is None:
        return "h11"
    from .uvicorn import StreamProtocol, missing

    if missing():
        return "auto"
    return StreamProtocol if limits is None else StreamProtocol.limited(limits)


def raise_descriptor_limit(streams: int) -> str | None:
    """Allow this process as many open files as the system lets it; return a warning if they are too few."""
    if sys.platform == "win32":
        return None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS has a lower limit than the one it reports
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    if soft == resource.RLIM_INFINITY:
        return None
    room = max(0, soft - spare_descriptors(soft))
    if 0 < streams <= room:
        return None
    wanted = f"limits.streams is {streams}" if streams else "limits.streams sets no bound"
    return f"{soft} open files are allowed, enough for {room} streams, and {wanted}; raise `ulimit -n` or lower it"


class _WithoutMetrics:
    """Answers ``/metrics`` with 404."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        hidden = scope["type"] == "http" and scope["path"].removeprefix(scope.get("root_path", "")) == "/metrics"
        await (not_found if hidden else self._app)(scope, receive, send)


def _announce(settings: Settings, address: tuple[Any, ...]) -> None:
    """Log what an operator wants to see first."""
    hub = settings.hub()
    host, port = address[:2]
    keys = bool(hub.jwt_secret or hub.jwt_public_key or hub.jwt_jwks_url)
    closed = {"custom"} if keys else {"custom", "bearer", "query"}
    logger.info(
        "listening",
        extra={
            "address": f"{'https' if settings.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}",
            "version": version("sseal"),
            "auth_methods": ", ".join(auth_method for auth_method in hub.credentials if auth_method not in closed),
            "broker": redact_url(hub.broker),
            "workers": settings.workers,
            "cookie": hub.session_cookie,
        },
    )
    for text in filter(None, (*warnings_of(settings), raise_descriptor_limit(hub.limits.streams))):
        logger.warning(text)
