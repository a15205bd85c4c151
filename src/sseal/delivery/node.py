"""The node: one process's delivery. It puts the parts together and follows the log. One event loop, no queue.

Every stream has a position in the log instead of a queue. The fan-out writes a frame to a stream iff the stream
is LIVE and its position is below the frame's offset (W5); a stream that is not LIVE reads the shared window,
or the broker's history where the window does not cover its topics (W6), and turns LIVE in the synchronous
step in which nothing is left to read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from ..audit import Audit
from ..auth.identity import Identity
from ..clock import Clock
from ..hub_settings import HubSettings
from ..position import Position, Resolution
from ..storage import CANARY_ROOT, Broker, Entry, Publication
from ..storage.store import Store
from ..stream import reasons
from ..stream.connection import Connection
from ..stream.reasons import CloseReason
from ..stream.states import State
from ..subscription import Subscription
from .background import BackgroundTasks
from .canary import Canary
from .deadlines import TICK_INTERVAL
from .drain import Drain
from .expiry import Expiry
from .fanout import FanOut
from .heartbeat import FamilyKeeper, Heartbeat
from .isolation import Isolation
from .max_age import MaxAge
from .node_rpc import NodeRpc
from .node_sinks import NodeSinks
from .open_streams import OpenStreams
from .replay import Replay
from .revocations import Revocations
from .slow_readers import SlowReaders
from .stats import Stats
from .topic_index import TopicIndex
from .topic_interest import TopicInterest
from .window import Frame, Window

__all__ = ["Node"]

PRUNE_TICKS: Final = 240
"""Ticks between two removals of expired revocations."""

logger = logging.getLogger("sseal.delivery")


class Node:
    """A coordinator: what a part decides is in that part's file. Streams are opened by `sseal.delivery.admission`.

    :param broker: the log it hands out.
    :param store: the store whose revocations it must hear of in time (W17).
    :param rpc: the other nodes; says how this one is called.
    :param clock: where time comes from.
    :param settings: the hub's settings.
    :param families: keeps the resume families of open ticket streams alive; None when there are no tickets.
    :param audit: takes security events; None for one of its own.
    """

    def __init__(
        self,
        broker: Broker,
        store: Store,
        rpc: NodeRpc,
        clock: Clock,
        settings: HubSettings,
        *,
        families: FamilyKeeper | None = None,
        audit: Audit | None = None,
    ) -> None:
        self.id = rpc.node_id
        self.broker = broker
        self.clock = clock
        self.settings = settings
        self.audit = audit or Audit()
        self.stats = Stats()
        self.started = False
        self.window = Window(count=settings.window_count, size=settings.window_size)
        self.topics = TopicIndex()
        self.tasks = BackgroundTasks()
        self.interest = TopicInterest(broker, self.window, self.tasks)
        self.streams = OpenStreams(self.topics, self.interest, clock, self.stats, settings.retry_ms)
        self.revocations = Revocations(store, rpc, self.streams, clock, self.audit)
        slow_readers = SlowReaders(self.streams, clock, settings.stall_timeout)
        self.replay = Replay(
            broker,
            self.window,
            self.streams,
            slow_readers,
            self.tasks,
            clock,
            self.stats,
            settings.limits.replays,
        )
        self.sinks = NodeSinks(self.streams, self.replay, settings.close_timeout)
        self.fan_out = FanOut(broker, clock, settings, self.topics, self.stats, slow_readers, self.replay)
        self.heartbeat = Heartbeat(self.streams, slow_readers, self.tasks, settings, self.id, families)
        self.expiry = Expiry(self.streams, self.revocations, settings.expiring_notice)
        self.max_age = MaxAge(self.streams, clock, settings.max_stream_age)
        self.streams.listeners = (self.heartbeat, self.expiry, self.max_age)
        self._drain = Drain(self.streams, clock, settings.drain_window)
        self._isolation = Isolation(
            broker,
            store,
            self.revocations,
            self.streams,
            self._drain,
            self.tasks,
            clock,
            settings.cut_off_after,
        )
        self._canary = Canary(broker, clock, self.id, head=lambda: self.window.head)
        self._ticker: asyncio.Task[None] | None = None  # calls `tick`
        self._ticks = 0  # how often it has

    # -- life -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the log and start the timers.

        :raises Unavailable: the log cannot be reached; may be called again.
        """
        self.fan_out.start()
        await self.broker.open(self)
        self.window.begin(self.broker.lineage.epoch, self.broker.head)
        await self.broker.listen((self._canary.topic,))
        self._ticker = asyncio.create_task(self._tick_forever(), name="sseal-timers")
        self.interest.start()
        self.started = self.revocations.audited = True

    async def stop(self) -> None:
        """Stop without a word; see `drain` for the polite way."""
        self.started = False
        self.interest.stop()
        await self.revocations.close()
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        for connection in list(self.connections.values()):
            self.close(connection, reasons.DRAINING)
        self.replay.stop()
        self.tasks.cancel()
        self.fan_out.stop()
        await self.broker.close()

    async def drain(self) -> None:
        """Refuse new streams, say ``bye`` to all, spread over the drain window; returns when all are closed."""
        await self._drain.drain()

    def tick(self) -> None:
        """Do what is due: expiries, maximum age, heartbeats, stalled readers."""
        wall, mono = self.clock.wall(), self.clock.monotonic()
        self.expiry.tick(wall)
        self.max_age.tick(mono)
        self.heartbeat.tick(mono)
        oldest = self.broker.now() - self.settings.log_age
        self.window.expire(oldest)
        self._isolation.tick()
        self.replay.tick(mono, oldest)
        self._ticks += 1
        if self._ticks % PRUNE_TICKS == 0:
            self.revocations.prune(wall)

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_INTERVAL)
            try:
                self.tick()
            except Exception:
                logger.exception("timers failed; they go on at the next tick")

    # -- how it stands ----------------------------------------------------------------------------------

    @property
    def connections(self) -> Mapping[str, Connection]:
        """The open streams by id, oldest first."""
        return self.streams.index.by_id

    @property
    def topic_count(self) -> int:
        """How many topics and patterns have readers here."""
        return self.topics.topic_count

    @property
    def position(self) -> Position:
        """The position at the head of what this hub has taken in."""
        return self.window.position

    @property
    def draining(self) -> bool:
        """Whether it is shutting down."""
        return self._drain.draining

    @property
    def lost_since(self) -> float | None:
        """Since when (``Clock.monotonic``) log, store or revocations cannot be reached; None while all can."""
        return self._isolation.lost_since

    @property
    def isolated(self) -> bool:
        """Whether this hub has heard of no revocation for so long that it may let nobody read (W17)."""
        return self._isolation.isolated

    async def canary(self) -> float:
        """Send one event through the log and back; return how long it took, in seconds.

        :raises Unavailable: it has not come back in time; says since when none has.
        """
        return await self._canary.probe()

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

    # -- streams ----------------------------------------------------------------------------------------

    def close(self, connection: Connection, reason: CloseReason) -> None:
        """End a stream with the events its reason calls for."""
        self.streams.close(connection, reason)

    def supersede(self, family: str) -> None:
        """End every stream of a family (W14)."""
        self.streams.supersede(family)

    def refresh(self, connection: Connection, granted: Subscription) -> Identity:
        """Extend a live stream in place; see `sseal.delivery.expiry.Expiry.refresh`."""
        return self.expiry.refresh(connection, granted)

    # -- the log ----------------------------------------------------------------------------------------

    async def publish(self, publications: Sequence[Publication], *, wait: bool = True) -> list[Position]:
        """Append to the log, all or nothing.

        :param wait: while overloaded, wait (True) or refuse with `TooManyRequests` (False).
        """
        await self.fan_out.room(wait=wait)
        offsets = await self.broker.publish(publications)
        epoch = self.broker.lineage.epoch
        return [Position(epoch, offset) for offset in offsets]

    def on_entries(self, entries: Sequence[Entry]) -> None:
        """Take the next entries of the log, in order and without holes, and fan them out; see `LogListener`."""
        epoch, now = self.window.epoch, self.clock.monotonic()
        for entry in entries:
            if entry.topics[0].startswith(CANARY_ROOT):
                self.window.skip_to(entry.offset)
                self._canary.on_received(entry.offset)
                continue
            frame = Frame(entry, epoch, now)
            self.window.append(frame)
            self.fan_out.add(frame)
        self.stats.published += len(entries)

    def on_epoch_change(self) -> None:
        """Go over to a new epoch of the log; see `LogListener`.

        Streams that have what the log no longer has are told so, and go on where the old epoch ends (W10).
        """
        old, lineage, head = self.window.epoch, self.broker.lineage, self.broker.head
        had = self.window.head if self.fan_out.idle else -1
        self.fan_out.forget()
        self.replay.forget()
        self.window.begin(lineage.epoch, head)
        for name in self.interest.names:
            self.window.cover(name, head)
        logger.warning("the log is in a new epoch", extra={"epoch": lineage.epoch, "head": head, "before": old})
        # Where nothing but the name has changed up to the head, whoever is live has it all, and gets the rest.
        unharmed = had >= head and head <= next((last for epoch, last in lineage.older if epoch == old), -1)
        for connection in list(self.connections.values()):
            was_at = Position(old, connection.position)
            where = lineage.resolve(was_at, head)
            if where.reason is None and unharmed and connection.state is State.LIVE:
                continue
            if where.reason is not None:
                connection.miss(where.reason, was_at, where.offset, from_oldest=where.oldest)
            self.replay.restart(connection)
        self.tasks.spawn(self.on_reconnect())  # the log of revocations may have begun anew too (W17)

    def on_gap(self, names: Sequence[str] | None, upto: int) -> None:
        """Let the readers of these topics ask the history, which knows what is lost; see `LogListener`."""
        self.replay.forget()
        some = None if names is None else set(names)
        for name in self.interest.names if some is None else self.interest.among(some):
            self.window.cover(name, upto)
        self.window.skip_to(upto)
        for connection in list(self.connections.values()):
            if some is None or not some.isdisjoint(connection.subscription.topics.names):
                self.replay.restart(connection)

    async def on_reconnect(self) -> None:
        """Hear of every revocation again before anything is delivered: their log may have begun anew (W17)."""
        await self.revocations.follow(anew=True)
