"""The hub that applications use: all parts put together, started on first use."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from . import storage
from .audit import Audit
from .auth.credential import AuthMethod, CredentialPolicy
from .auth.jwt import JwtVerifier
from .auth.origin import OriginPolicy
from .auth.revocation import Revocation
from .authorizer import Authorize, Authorizer
from .clock import Clock, SystemClock
from .delivery.admission import Admission
from .delivery.limit_exchange import LimitExchange
from .delivery.node import Node
from .delivery.node_rpc import NodeRpc, new_node_id
from .delivery.stream_limits import StreamLimits
from .delivery.throttling import Throttling
from .errors import InvalidInput, SsealError, Unavailable
from .extras import MissingPackage, needed
from .hub_settings import HubSettings
from .identity_sources.bearer import Bearer
from .identity_sources.sessions import LoginSessions
from .identity_sources.tickets import Tickets
from .publisher import publication
from .storage import Retention
from .storage.address import engine_of, redact_url
from .stream import reasons
from .telemetry import redaction

if TYPE_CHECKING:
    from .asgi.services import Authenticate
    from .identity_sources.accounts import Accounts
    from .identity_sources.jwks import JwksSource

__all__ = ["Hub"]

START_REST: Final = 1.0
"""Seconds between two attempts to start with a log or store that cannot be reached."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

logger = logging.getLogger("sseal")


