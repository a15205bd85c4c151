"""What sinks tell a node: they have room again, or their client has left."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

from ..stream import reasons
from ..stream.connection import Connection, Sink
from ..stream.states import Input, State
from .open_streams import OpenStreams
from .replay import Replay

__all__ = ["NodeSinks"]

SLICE: Final = 0.002
"""Seconds of taking out disconnected streams before other callbacks get their turn."""


class NodeSinks:
    """The owner of all sinks of a node; see `sseal.stream.connection.SinkOwner`.

    :param close_timeout: seconds a closing sink may take to hand over the rest (W32).
    """

    def __init__(self, streams: OpenStreams, replay: Replay, close_timeout: float) -> None:
        self.close_timeout = close_timeout
        self._streams = streams
        self._replay = replay
        self._disconnected: deque[Connection] = deque()  # still registered, in the order in which their clients left

    def attach(self, connection: Connection, sink: Sink) -> None:
        """Give a registered stream the sink that holds its head and first events, and let it read."""
        if connection.state is State.CLOSED:
            self._streams.end_unbegun(connection, sink)
            return
        connection.attach(sink)
        self._replay.read_on(connection)

    def on_drained(self, connection: Connection) -> None:
        """Let a stream that is catching up read on."""
        self._replay.read_on(connection)

    def on_disconnect(self, connection: Connection) -> None:
        """Take a stream out whose client has left.

        Nothing is written to it from now on. When many leave at once they are taken out, and their sockets
        closed, in slices.
        """
        connection.apply(Input.CLOSE)
        self._disconnected.append(connection)
        if len(self._disconnected) == 1:
            asyncio.get_running_loop().call_soon(self._unregister_some)

    def _unregister_some(self) -> None:
        end = time.perf_counter() + SLICE
        while self._disconnected:
            connection = self._disconnected.popleft()
            sink = connection.sink
            self._streams.unregister(connection, reasons.CLIENT_GONE)
            if sink is not None:
                sink.abort()
            if time.perf_counter() > end:
                break
        if self._disconnected:
            asyncio.get_running_loop().call_soon(self._unregister_some)
