"""Heartbeats: one line to every quiet stream. What has to be looked at from time to time is looked at with them."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Final, Protocol

from .. import wire
from ..hub_settings import HubSettings
from ..stream import reasons
from ..stream.connection import Connection
from ..stream.states import State
from .background import BackgroundTasks
from .deadlines import TICK_INTERVAL
from .open_streams import OpenStreams
from .slow_readers import SlowReaders

__all__ = ["FamilyKeeper", "Heartbeat"]

_FRAMES: Final = (wire.HEARTBEAT, b"%x\r\n%b\r\n" % (len(wire.HEARTBEAT), wire.HEARTBEAT))
"""Bare, and as a chunk; see `Connection.framing`."""


class FamilyKeeper(Protocol):
    """Where resume families are kept; see `sseal.identity_sources.tickets.Tickets`."""

    async def touch(self, family: str) -> str | None:
        """Extend the life of a family; return the node of its newest stream, None if there is no such family."""
        ...


class Heartbeat:
    """Writes heartbeats, evenly spread: a stream's turn comes with its bucket, once per interval.

    :param node: the name of this node: a family that has gone on to another one ends its stream here (W14).
    :param families: keeps the families of ticket streams alive; None when there are no tickets.
    """

    def __init__(
        self,
        streams: OpenStreams,
        slow_readers: SlowReaders,
        tasks: BackgroundTasks,
        settings: HubSettings,
        node: str,
        families: FamilyKeeper | None,
    ) -> None:
        self._streams = streams
        self._slow_readers = slow_readers
        self._tasks = tasks
        self._node = node
        self._families = families
        self._family_interval = settings.resume_ttl / 4  # seconds between two extensions of a family's life
        self._buckets: list[dict[str, Connection]] = [
            {} for _ in range(max(1, round(settings.heartbeat / TICK_INTERVAL)))
        ]
        self._interval = settings.heartbeat / len(self._buckets)  # seconds between the turns of two buckets
        self._filled = 0  # the bucket that got the newest stream
        self._next_bucket = 0
        self._next_at: float | None = None  # monotonic seconds of the next bucket's turn; None before the first

    def on_open(self, connection: Connection) -> None:
        """Give a new stream the next bucket."""
        connection.heartbeat_bucket = self._filled = (self._filled + 1) % len(self._buckets)
        self._buckets[connection.heartbeat_bucket][connection.id] = connection

    def on_close(self, connection: Connection) -> None:
        """Forget a stream."""
        self._buckets[connection.heartbeat_bucket].pop(connection.id, None)

    def tick(self, now: float) -> None:
        """Write the heartbeats that are due, close readers that took nothing for too long, keep families alive.

        With many streams most of a hub's idle time goes here, so it is one loop.

        :param now: monotonic seconds.
        """
        closed, slow_readers = State.CLOSED, self._slow_readers
        kept_before = -inf if self._families is None else now - self._family_interval
        for connection in self._due(now):
            sink = connection.sink
            if sink is None or connection.state is closed:
                continue
            if sink.clear or not sink.buffered:
                sink.put(_FRAMES[connection.framing & 1])
                connection.progress_at = now  # `Connection.progress`, in line
            elif slow_readers.close_if_stalled(connection, now):
                continue
            # Only ticket streams, which have a token, have a family to keep.
            if connection.token is not None and connection.family_kept_at < kept_before:
                connection.family_kept_at = now
                self._tasks.spawn(self.keep_family_alive(connection))

    def _due(self, now: float) -> Iterator[Connection]:
        """Yield the streams of the buckets whose turn has come; after a long pause each stream has one turn."""
        if self._next_at is None or now - self._next_at > self._interval * len(self._buckets):
            self._next_at = now
        while self._next_at <= now:
            self._next_at += self._interval
            bucket = self._buckets[self._next_bucket]
            self._next_bucket = (self._next_bucket + 1) % len(self._buckets)
            yield from list(bucket.values())

    async def keep_family_alive(self, connection: Connection) -> None:
        """Extend the life of a stream's family; end the stream if the family has gone on to another hub (W14)."""
        family = connection.subscription.identity.family
        if family is None or self._families is None:
            return
        if await self._families.touch(family) not in (None, self._node):
            self._streams.close(connection, reasons.SUPERSEDED)
