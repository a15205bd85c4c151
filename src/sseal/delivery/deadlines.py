"""Streams by the moment at which something is due for them. No task and no timer per stream."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Final

from ..stream.connection import Connection

__all__ = ["TICK_INTERVAL", "Deadlines"]

TICK_INTERVAL: Final = 0.25
"""Seconds between two looks at the timers of a node."""


class Deadlines:
    """Says which streams are due. Time is an argument; removing a stream leaves nothing of it behind.

    Moments are rounded up to whole ticks: streams of one tick share a slot.
    """

    def __init__(self, tick: float = TICK_INTERVAL) -> None:
        self._tick = tick  # seconds of a slot
        self._slots: dict[int, dict[str, Connection]] = {}  # by number of ticks; streams by id
        self._order: list[int] = []  # a heap of the slots' numbers; some may be of slots that have become empty

    def __len__(self) -> int:
        """Count the streams that wait."""
        return sum(map(len, self._slots.values()))

    def add(self, connection: Connection, moment: float) -> None:
        """Have a stream be due at a moment."""
        slot = math.ceil(moment / self._tick)
        if slot not in self._slots:
            self._slots[slot] = {}
            heapq.heappush(self._order, slot)
        self._slots[slot][connection.id] = connection

    def remove(self, connection: Connection, moment: float) -> None:
        """Have it be due no more at the moment it was added with; one that was due already is fine."""
        if (streams := self._slots.get(math.ceil(moment / self._tick))) is not None:
            streams.pop(connection.id, None)

    def due(self, now: float) -> Iterator[Connection]:
        """Yield and forget the streams whose moment has come; they may be added again, for a later one."""
        while self._order and self._order[0] * self._tick <= now:
            yield from self._slots.pop(heapq.heappop(self._order)).values()
