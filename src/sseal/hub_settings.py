"""The settings of one hub, checked once. `sseal.settings` reads the same fields from flags, environment and file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Final
from urllib.parse import urlsplit

from .auth.credential import AUTH_METHODS, AuthMethod
from .auth.hosts import normal_host
from .auth.origin import normal_origin
from .errors import InvalidInput
from .limits import Limits
from .storage.address import engine_of
from .topics import Pattern

__all__ = ["HubSettings"]

DEV_COOKIE: Final = "sseal-dev"
SECURE_COOKIE: Final = "__Host-sseal"
ALLOWED_HEADERS: Final = (
    "HX-Boosted",
    "HX-Current-URL",
    "HX-History-Restore-Request",
    "HX-Prompt",
    "HX-Request",
    "HX-Request-Type",
    "HX-Source",
    "HX-Target",
    "HX-Trigger",
    "HX-Trigger-Name",
    "Datastar-Request",
)
"""What htmx (2 and 4) and Datastar send with every request of a page; a browser asks for each by name."""
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.1
_BASE: Final = re.compile(r"[^?#\s]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSettings:
    """How one hub behaves. Durations are seconds unless the name says otherwise.

    :param broker: the log: ``memory://``, ``sqlite:///file`` or ``redis://host:6379``; see docs/how-to/scale.md.
    :param store: tickets, sessions, families, revocations: an address of the same kinds; None for the broker's own.
    :param credentials: the auth methods that are open; ``query`` is off by default because URLs end up in logs.
    :param jwt_secret: shared secrets of at least 32 bytes, newest first: the first signs, all verify.
    :param jwt_public_key: PEM texts of public keys.
    :param jwt_jwks_url: https address of a key set (RFC 7517).
    :param jwt_algorithms: the algorithm allow-list; empty for every algorithm of the configured kinds of keys.
    :param jwt_issuer: the only ``iss`` that is accepted; None accepts any.
    :param jwt_audience: accepted ``aud`` values; without one, a token that carries ``aud`` is refused.
    :param jwt_leeway: how far clocks may differ.
    :param subject_claim: the claim that holds the subject.
    :param grants_claim: the claim that holds ``{"subscribe": [], "publish": [], "admin": false}``.
    :param cookie_name: the app's own cookie that holds a JWT; None for none.
    :param insecure_cookies: session cookie ``sseal-dev`` without Secure, for http on loopback only (W23).
    :param allowed_origins: origins beside the hub's own whose pages may use cookies and tickets.
    :param allowed_hosts: names this hub answers to, ``*.example.com`` for all below one; none for any. Addresses and
        loopback always pass. `sseal serve` derives them from `public_url` and `allowed_origins`, once there is one.
    :param public_url: the address under which browsers reach the hub, with the path if there is one; the ``url`` of a
        ticket's answer then begins with it.
    :param public_topics: patterns that anybody may read who asks with ``?anonymous=1``.
    :param session_ttl: life of a login session.
    :param session_cookie_extra: the cookie outlives its session, so that the end is a 401 and not anonymity (W16).
    :param ticket_ttl: life of an unused ticket.
    :param ticket_grace: life of a ticket from a transient refusal on (W35).
    :param resume_ttl: how long after its stream's end a resume token is good; never beyond the identity.
    :param revocation_ttl: how long a revocation is remembered; a token that lives longer comes back to life then.
    :param expiring_notice: how long before its end a stream says ``auth: expiring``.
    :param heartbeat: interval of the ``:`` line that keeps proxies from closing a quiet stream.
    :param stall_timeout: a reader that took nothing for so long is closed, and may resume (W32).
    :param body_timeout: a request body that is read whole has to be there within so long.
    :param max_stream_age: a stream ends after 80 to 100 % of this, at random, and may come back at once; 0 for never.
    :param retry_ms: milliseconds a client waits before it reconnects; jittered by a quarter.
    :param drain_window: the ends of all streams are spread over so long on shutdown.
    :param close_timeout: a closing stream whose client does not read is aborted after so long.
    :param log_count: events the log retains.
    :param log_age: seconds the log retains them.
    :param log_size: bytes the log retains.
    :param window_count: newest events the hub keeps encoded for replays.
    :param window_size: bytes of data in that window.
    :param overload_after: publishers wait when a fan-out is unfinished for so long (W29).
    :param coalesce: write the frames of one tick joined; off only to measure what it brings.
    :param cut_off_after: a hub that cannot reach log or store for so long ends its streams, for it hears of no
        revocation (W17); they may come back. 0 for never.
    :param handle_signals: drain on SIGTERM and SIGINT, then let the server's own handler go on (W34).
    :param cors: answer CORS preflights and add CORS headers; off when mounted, where the app does (W39).
    :param openapi: answer ``GET /openapi.json``, which asks for no credential.
    :param allowed_headers: request headers that pages of allowed origins may send, beside those the hub itself reads;
        the default lets htmx and Datastar through.
    :param limits: bounds of everything that grows.
    """

    broker: str = "memory://"
    store: str | None = None
    credentials: tuple[AuthMethod, ...] = ("bearer", "ticket", "resume", "cookie", "custom")
    jwt_secret: tuple[str, ...] = ()
    jwt_public_key: tuple[str, ...] = ()
    jwt_jwks_url: str | None = None
    jwt_algorithms: tuple[str, ...] = ()
    jwt_issuer: str | None = None
    jwt_audience: tuple[str, ...] = ()
    jwt_leeway: float = 10.0
    subject_claim: str = "sub"
    grants_claim: str = "sseal"
    cookie_name: str | None = None
    insecure_cookies: bool = False
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    public_url: str | None = None
    public_topics: tuple[str, ...] = ()
    accounts: str | None = None
    session_ttl: float = 12 * 3600.0
    session_cookie_extra: float = 30 * 24 * 3600.0
    ticket_ttl: float = 30.0
    ticket_grace: float = 120.0
    resume_ttl: float = 3600.0
    revocation_ttl: float = 366 * 24 * 3600.0
    expiring_notice: float = 30.0
    heartbeat: float = 15.0
    stall_timeout: float = 60.0
    body_timeout: float = 20.0
    max_stream_age: float = 0.0
    retry_ms: int = 3000
    drain_window: float = 0.5
    close_timeout: float = 1.0
    log_count: int = 10_000
    log_age: float = 3600.0
    log_size: int = 64 * 1024 * 1024
    window_count: int = 10_000
    window_size: int = 64 * 1024 * 1024
    overload_after: float = 1.0
    coalesce: bool = True
    cut_off_after: float = 30.0
    handle_signals: bool = True
    cors: bool = False
    openapi: bool = True
    allowed_headers: tuple[str, ...] = ALLOWED_HEADERS
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the setting."""
        for auth_method in self.credentials:
            if auth_method not in AUTH_METHODS:
                raise InvalidInput(
                    "credentials", f"{auth_method!r} is no auth method; choose from {', '.join(AUTH_METHODS)}"
                )
        for origin in self.allowed_origins:
            normal_origin(origin)
        for host in self.allowed_hosts:
            normal_host(host)
        if self.public_url is not None:
            _check_url(self.public_url)
        for name in self.allowed_headers:
            if not _HEADER.fullmatch(name) or name == "*":
                raise InvalidInput("allowed_headers", f"{name!r} is no name of a header; name each, * counts as none")
        for pattern in self.public_topics:
            Pattern.parse(pattern, "public_topics")
        self._check_times()
        if any(Pattern.parse(text).covers(Pattern(("user", "*"))) for text in self.public_topics):
            raise InvalidInput("public_topics", "must not cover user/*, everybody's own topics")
        if not 500 <= self.retry_ms <= 60_000:
            raise InvalidInput("retry_ms", "must be from 500 to 60000 milliseconds")
        engine_of(self.broker)
        if self.store is not None:
            engine_of(self.store, "store")

    def _check_times(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float) and not 0 <= value < 1e10:
                raise InvalidInput(item.name, f"must be a number of seconds, not {value!r}")
        if self.jwt_leeway > 300:
            raise InvalidInput("jwt_leeway", "must be at most 300 seconds; expired tokens would stay good")
        if self.revocation_ttl < self.session_ttl:
            raise InvalidInput("revocation_ttl", "must not be shorter than session_ttl; what was revoked would return")
        for name in (
            "heartbeat",
            "stall_timeout",
            "ticket_ttl",
            "session_ttl",
            "resume_ttl",
            "close_timeout",
            "body_timeout",
        ):
            if getattr(self, name) <= 0:
                raise InvalidInput(name, "must be more than 0 seconds")

    @property
    def session_cookie(self) -> str:
        """The name of sseal's own session cookie."""
        return DEV_COOKIE if self.insecure_cookies else SECURE_COOKIE


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
    except ValueError:
        origin = ""
    normal_origin(origin, "public_url")
    if not _BASE.fullmatch(url):
        raise InvalidInput("public_url", "must end with the path, and hold no space, query or fragment")
