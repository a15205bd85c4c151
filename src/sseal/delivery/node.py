"""The hub at work: intake from the log, fan-out to streams, catching up, timers. One event loop, no queue.

Every stream has a position in the log instead of a queue. The fan-out writes a frame to a stream iff the stream
is LIVE and its position is below the frame's offset (W5); a stream that is not LIVE reads the shared window,
or the broker's history where the window does not cover its topics (W6), and turns LIVE in the synchronous
step in which nothing is left to read.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from .. import wire
from ..audit import Audit
from ..auth.identity import Identity
from ..auth.revocation import Revocation, RevocationSet
from ..clock import Clock
from ..errors import CredentialInvalid, Unavailable
from ..hub_settings import HubSettings
from ..identity_sources.secret import new_name
from ..position import EPOCH_ALPHABET, Position, Resolution
from ..storage import CANARY_ROOT, Broker, Entry, Publication
from ..storage.store import Store
from ..stream import reasons
from ..stream.connection import HIGH_WATER, Connection, Sink
from ..stream.reasons import CloseReason
from ..stream.states import Input, State
from ..subscription import Subscription
from . import control_events
from .canary import Canary
from .connections import Connections, Whose
from .fanout import SLICE, FanOut
from .pacing import spread
from .replay import Replay
from .stats import Stats
from .timers import Timers
from .topic_index import TopicIndex
from .topic_interest import TopicInterest
from .window import Frame, Window

__all__ = ["Node"]

TICK: Final = 0.25
"""Seconds between two looks at the timers."""
_HEARTBEATS: Final = (wire.HEARTBEAT, b"%x\r\n%b\r\n" % (len(wire.HEARTBEAT), wire.HEARTBEAT))
"""Bare, and as a chunk; see `Connection.framing`."""
PRUNE_EVERY: Final = 240
"""Ticks between two removals of expired revocations."""
AGE_SPREAD: Final = (0.8, 1.0)
"""Which parts of ``max_stream_age`` streams reach, so that none is older and they do not end together."""


logger = logging.getLogger("sseal.delivery")
access = logging.getLogger("sseal.access")


class Node:
    """Topic index and fan-out of one process: encodes once, never waits for a reader.

    :param broker: the log it hands out.
    :param clock: where time comes from.
    :param settings: the hub's settings.
    :param store: the store whose revocations it must hear of in time (W17); None for one that is always in reach.
    :param keep_family_alive: called for a ticket stream that is alive, so that its resume family stays so.
    :param audit: takes security events; None for one of its own.
    :param on_reconnect: awaited when the log is back, before anything is delivered again (W17).
    """

    def __init__(
        self,
        broker: Broker,
        clock: Clock,
        settings: HubSettings,
        *,
        store: Store | None = None,
        keep_family_alive: Callable[[Connection], Awaitable[None]] | None = None,
        on_reconnect: Callable[[], Awaitable[None]] | None = None,
        audit: Audit | None = None,
    ) -> None:
        self.broker = broker
        self.clock = clock
        self.settings = settings
        self.id = "".join(secrets.choice(EPOCH_ALPHABET) for _ in range(8))
        self.stats = Stats()
        self.audit = audit or Audit()
        self.revocations = RevocationSet()
        self.draining = False
        self.started = False
        self._store = store
        self._keep_family_alive = keep_family_alive
        self._on_reconnect = on_reconnect
        self.epoch = ""
        self.revocations_stale_since: float | None = None
        self._disconnecting = False
        self.window = Window(count=settings.window_count, size=settings.window_size)
        self._index = TopicIndex()
        self._registry = Connections()
        self._interest = TopicInterest(self)
        self._timers = Timers(settings.heartbeat, TICK, settings.expiring_notice)
        self._replay = Replay(self, settings.limits.replays)
        self._fan_out = FanOut(
            broker, clock, settings, self._index, self.stats, stall=self._replay.stall, recover=self._recover
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticker: asyncio.Task[None] | None = None
        self._ticks = 0
        self._left: deque[Connection] = deque()
        self._canary = Canary(broker, clock, self.id, head=lambda: self.window.head)

    async def start(self) -> None:
        """Open the log and start the timers.

        :raises Unavailable: the log cannot be reached; may be called again.
        """
        self._fan_out.start()
        await self.broker.open(self)
        self.epoch = self.broker.lineage.epoch
        self.window.head = self.broker.head
        await self.broker.listen((self._canary.topic,))
        self._ticker = asyncio.create_task(self._tick_forever(), name="sseal-timers")
        self.started = True

    async def stop(self) -> None:
        """Stop without a word; see `drain` for the polite way."""
        self.started = False
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        for connection in list(self.connections.values()):
            self.close(connection, reasons.DRAINING)
        self._replay.stop()
        for task in list(self._tasks):
            task.cancel()
        self._fan_out.stop()
        await self.broker.close()

    @property
    def connections(self) -> Mapping[str, Connection]:
        """The open streams by id, oldest first."""
        return self._registry.by_id

    @property
    def position(self) -> Position:
        """The position at the head of what this hub has taken in."""
        return Position(self.epoch, self.window.head)

    async def locate(self, presented: Position) -> Resolution:
        """Translate a presented position into an offset of this log.

        A stream that comes from another hub may be ahead of what this one has been handed out, or know an epoch
        that this one has not noticed; then the log itself is asked.

        :raises Unavailable: it cannot be asked now.
        """
        lineage, head = self.broker.lineage, self.window.head
        known = presented.epoch == lineage.epoch or any(epoch == presented.epoch for epoch, _ in lineage.older)
        if known and (presented.epoch != lineage.epoch or presented.offset <= head):
            return lineage.resolve(presented, head)
        newest = await self.broker.newest()
        return self.broker.lineage.resolve(presented, max(newest, self.window.head))

    def head_of(self, subscription: Subscription) -> Position:
        """Return the position from which on everything of these topics is delivered: where a new stream starts."""
        return Position(self.epoch, self.window.head_of(subscription.topics))

    # -- publishing -------------------------------------------------------------------------------------

    async def publish(self, publications: Sequence[Publication], *, wait: bool = True) -> list[Position]:
        """Append to the log, all or nothing.

        :param wait: while overloaded, wait (True) or refuse with `TooManyRequests` (False).
        """
        await self._fan_out.room(wait=wait)
        offsets = await self.broker.publish(publications)
        epoch = self.broker.lineage.epoch
        return [Position(epoch, offset) for offset in offsets]

    def on_entries(self, entries: Sequence[Entry]) -> None:
        """Take the next entries of the log, in order and without holes, and fan them out; see `LogListener`."""
        epoch, now = self.epoch, self.clock.monotonic()
        for entry in entries:
            if entry.topics[0].startswith(CANARY_ROOT):
                self.window.head = entry.offset
                self._canary.on_received(entry.offset)
                continue
            frame = Frame(entry, epoch, now)
            self.window.append(frame)
            self._fan_out.add(frame)
        self.stats.published += len(entries)

    def on_epoch_change(self) -> None:
        """Go over to a new epoch of the log; see `LogListener`.

        Streams that have what the log no longer has are told so, and go on where the old epoch ends (W10).
        """
        old, lineage, head = self.epoch, self.broker.lineage, self.broker.head
        had = self.window.head if self._fan_out.idle else -1
        self.epoch = lineage.epoch
        self._fan_out.forget()
        self._replay.forget()
        self.window = Window(count=self.settings.window_count, size=self.settings.window_size)
        self.window.head = head
        for name in self._interest.names:
            self.window.cover(name, head)
        logger.warning("the log is in a new epoch", extra={"epoch": lineage.epoch, "head": head, "before": old})
        # Where nothing but the name has changed up to the head, whoever is live has it all, and gets the rest.
        unharmed = had >= head and head <= next((last for epoch, last in lineage.older if epoch == old), -1)
        for connection in list(self.connections.values()):
            where = lineage.resolve(Position(old, connection.position), head)
            if where.reason is None and unharmed and connection.state is State.LIVE:
                continue
            if where.reason is not None:
                connection.presented = connection.presented or Position(old, connection.position)
                connection.gap = connection.gap or where.reason
                connection.from_oldest = where.oldest
                connection.position = where.offset
            self._fall_back(connection)
        self.spawn(self.on_reconnect())  # the log of revocations may have begun anew too (W17)

    def on_gap(self, names: Sequence[str] | None, upto: int) -> None:
        """Let the readers of these topics ask the history, which knows what is lost; see `LogListener`."""
        self._replay.forget()
        some = None if names is None else set(names)
        for name in self._interest.names if some is None else self._interest.among(some):
            self.window.cover(name, upto)
        self.window.head = max(self.window.head, upto)
        for connection in list(self.connections.values()):
            if some is None or not some.isdisjoint(connection.subscription.topics.names):
                self._fall_back(connection)

    async def on_reconnect(self) -> None:
        """Hear of revocations before anything is delivered again; see `LogListener`."""
        if self._on_reconnect is not None:
            await self._on_reconnect()

    def _fall_back(self, connection: Connection) -> None:
        if connection.state is State.LIVE:
            connection.apply(Input.STALLED)
        asyncio.get_running_loop().call_soon(self.pump, connection)

    async def canary(self) -> float:
        """Send one event through the log and back; return how long it took, in seconds.

        :raises Unavailable: it has not come back in time; says since when none has.
        """
        return await self._canary.probe()

    @property
    def topic_count(self) -> int:
        """How many topics and patterns have readers here."""
        return self._index.topic_count

    def _recover(self) -> None:
        """Let every stream read the log from its own position, so that a failed fan-out loses nothing."""
        for connection in list(self.connections.values()):
            if connection.state is State.LIVE:
                self._fall_back(connection)

    # -- streams ----------------------------------------------------------------------------------------

    def new_connection_id(self) -> str:
        """Return an id that names this node (W42) and cannot be guessed."""
        return f"{self.id}.{new_name(16)}"

    async def listen(self, subscription: Subscription) -> None:
        """Hold the log's delivery of these topics; `enter` takes the hold over, `unlisten` gives it back.

        :raises Unavailable: the log cannot be asked for them now.
        """
        await self._interest.listen(subscription)

    def unlisten(self, subscription: Subscription) -> None:
        """Give a hold back; the last reader of a topic ends its delivery."""
        self._interest.unlisten(subscription)

    def enter(self, connection: Connection) -> None:
        """Put a stream into the index and check it against the revocations, in one step (W17).

        The stream begins when it gets its sink, see `attach`.

        :raises CredentialInvalid: its identity was revoked.
        :raises Unavailable: the hub is draining.
        """
        identity = connection.subscription.identity
        if self.draining or not self.started:
            raise Unavailable("the hub is shutting down", code="draining", retry_after=2.0)
        self._check(identity)
        if (longest := self.settings.max_stream_age) > 0:
            # Those that came in one wave shall not leave in one.
            connection.retire_at = self.clock.monotonic() + longest * random.uniform(*AGE_SPREAD)  # noqa: S311
        self._registry.add(connection)
        self._index.add(connection)
        self._timers.add(connection, self._ahead())
        self.stats.connects[identity.auth_method] = self.stats.connects.get(identity.auth_method, 0) + 1

    def attach(self, connection: Connection, sink: Sink) -> None:
        """Give an entered stream the sink that holds its head and first events, and let it read."""
        if connection.state is State.CLOSED:
            sink.abort()
            return
        connection.sink = sink
        connection.framing = 2 * connection.envelope + sink.chunked
        self.pump(connection)

    def _check(self, identity: Identity) -> None:
        if self.revocations.revoked(identity):
            raise CredentialInvalid(
                "revoked", auth_method=identity.auth_method, kind="revoked", subject=identity.subject
            )
        if identity.expired(self.clock.wall()):
            raise CredentialInvalid(
                "expired meanwhile", auth_method=identity.auth_method, kind="expired", subject=identity.subject
            )

    def leave(self, connection: Connection, reason: CloseReason) -> None:
        """Take a stream out of everything, at once; calling it twice is fine."""
        if connection.id not in self.connections:
            return
        connection.apply(Input.CLOSE)
        connection.closed_by = reason
        connection.sink = None  # the two know each other: without this only the garbage collector frees them
        self._index.remove(connection)
        self._timers.remove(connection)
        self._registry.remove(connection)
        self.unlisten(connection.subscription)
        self.stats.closed[reason.name] = self.stats.closed.get(reason.name, 0) + 1
        if access.isEnabledFor(logging.INFO):
            identity = connection.subscription.identity
            access.info(
                "stream closed",
                extra={
                    "connection": connection.id,
                    "auth_method": identity.auth_method,
                    "subject": identity.subject,
                    "seconds": round(self.clock.monotonic() - connection.opened_at, 3),
                    "delivered": connection.delivered,
                    "reason": reason.name,
                },
            )

    @property
    def close_timeout(self) -> float:
        """Seconds a closing sink may take to hand over the rest."""
        return self.settings.close_timeout

    def gone(self, connection: Connection) -> None:
        """Take a stream out whose client has left; called by its sink.

        Nothing is written to it from now on. When many leave at once they are taken out, and their sockets
        closed, in slices.
        """
        connection.apply(Input.CLOSE)
        self._left.append(connection)
        if len(self._left) == 1:
            asyncio.get_running_loop().call_soon(self._take_out)

    def _take_out(self) -> None:
        end = time.perf_counter() + SLICE
        while self._left:
            connection = self._left.popleft()
            sink = connection.sink
            self.leave(connection, reasons.CLIENT_GONE)
            if sink is not None:
                sink.abort()
            if time.perf_counter() > end:
                break
        if self._left:
            asyncio.get_running_loop().call_soon(self._take_out)

    def close(self, connection: Connection, reason: CloseReason, *, retry_ms: int | None = None) -> None:
        """End a stream with the events its reason calls for."""
        if connection.state is State.CLOSED:
            return
        sink = connection.sink
        self.leave(connection, reason)
        if sink is None:
            return
        if reason in (reasons.CUT, reasons.STALLED):
            sink.abort()
            return
        words = control_events.closing_events(connection, reason, retry_ms)
        if words and sink.buffered <= HIGH_WATER:
            sink.write(words)
        sink.close()

    def streams_of(self, issuer: str, subject: str) -> list[Connection]:
        """Return the open streams of a subject, oldest first."""
        return self._registry.of_subject(issuer, subject)

    def count_streams(self, whose: Whose) -> int:
        """Count the open streams of a subject or a client address."""
        return self._registry.count(whose)

    def watch_streams(self, *, on: bool) -> dict[Whose, None]:
        """Begin to note whose streams change, or stop; return all whose streams there are."""
        return self._registry.watch(on=on)

    def moved_streams(self) -> dict[Whose, None]:
        """Return whose streams have changed since this was asked before."""
        moved = self._registry.moved
        if moved:
            self._registry.moved = {}
        return moved or {}

    def replayable(self, connection: Connection) -> bool:
        """Tell whether a stream can be given what it missed: by the window, or by a log that is in reach."""
        return self.broker.lost_since is None or not self._replay.needs_history(connection)

    def supersede(self, family: str | None, keep: Connection | None = None) -> None:
        """End every stream of a family but one (W14)."""
        for other in self._registry.of_family(family):
            if other is not keep:
                self.close(other, reasons.SUPERSEDED)

    def pump(self, connection: Connection) -> None:
        """Let a stream that is catching up read on as far as its sink has room; called when the sink drained."""
        self._replay.pump(connection)

    def close_retryable(self, connection: Connection, reason: CloseReason) -> None:
        """End a stream that may come back in a while."""
        self.close(connection, reason, retry_ms=_jittered(self.settings.retry_ms))

    # -- identity of live streams -----------------------------------------------------------------------

    def revoke(self, revocation: Revocation) -> int:
        """Apply one revocation: remember it, and end the streams it concerns; return how many.

        One that is known has done so already, and no stream it concerns has been let in since.
        """
        if not self.revocations.add(revocation):
            return 0
        candidates = self._registry.candidates(revocation)
        ended = [c for c in candidates if revocation.concerns(c.subscription.identity)]
        for connection in ended:
            try:
                self.close(connection, reasons.REVOKED)
            except Exception:  # one stream that cannot be closed must not keep the others open
                logger.exception("stream %s could not be closed", connection.id)
        if self.started:  # what is read at the start was applied before
            self.audit.emit(
                "revocation_applied",
                kind=revocation.kind,
                target=revocation.value,
                target_issuer=revocation.issuer,
                ended=len(ended),
            )
        return len(ended)

    def refresh(self, connection: Connection, granted: Subscription) -> Identity:
        """Extend a live stream in place and say so; from now on it follows the fresh identity.

        The topics stay; times, grants and lineage are those of the fresh credential, the family its own.

        :raises CredentialInvalid: the fresh identity was revoked or has expired meanwhile (W17).
        """
        old, fresh = connection.subscription, granted.identity
        identity = replace(
            old.identity,
            grants=fresh.grants,
            issued_at=fresh.issued_at,
            expires_at=fresh.expires_at,
            token_id=None,
            parent_ids=fresh.token_ids,
        )
        self._check(identity)
        self._registry.remove_token_ids(connection)
        connection.subscription = Subscription(identity, old.topics, granted.since)
        self._registry.add_token_ids(connection)
        connection.expiring_sent = False
        self._timers.expect(connection, self._ahead())
        self._say(connection, "refreshed")
        return identity

    def _ahead(self) -> float:
        """Return by how much Unix seconds are ahead of monotonic ones."""
        return self.clock.wall() - self.clock.monotonic()

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            try:
                self.tick()
            except Exception:
                logger.exception("timers failed; they go on at the next tick")

    def tick(self) -> None:
        """Do what is due: expiries, heartbeats, stalled readers."""
        wall, mono = self.clock.wall(), self.clock.monotonic()
        for connection in self._timers.due(wall):
            self._expire(connection, wall)
            if connection.retire_at is not None and mono >= connection.retire_at:
                self.close_retryable(connection, reasons.MAX_AGE)
            if connection.state is not State.CLOSED:
                self._timers.expect(connection, wall - mono)
        self._beat(mono)
        oldest = self.broker.now() - self.settings.log_age
        self.window.expire(oldest)
        self._keep_in_touch()
        self._replay.tick(mono, oldest)
        self._ticks += 1
        if self._ticks % PRUNE_EVERY == 0:
            self.revocations.prune(wall)

    @property
    def lost_since(self) -> float | None:
        """Since when (``Clock.monotonic``) log, store or revocations cannot be reached; None while all can."""
        broker, store = self.broker.lost_since, None if self._store is None else self._store.lost_since
        if broker is None and store is None:
            return self.revocations_stale_since  # as almost always; each connect asks
        return min(moment for moment in (broker, store, self.revocations_stale_since) if moment is not None)

    @property
    def isolated(self) -> bool:
        """Whether this hub has heard of no revocation for so long that it may let nobody read (W17)."""
        since, longest = self.lost_since, self.settings.cut_off_after
        return since is not None and longest > 0 and self.clock.monotonic() - since > longest

    def _keep_in_touch(self) -> None:
        """End the streams of a hub that is cut off."""
        if self.connections and self.isolated and not self._disconnecting:
            logger.warning("cut off from the log or the store: %d streams are sent away", len(self.connections))
            self._disconnecting = True
            self.spawn(self._disconnect_all())

    async def _disconnect_all(self) -> None:
        try:
            await self._close_all_retryable(reasons.STORE_LOST)
        finally:
            self._disconnecting = False

    def _expire(self, connection: Connection, now: float) -> None:
        identity = connection.subscription.identity
        if identity.expires_at is None:
            return
        if identity.expired(now):
            self.close(connection, reasons.EXPIRED)
        elif now >= identity.expires_at - self.settings.expiring_notice and not connection.expiring_sent:
            connection.expiring_sent = True
            self._say(connection, "expiring")

    def _beat(self, mono: float) -> None:
        """Write the heartbeats that are due, end readers that took nothing for too long, keep families alive.

        With many streams most of a hub's rest is spent here, so it is one loop.
        """
        settings, closed, touched = self.settings, State.CLOSED, self._keep_family_alive
        stalled, untouched = mono - settings.stall_timeout, mono - settings.resume_ttl / 4
        for connection in self._timers.beat(mono):
            sink = connection.sink
            if sink is None or connection.state is closed:
                continue
            if sink.clear or not sink.buffered:
                sink.put(_HEARTBEATS[connection.framing & 1])
                connection.progress_at = mono
            elif connection.progress_at <= stalled:
                self.close(connection, reasons.STALLED)
                continue
            # Only ticket streams, which have a token, have a family to keep.
            if connection.token is not None and touched is not None and connection.touched_at < untouched:
                connection.touched_at = mono
                self.spawn(touched(connection))

    def _say(self, connection: Connection, session: str) -> None:
        sink = connection.sink
        # Notices do not pile up for a reader that takes nothing: a refresh has its HTTP answer beside them.
        if connection.state is not State.CLOSED and sink is not None and sink.buffered <= HIGH_WATER:
            sink.write(control_events.auth_event(connection, session))

    def opening(self, connection: Connection) -> bytes:
        """Return the first body of a stream: ``retry:`` and ``auth`` with the starting position (W1)."""
        return control_events.opening(connection, self.start_of(connection), _jittered(self.settings.retry_ms))

    def start_of(self, connection: Connection) -> Position:
        """Return the position a stream starts from: the presented one, unless it lies ahead of the log."""
        if connection.presented is not None and connection.gap != "ahead":
            return connection.presented
        return Position(self.epoch, connection.position)

    # -- shutting down ----------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Refuse new streams, say ``bye`` to all, spread over the drain window; returns when all are said."""
        self.draining = True
        await self._close_all_retryable(reasons.DRAINING)

    async def _close_all_retryable(self, reason: CloseReason) -> None:
        """End all streams, spread evenly over the drain window."""
        streams = list(self.connections.values())
        random.shuffle(streams)  # the oldest are often of the same people
        await spread(
            streams,
            self.settings.drain_window,
            lambda connection: self.close_retryable(connection, reason),
            now=self.clock.monotonic,
        )

    def spawn(self, work: Awaitable[None]) -> None:
        """Run something in the background, until the node stops."""

        async def run() -> None:
            await work

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("background work failed", exc_info=error)


def _jittered(milliseconds: int) -> int:
    """Spread reconnects by a quarter, so that they do not come back as one wave."""
    return round(milliseconds * random.uniform(0.75, 1.25))  # noqa: S311 - not a secret
