"""Slow readers: one whose sink is full reads at its own pace, one that takes nothing for too long is closed (W32)."""

from __future__ import annotations

from ..clock import Clock
from ..stream import reasons
from ..stream.connection import Connection
from .open_streams import OpenStreams

__all__ = ["SlowReaders"]


class SlowReaders:
    """What becomes of streams whose readers do not keep up. It costs nobody else anything.

    :param stall_timeout: seconds without progress after which a stream with a full sink is closed; it may resume.
    """

    def __init__(self, streams: OpenStreams, clock: Clock, stall_timeout: float) -> None:
        self._streams = streams
        self._clock = clock
        self._stall_timeout = stall_timeout

    def on_full(self, connection: Connection) -> None:
        """Let a stream whose sink has passed the high-water mark wait until that has room again."""
        connection.stall(self._clock.monotonic())

    def close_if_stalled(self, connection: Connection, now: float) -> bool:
        """Close a stream whose sink holds bytes, if it took none for too long; tell whether it was so.

        :param now: monotonic seconds.
        """
        if connection.progress_at > now - self._stall_timeout:
            return False
        self._streams.close(connection, reasons.STALLED)
        return True
