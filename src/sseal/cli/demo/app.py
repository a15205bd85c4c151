"""The demo's app: the hub at the root, the page, and the three endpoints only the page needs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from ...asgi.bodies import LoginBody, RefreshBody
from ...asgi.endpoint import Endpoint
from ...asgi.requests import HubRequest
from ...asgi.responses import JsonResponse
from ...auth.identity import Grants
from ...auth.jwt import sign
from ...auth.origin import is_loopback
from ...clock import SystemClock
from ...delivery.stats import Stats
from ...errors import Forbidden, InvalidInput, NotFound
from ...hub import Hub
from ...hub_settings import HubSettings
from ...identity_sources.accounts import ISSUER, Accounts
from ...identity_sources.secret import new_secret
from ...server import serve as server
from ...settings import new_jwt_secret
from ...telemetry import logs, redaction
from ..output import say
from .host import HostMeter

__all__ = ["Demo", "run"]

PAGE: Final = Path(__file__).parent / "page"
FEED: Final = "public/host"
USERS: Final = {"alice": "wonderland-7", "bob": "builder-42"}
GRANTS: Final = Grants(subscribe=("public/**",), publish=("user/*",))
TOKEN_TTL: Final = 900
RETRY_MS: Final = 1000
MAX_BODY: Final = 4096
"""Bytes of a body: a name and a password fit."""
PORTS_TRIED: Final = 20
_LOGIN: Final = msgspec.json.Decoder(LoginBody)
_CUT: Final = msgspec.json.Decoder(RefreshBody)

_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_MEDIA: Final = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}

logger = logging.getLogger("sseal.demo")


def run(host: str, port: int) -> None:
    """Run the demo until SIGTERM or SIGINT.

    :param host: a loopback name or address.
    :param port: the port to try first.
    :raises InvalidInput: the host is not this machine.
    """
    if not is_loopback(host):
        raise InvalidInput(
            "--host", f"{host} is not this machine itself; the demo's passwords are public. `sseal serve` is for others"
        )
    logs.setup(level="warning", form="console")
    redaction.install()
    listeners = _listen(port)
    port = listeners[0].getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="sseal-demo-") as folder:
        demo = Demo(port, Path(folder) / "accounts.db")
        server.run(demo.app, listeners, ready=lambda: _announce(port), proxy_headers=False)


class Demo:
    """The demo on one port.

    :param port: where it listens; pages of it have one of two origins.
    :param accounts: a file for its two users.
    """

    def __init__(self, port: int, accounts: Path) -> None:
        self._port = port
        self._accounts = Accounts(accounts)
        for name, password in USERS.items():
            self._accounts.add(name, password, grants=GRANTS)
        self._secret = new_jwt_secret()
        self._clock = SystemClock()
        self.hub = Hub(
            HubSettings(
                credentials=("bearer", "ticket", "resume", "cookie", "query"),
                jwt_secret=(self._secret,),
                jwt_issuer=ISSUER,  # alice is the same alice, by password or by token
                insecure_cookies=True,
                allowed_origins=(f"http://localhost:{port}", f"http://127.0.0.1:{port}"),
                public_topics=("public/**",),
                accounts=str(accounts),
                retry_ms=RETRY_MS,
            ),
        )
        self.app = Starlette(
            routes=[*self._routes(), Mount("/", app=self.hub.asgi)],
            # A name of another site that leads here must not get at the demo (DNS rebinding).
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"])],
            lifespan=self._lifespan,
        )

    def _routes(self) -> list[BaseRoute]:
        stats = Stats()  # not the hub's, which count what it refuses itself
        files = [path for path in sorted(PAGE.iterdir()) if path.suffix in _MEDIA]
        return [
            Route("/", _file(PAGE / "index.html")),
            *(Route(f"/{path.name}", _file(path)) for path in files),
            Route("/demo/config", Endpoint(stats, GET=self.config)),
            Route("/demo/token", Endpoint(stats, POST=self.token)),
            Route("/demo/cut", Endpoint(stats, POST=self.cut)),
        ]

    async def config(self, request: HubRequest) -> JsonResponse:
        """``GET /demo/config``: what the page has to know."""
        own = request.header(b"host") or ""
        twin = "127.0.0.1" if own.startswith("localhost") else "localhost"
        return JsonResponse(
            {
                "users": [{"name": name, "password": password} for name, password in USERS.items()],
                "feed": FEED,
                "retry_ms": RETRY_MS,
                "twin": f"http://{twin}:{self._port}/",
            },
        )

    async def token(self, request: HubRequest) -> JsonResponse:
        """``POST /demo/token``: what an application's own login would give out."""
        body = await request.decode_body(_LOGIN, limit=MAX_BODY)
        account = await self._accounts.verify(body.username, body.password)
        now = int(self._clock.wall())
        claims = {
            "iss": ISSUER,
            "sub": account.username,
            "iat": now,
            "exp": now + TOKEN_TTL,
            "jti": new_secret(),
            "sseal": {"subscribe": GRANTS.subscribe, "publish": GRANTS.publish},
        }
        token = sign(claims, self._secret)
        return JsonResponse({"token": token, "subject": account.username, "expires_at": now + TOKEN_TTL})

    async def cut(self, request: HubRequest) -> JsonResponse:
        """``POST /demo/cut``: drop a stream without a word, as a lost network does."""
        caller = request.caller
        same = caller.origin == caller.own if caller.origin is not None else caller.fetch_site == "same-origin"
        if not same:
            raise Forbidden("only the demo's own page may cut", code="origin_refused")
        body = await request.decode_body(_CUT, limit=MAX_BODY)
        if not self.hub.disconnect(body.connection, quietly=True):
            raise NotFound("there is no such stream")
        return JsonResponse(None, 204)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with self.hub.lifespan(app):
            feed = asyncio.create_task(self._feed(), name="sseal-demo-feed")
            try:
                yield
            finally:
                feed.cancel()
                await asyncio.gather(feed, return_exceptions=True)
                self._accounts.close()

    async def _feed(self) -> None:
        """Publish a reading each second, on the second: a late one does not delay those after it."""
        meter = HostMeter(self._clock.wall, self._clock.monotonic)
        due = self._clock.monotonic()
        while True:
            due = max(due + 1.0, self._clock.monotonic())
            await asyncio.sleep(due - self._clock.monotonic())
            try:
                await self.hub.publish(FEED, meter.read(), event="host")
            except Exception:
                logger.exception("a reading is missing from the feed")


def _listen(port: int) -> list[socket.socket]:
    """Return sockets on both loopback addresses, on this port, one soon after, or any."""
    for candidate in (*range(port, min(port + PORTS_TRIED, 65536)), 0):
        try:
            first = server.listen("127.0.0.1", candidate)
        except InvalidInput:
            continue
        try:
            # localhost is often ::1 first; somebody else there would answer in our place.
            return [first, server.listen("::1", first.getsockname()[1])]
        except InvalidInput:
            if not _has_ipv6():
                return [first]
            first.close()
    raise InvalidInput("--port", "no port is free on this machine")


def _has_ipv6() -> bool:
    try:
        server.listen("::1", 0).close()
    except InvalidInput:
        return False
    return True


def _file(path: Path) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        del request
        return FileResponse(path, headers=_HEADERS, media_type=_MEDIA[path.suffix])

    return answer


def _announce(port: int) -> None:
    say(f"\n  sseal demo: http://localhost:{port}/\n\n  Ctrl-C ends it.\n")
