"""The maximum age of a stream: those that came together do not end together."""

from __future__ import annotations

import random
from typing import Final

from ..clock import Clock
from ..stream import reasons
from ..stream.connection import Connection
from .deadlines import Deadlines
from .open_streams import OpenStreams

__all__ = ["AGE_SPREAD", "MaxAge"]

AGE_SPREAD: Final = (0.8, 1.0)
"""Which parts of ``max_stream_age`` streams reach, so that none is older and they do not end together."""


class MaxAge:
    """Ends streams that are as old as a stream may be; their clients come back.

    :param max_stream_age: seconds; 0 for no limit.
    """

    def __init__(self, streams: OpenStreams, clock: Clock, max_stream_age: float) -> None:
        self._streams = streams
        self._clock = clock
        self._max_stream_age = max_stream_age
        self._deadlines = Deadlines()  # in monotonic seconds: a corrected wall clock makes no stream old

    def on_open(self, connection: Connection) -> None:
        """Choose when a new stream has to end."""
        if self._max_stream_age > 0:
            age = self._max_stream_age * random.uniform(*AGE_SPREAD)  # noqa: S311 - not a secret
            connection.retire_at = self._clock.monotonic() + age
            self._deadlines.add(connection, connection.retire_at)

    def on_close(self, connection: Connection) -> None:
        """Forget a stream."""
        if connection.retire_at is not None:
            self._deadlines.remove(connection, connection.retire_at)

    def tick(self, now: float) -> None:
        """Close the streams that are old enough.

        :param now: monotonic seconds.
        """
        for connection in self._deadlines.due(now):
            self._streams.close_retryable(connection, reasons.MAX_AGE)
