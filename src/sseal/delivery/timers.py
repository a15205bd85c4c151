"""Timers of a hub: expiries and heartbeats in buckets. No task and no timer per stream."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator

from ..stream.connection import Connection

__all__ = ["Timers"]


class Timers:
    """Says which streams need attention. Time is an argument; removing a stream leaves nothing behind.

    :param heartbeat: seconds between two beats of one stream.
    :param tick: seconds between two looks; beats are spread over heartbeat / tick buckets, expiries rounded up.
    :param notice: seconds before its expiry that a stream is due for the first time.
    """

    def __init__(self, heartbeat: float, tick: float, notice: float) -> None:
        self._beats: list[dict[str, Connection]] = [{} for _ in range(max(1, round(heartbeat / tick)))]
        self._interval = heartbeat / len(self._beats)
        self._tick = tick
        self._notice = notice
        self._next_bucket = 0
        self._next_beat: float | None = None
        self._turn = 0
        self._slots: dict[int, dict[str, Connection]] = {}
        self._order: list[int] = []

    def __len__(self) -> int:
        """Count the streams that wait for an expiry."""
        return sum(map(len, self._slots.values()))

    def add(self, connection: Connection, ahead: float = 0.0) -> None:
        """Watch a stream; ``ahead`` as in `expect`."""
        connection.bucket = self._turn = (self._turn + 1) % len(self._beats)
        self._beats[connection.bucket][connection.id] = connection
        self.expect(connection, ahead)

    def remove(self, connection: Connection) -> None:
        """Watch it no more."""
        self._beats[connection.bucket].pop(connection.id, None)
        self._forget(connection)

    def expect(self, connection: Connection, ahead: float = 0.0) -> None:
        """Note the next moment of a stream: the notice of its identity's end, if that was given the end, or its age.

        :param ahead: by how much Unix seconds are ahead of monotonic ones. An age is monotonic: after a jump of the
            wall clock a stream may be due too early, and is then to be expected again.
        """
        self._forget(connection)
        moment = connection.subscription.identity.expires_at
        if moment is not None and not connection.expiring_sent:
            moment -= self._notice
        if connection.retire_at is not None:
            aged = connection.retire_at + ahead
            moment = aged if moment is None else min(moment, aged)
        if moment is None:
            return
        slot = math.ceil(moment / self._tick)
        if slot not in self._slots:
            self._slots[slot] = {}
            heapq.heappush(self._order, slot)
        self._slots[slot][connection.id] = connection
        connection.slot = slot

    def due(self, wall: float) -> Iterator[Connection]:
        """Yield the streams whose moment has come at ``wall`` (Unix seconds)."""
        while self._order and self._order[0] * self._tick <= wall:
            streams = self._slots.pop(heapq.heappop(self._order))
            for connection in streams.values():
                connection.slot = None
            yield from streams.values()

    def beat(self, mono: float) -> Iterator[Connection]:
        """Yield the streams whose heartbeat is due at ``mono`` (monotonic seconds)."""
        if self._next_beat is None or mono - self._next_beat > self._interval * len(self._beats):
            self._next_beat = mono
        while self._next_beat <= mono:
            self._next_beat += self._interval
            bucket = self._beats[self._next_bucket]
            self._next_bucket = (self._next_bucket + 1) % len(self._beats)
            yield from list(bucket.values())

    def _forget(self, connection: Connection) -> None:
        if connection.slot is not None and (streams := self._slots.get(connection.slot)) is not None:
            streams.pop(connection.id, None)
        connection.slot = None