class Hub:
    """A hub of authenticated event streams, ready to be mounted: ``app.mount("/sse", hub.asgi)``.

    It starts on first use in the running event loop, because a mounted app gets no lifespan (W39); use
    `lifespan` to start and stop it with the host.

    :param settings: see `HubSettings`.
    :param authenticate: the app's own way in, tried after all others: an async function that takes a Starlette
        ``HTTPConnection`` and returns an `Identity`, or None when the request carries nothing it knows.
    :param authorize: decides at every connect, resume and refresh what an identity may read: an async function
        that takes the identity and the topics, and returns True, False, the topics allowed, or a mapping from
        topic to ``since`` (Unix seconds, or None).
    :param clock: where time comes from; for tests.
    :raises InvalidInput: a setting is wrong; names it.
    :raises MissingPackage: a setting needs a package that is not installed; names both, and what to type.
    """

    def __init__(
        self,
        settings: HubSettings | None = None,
        *,
        authenticate: Authenticate | None = None,
        authorize: Authorize | None = None,
        clock: Clock | None = None,
    ) -> None:
        # With the first hub and not with its name: a third of the import, which type checkers, tools and tests that
        # only name `Hub` need not wait for.
        from .asgi.app import HubApp
        from .asgi.node_commands import Commands
        from .asgi.services import Services

        self.settings = settings = settings or HubSettings()
        self._clock = clock = clock or SystemClock()
        retention = Retention(count=settings.log_count, age=settings.log_age, size=settings.log_size)
        opened = storage.open(settings.broker, clock)
        same = settings.store is None or settings.store == settings.broker
        self._store = (opened if same else storage.open(settings.store or "", clock, "store")).store()
        self._jwks: JwksSource | None = None
        audit = Audit(redaction.redact)
        bearer = self._bearer(settings, clock, audit)
        self._rpc = NodeRpc(self._store, new_node_id())
        tickets = Tickets(
            self._store,
            clock,
            ttl=settings.ticket_ttl,
            grace=settings.ticket_grace,
            resume_ttl=settings.resume_ttl,
            node=self._rpc.node_id,
        )
        self._tickets = tickets
        self.node = Node(
            opened.broker(retention), self._store, self._rpc, clock, settings, families=tickets, audit=audit
        )
        throttling = Throttling(self._store, clock, settings.limits)
        stream_limits = StreamLimits(self._store, self.node.streams, self._rpc, clock, settings.limits)
        self._limit_exchange = LimitExchange(self._store, throttling.rates, stream_limits, clock)
        authorizer = Authorizer(authorize, settings.public_topics, max_topics=settings.limits.topics_per_stream)
        self._services = Services(
            settings=settings,
            clock=clock,
            node=self.node,
            policy=CredentialPolicy(
                auth_methods=_open_auth_methods(
                    settings, has_keys=bearer is not None, has_own=authenticate is not None
                ),
                session_cookie=settings.session_cookie,
                jwt_cookie=settings.cookie_name if bearer is not None else None,
            ),
            origins=OriginPolicy(settings.allowed_origins),
            authorizer=authorizer,
            tickets=tickets,
            sessions=LoginSessions(self._store, clock, ttl=settings.session_ttl),
            revoke=self.node.revocations.apply,
            rpc=self._rpc,
            bearer=bearer,
            accounts=_accounts(settings),
            authenticate=authenticate,
            redacted=redaction.installed,
            metrics=_metrics(self.node),
            admission=Admission(self.node, authorizer, tickets, throttling, stream_limits, self._rpc),
            throttling=throttling,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting: asyncio.Task[None] | None = None
        self._failed: tuple[float, SsealError] | None = None
        self._previous: dict[int, Any] = {}
        self._draining: asyncio.Future[None] | None = None
        self._lock: socket.socket | None = None
        Commands(self._services, self._rpc)
        self.asgi = HubApp(self._services, self.start, self.aclose)

    # -- life -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start in the running event loop; does nothing when started.

        :raises Unavailable: log or store cannot be reached, which is tried again with the next call; it was started
            in another event loop; or it is one of several workers on a log that each keeps for itself (W30).
        :raises InvalidInput: log or store can be reached and not be used; names the setting.
        """
        if self.node.started and self._loop is asyncio.get_running_loop():
            return
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise Unavailable("the hub runs in another event loop; make one Hub per loop", code="wrong_loop")
        if self._failed is not None and self._clock.monotonic() - self._failed[0] < START_REST:
            raise self._failed[1]
        if self._starting is None:
            self._loop = asyncio.get_running_loop()
            self._starting = self._loop.create_task(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        try:
            self._ensure_single_worker()
            await self._store.open(self.node.id, _Heard(self.node.revocations.on_revocations, self._rpc.on_message))
            await self.node.revocations.follow()
            if self._jwks is not None:
                await self._jwks.start()
            await self.node.start()
            self._limit_exchange.start()
        except Unavailable as error:
            self._failed, self._starting = (self._clock.monotonic(), error), None
            logger.warning("the hub cannot start yet: %s", error)
            raise
        except InvalidInput as error:
            named = error.field == "store" and self.settings.store is None  # then one setting stands for both
            shown_as = InvalidInput("broker", error.problem) if named else error
            self._failed, self._starting = (self._clock.monotonic(), shown_as), None
            logger.error("the hub cannot start: %s", shown_as)  # noqa: TRY400 - it names its own cause
            raise shown_as from None
        self._chain_signals()
        logger.info("hub started", extra={"node": self.node.id, "broker": redact_url(self.settings.broker)})

    async def drain(self) -> None:
        """Refuse new streams and end all open ones with ``bye``, spread over ``drain_window`` seconds."""
        await self.node.drain()

    async def aclose(self) -> None:
        """Drain and let go of everything; it cannot be started again."""
        if not self.node.started:
            return
        await self.drain()
        await self._rpc.close()
        await self._limit_exchange.close()
        await self.node.stop()
        if self._jwks is not None:
            await self._jwks.close()
        if self._services.accounts is not None:
            self._services.accounts.close()
        await self._store.close()
        self._unchain_signals()
        if self._lock is not None:
            self._lock.close()

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Start and stop with the host: ``FastAPI(lifespan=hub.lifespan)``. Optional."""
        del app
        await self.start()
        try:
            yield
        finally:
            await self.aclose()

    # -- what applications do -----------------------------------------------------------------------------

    async def publish(
        self,
        topic: str | Sequence[str],
        data: Any,
        *,
        event: str = "message",
        ttl: float | None = None,
        key: str | None = None,
        retry: int | None = None,
    ) -> str:
        """Publish one event; return its id ``<epoch>-<offset>``. Waits while delivery is overloaded (W29).

        :param topic: an exact topic, or several: still one event, delivered once to each reader (W27).
        :param data: text is sent as it is, anything else as JSON.
        :param event: the event type.
        :param ttl: seconds until it is no longer worth reading.
        :param key: idempotency key: the same key with the same content is published once in 24 h.
        :param retry: milliseconds readers shall wait before they reconnect, 500 to 60,000.
        :raises InvalidInput: a field is wrong; names it.
        :raises Conflict: the key was used with other content.
        :raises Unavailable: the log cannot take it now; nothing was published, unless the code is ``outcome_unknown``:
            then it may have been, and the same ``key`` makes it safe to repeat.
        """
        await self.start()
        made = publication(
            topic, data, event=event, ttl=ttl, key=key, retry=retry, scope=("", ""), limits=self.settings.limits
        )
        (position,) = await self.node.publish([made])
        return str(position)

    def publish_threadsafe(self, topic: str | Sequence[str], data: Any, **options: Any) -> Future[str]:
        """Publish from another thread, such as a sync route; ``.result()`` waits for the id.

        :raises Unavailable: the hub has not started, so there is no event loop to publish in.
        :raises RuntimeError: called in the hub's own event loop, where ``.result()`` would wait for itself.
        """
        if self._loop is None or not self._loop.is_running():
            raise Unavailable("the hub has not started yet; use hub.lifespan, or publish from an async route first")
        with contextlib.suppress(RuntimeError):
            if asyncio.get_running_loop() is self._loop:
                raise Unavailable("this is the hub's own event loop; await hub.publish() instead")
        return asyncio.run_coroutine_threadsafe(self.publish(topic, data, **options), self._loop)

    async def revoke(self, *, subject: str | None = None, issuer: str | None = None, jti: str | None = None) -> int:
        """End what was issued to a subject until now, or one token, and all that derives from it.

        :returns: how many streams ended here.
        :raises InvalidInput: neither or both were given.
        :raises Unavailable: the store could not keep it. It is in force all the same, at every hub that can be reached.
        """
        if (subject is None) == (jti is None):
            raise InvalidInput("subject", "give either subject or jti")
        await self.start()
        now = self._clock.wall()
        ends = now + self.settings.revocation_ttl
        if jti is not None:
            return await self.node.revocations.apply(
                Revocation(kind="token", value=f"jti:{jti}", at=now, expires_at=ends)
            )
        return await self.node.revocations.apply(
            Revocation(kind="subject", value=str(subject), issuer=issuer, at=now, expires_at=ends)
        )

    def position(self) -> str:
        """Return the position at the head: render a page from your database, then stream from here."""
        return str(self.node.position)

    def connections(self, subject: str | None = None) -> list[str]:
        """Return the ids of the open streams, of one subject or all."""
        return [
            key
            for key, connection in self.node.connections.items()
            if subject is None or connection.subscription.identity.subject == subject
        ]

    def disconnect(self, connection_id: str, *, quietly: bool = False) -> bool:
        """End one stream here; its client may come back. Return whether there was one.

        :param quietly: cut it without a word, as a network does.
        """
        connection = self.node.connections.get(connection_id)
        if connection is None:
            return False
        self.node.close(connection, reasons.CUT if quietly else reasons.KICKED)
        return True

    # -- inside -------------------------------------------------------------------------------------------

    def _bearer(self, settings: HubSettings, clock: Clock, audit: Audit) -> Bearer | None:
        if not (settings.jwt_secret or settings.jwt_public_key or settings.jwt_jwks_url):
            return None
        verifier = JwtVerifier(
            secrets=settings.jwt_secret,
            public_keys=settings.jwt_public_key,
            algorithms=settings.jwt_algorithms or None,
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience or None,
            leeway=settings.jwt_leeway,
            subject_claim=settings.subject_claim,
            grants_claim=settings.grants_claim,
        )
        if settings.jwt_jwks_url is not None:
            with needed("jwt_jwks_url", "server"):
                from .identity_sources.jwks import JwksSource
            self._jwks = JwksSource(settings.jwt_jwks_url, verifier, clock, audit=audit)
        return Bearer(verifier, self._jwks)

    def _ensure_single_worker(self) -> None:
        """Refuse to be one of several workers that each have a log of their own (W30).

        The first worker holds a name in the kernel that its siblings, children of the same parent, then cannot
        take. Where there are no abstract socket names, the environment must say it.
        """
        if "memory" not in (engine_of(self.settings.broker), engine_of(self.settings.store or self.settings.broker)):
            return
        workers = os.environ.get("WEB_CONCURRENCY", "1")
        several = workers.isdecimal() and int(workers) > 1
        if sys.platform == "linux" and _is_worker():
            lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                lock.bind(f"\0sseal-memory-{os.getuid()}-{os.getppid()}")
                self._lock = lock
            except OSError:
                lock.close()
                several = True
        if several:
            raise Unavailable(
                "broker: memory:// keeps what it knows in one process, and this is one of several workers; "
                "run one worker, or choose a broker that workers share: sqlite:///file",
                code="several_workers",
            )

    def _chain_signals(self) -> None:
        """Drain on SIGTERM and SIGINT, then let the handler before ours go on (W34)."""
        if not self.settings.handle_signals or threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            previous = signal.getsignal(number)
            if previous is not None:
                self._previous[number] = previous
                signal.signal(number, self._on_signal)

    def _unchain_signals(self) -> None:
        for number, previous in self._previous.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, previous)
        self._previous.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        previous = self._previous.get(number, signal.SIG_DFL)
        if self.node.draining or self._loop is None or self._loop.is_closed():
            _call_previous(previous, number, frame)
            return

        def begin() -> None:
            self._draining = asyncio.ensure_future(self._drain_then(previous, number))

        self._loop.call_soon_threadsafe(begin)

    async def _drain_then(self, previous: Callable[..., Any] | int | None, number: int) -> None:
        try:
            await self.drain()
        finally:
            _call_previous(previous, number, None)


