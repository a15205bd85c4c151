"""Draining: a hub that shuts down refuses new streams and ends the open ones, spread evenly over a while."""

from __future__ import annotations

import random

from ..clock import Clock
from ..stream import reasons
from ..stream.reasons import CloseReason
from .open_streams import OpenStreams
from .pacing import spread

__all__ = ["Drain"]


class Drain:
    """Ends all streams of a node so that their clients do not come back as one wave.

    :param window: seconds over which they end.
    :ivar draining: the hub is shutting down.
    """

    def __init__(self, streams: OpenStreams, clock: Clock, window: float) -> None:
        self.draining = False
        self._streams = streams
        self._clock = clock
        self._window = window

    async def drain(self) -> None:
        """Refuse new streams, say ``bye`` to all, spread over the drain window; returns when all are closed."""
        self.draining = True
        await self.disconnect_all(reasons.DRAINING)

    async def disconnect_all(self, reason: CloseReason) -> None:
        """End all streams, spread evenly over the drain window; their clients may come back."""
        connections = list(self._streams.index.by_id.values())
        random.shuffle(connections)  # the oldest are often of the same people
        await spread(
            connections,
            self._window,
            lambda connection: self._streams.close_retryable(connection, reason),
            now=self._clock.monotonic,
        )
