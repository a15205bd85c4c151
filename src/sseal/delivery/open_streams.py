"""The open streams of a node: registered, told something, closed for a reason, and taken out of everything."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from ..clock import Clock
from ..stream import reasons
from ..stream.connection import HIGH_WATER, Connection, Sink
from ..stream.reasons import CloseReason
from ..stream.states import State
from . import control_events
from .connection_index import ConnectionIndex
from .retry_jitter import jittered
from .stats import Stats
from .topic_index import TopicIndex
from .topic_interest import TopicInterest

__all__ = ["OpenStreams", "StreamListener"]

access = logging.getLogger("sseal.access")


class StreamListener(Protocol):
    """Who has to know which streams there are. Called in the event loop, never waits."""

    def on_open(self, connection: Connection) -> None:
        """A stream was registered; it has no sink yet."""
        ...

    def on_close(self, connection: Connection) -> None:
        """A stream is closed; it was registered, and this is said once."""
        ...


class OpenStreams:
    """Registers and closes streams.

    :param topics: the index of who reads what.
    :param interest: what the streams hold of the log's delivery is given back when they close.
    :param retry_ms: milliseconds after which clients come back, before jitter.
    :ivar index: finds streams by subject, family and more.
    :ivar listeners: told of each stream; set once, before the first.
    """

    def __init__(self, topics: TopicIndex, interest: TopicInterest, clock: Clock, stats: Stats, retry_ms: int) -> None:
        self.index = ConnectionIndex()
        self.listeners: Sequence[StreamListener] = ()
        self._topics = topics
        self._interest = interest
        self._clock = clock
        self._stats = stats
        self._retry_ms = retry_ms

    def register(self, connection: Connection) -> None:
        """Let a stream be found by its topics and by everything else; it begins when it gets its sink."""
        self.index.add(connection)
        self._topics.add(connection)
        for listener in self.listeners:
            listener.on_open(connection)
        self._stats.opened(connection.subscription.identity.auth_method)

    def unregister(self, connection: Connection, reason: CloseReason) -> None:
        """Take a stream out of everything, at once; calling it twice is fine."""
        if connection.id not in self.index.by_id:
            return
        connection.close(reason)
        self._topics.remove(connection)
        for listener in self.listeners:
            listener.on_close(connection)
        self.index.remove(connection)
        self._interest.unlisten(connection.subscription)
        self._stats.ended(reason.name)
        if access.isEnabledFor(logging.INFO):
            identity = connection.subscription.identity
            access.info(
                "stream closed",
                extra={
                    "connection": connection.id,
                    "auth_method": identity.auth_method,
                    "subject": identity.subject,
                    "seconds": round(self._clock.monotonic() - connection.opened_at, 3),
                    "delivered": connection.delivered,
                    "reason": reason.name,
                },
            )

    def close(self, connection: Connection, reason: CloseReason, *, retry_ms: int | None = None) -> None:
        """End a stream with the events its reason calls for.

        :param retry_ms: after what time its client may come back, if it is to be told.
        """
        if connection.state is State.CLOSED:
            return
        sink = connection.sink
        self.unregister(connection, reason)
        if sink is not None:
            self._end(connection, sink, reason, retry_ms)

    def end_unbegun(self, connection: Connection, sink: Sink) -> None:
        """End a stream that was closed before it had this sink: its client is told as any other, or would come back."""
        reason = connection.closed_by
        if reason is None:
            sink.abort()
        else:
            self._end(connection, sink, reason, jittered(self._retry_ms))

    def _end(self, connection: Connection, sink: Sink, reason: CloseReason, retry_ms: int | None) -> None:
        """Write the events with which a stream ends, and close its sink."""
        if reason in (reasons.CUT, reasons.STALLED):
            sink.abort()
            return
        events = control_events.closing_events(connection, reason, retry_ms)
        if events and sink.buffered <= HIGH_WATER:
            sink.write(events)
        sink.close()

    def close_retryable(self, connection: Connection, reason: CloseReason) -> None:
        """End a stream whose client may come back in a while."""
        self.close(connection, reason, retry_ms=jittered(self._retry_ms))

    def supersede(self, family: str | None, keep: Connection | None = None) -> None:
        """End every stream of a family but one (W14)."""
        for other in self.index.of_family(family):
            if other is not keep:
                self.close(other, reasons.SUPERSEDED)

    def notify(self, connection: Connection, session: str) -> None:
        """Tell a stream how its session stands, unless its sink is full.

        Such events do not pile up for a reader that takes nothing: a refresh has its HTTP answer beside them.
        """
        sink = connection.sink
        if connection.state is not State.CLOSED and sink is not None and sink.buffered <= HIGH_WATER:
            sink.write(control_events.auth_event(connection, session))