@dataclass(frozen=True, slots=True)
class _Heard:
    """What the store tells the hub."""

    on_revocations: Callable[[], None]
    on_message: Callable[[bytes], None]


def _call_previous(previous: Callable[..., Any] | int | None, number: int, frame: FrameType | None) -> None:
    if callable(previous):
        previous(number, frame)
    elif previous == signal.SIG_DFL:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def _accounts(settings: HubSettings) -> Accounts | None:
    if settings.accounts is None:
        return None
    with needed("accounts", "server"):
        from .identity_sources.accounts import Accounts
    return Accounts(Path(settings.accounts))


def _metrics(node: Node) -> Callable[[], tuple[bytes, str]] | None:
    try:
        with needed("/metrics", "server"):
            from .telemetry.metrics import exporter
    except MissingPackage:
        return None
    return exporter(node)


def _open_auth_methods(settings: HubSettings, *, has_keys: bool, has_own: bool) -> frozenset[AuthMethod]:
    """Return the ways that are both enabled and possible."""
    closed: set[AuthMethod] = set()
    if not has_keys:
        closed |= {"bearer", "query"}
    if not has_own:
        closed.add("custom")
    return frozenset(settings.credentials) - closed


def _is_worker() -> bool:
    """Tell whether this process was started by a server as one of its workers."""
    from multiprocessing import parent_process  # brings pickle and more, and is asked once

    if parent_process() is not None:
        return True
    try:
        own = Path("/proc/self/cmdline").read_bytes()
        return own == Path(f"/proc/{os.getppid()}/cmdline").read_bytes()
    except OSError:
        return False
