"""One open stream: its state, its position, and where its bytes go. No I/O, no clock, no queue."""

from __future__ import annotations

from typing import Final, Protocol

from ..position import Position
from ..subscription import Subscription
from .reasons import CloseReason
from .states import TABLE, Input, State

__all__ = ["HIGH_WATER", "Connection", "Sink", "SinkOwner"]

HIGH_WATER: Final = 16 * 1024
"""Bytes a sink may hold before its stream reads at its own pace (W32)."""


class Sink(Protocol):
    """Where the bytes of one stream go. None of its methods waits; all are no-ops once it is dead (W4)."""

    @property
    def chunked(self) -> bool:
        """Whether `put` takes HTTP/1.1 chunks (RFC 9112 section 7.1) rather than bare bytes."""
        ...

    @property
    def clear(self) -> bool:
        """Whether it is known without asking that nothing is buffered; the cheap half of `buffered`."""
        ...

    @property
    def buffered(self) -> int:
        """Bytes taken that have not reached the kernel."""
        ...

    def put(self, framed: bytes) -> None:
        """Take bytes in the framing that `chunked` names; what many streams share is framed once."""
        ...

    def write(self, data: bytes) -> None:
        """Take bare bytes, in order with what was put."""
        ...

    def close(self) -> None:
        """End the response after what was taken; give up after a second (W32)."""
        ...

    def abort(self) -> None:
        """End it now; what was taken may be lost."""
        ...


class SinkOwner(Protocol):
    """Whom a sink tells what happened to it. One object for all sinks of a node, so that a sink stays small."""

    @property
    def close_timeout(self) -> float:
        """Seconds a closing sink may take to hand over the rest (W32)."""
        ...

    def on_drained(self, connection: Connection) -> None:
        """Everything taken has reached the kernel: the stream may read on."""
        ...

    def on_disconnect(self, connection: Connection) -> None:
        """The client has left."""
        ...


class Connection:
    """One open stream. Its state, position and counters are changed by its methods alone.

    :ivar id: ``<node>.<random>``, so that commands find the node (W42).
    :ivar position: everything of its topics up to this offset was written, or was not its to read.
    :ivar token: the resume token in front of its ids, None on streams with plain ids.
    :ivar framing: how its frames are encoded: 2 for the JSON envelope, plus 1 for chunks.
    :ivar gap: reason of a gap that must be announced before anything else is written.
    """

    __slots__ = (
        "address",
        "closed_by",
        "delivered",
        "envelope",
        "expiring_sent",
        "family_kept_at",
        "framing",
        "from_oldest",
        "gap",
        "heartbeat_bucket",
        "id",
        "opened_at",
        "position",
        "presented",
        "progress_at",
        "reading",
        "retire_at",
        "sink",
        "state",
        "subscription",
        "token",
    )

    def __init__(
        self,
        connection_id: str,
        subscription: Subscription,
        position: int,
        *,
        presented: Position | None = None,
        gap: str | None = None,
        from_oldest: bool = False,
        token: bytes | None = None,
        envelope: bool = False,
        address: str = "",
        opened_at: float = 0.0,
    ) -> None:
        self.id = connection_id
        self.subscription = subscription
        self.position = position
        self.presented = presented  # what the client said it has seen; None once a gap was announced, or if nothing
        self.gap = gap
        self.from_oldest = from_oldest  # it reads from the oldest retained event on, whatever the window holds
        self.token = token
        self.envelope = envelope  # frames as one JSON each, `?envelope=1`
        self.framing = 2 * envelope
        self.address = address  # of the client; empty when the server does not say
        self.opened_at = opened_at  # monotonic seconds, as all times here
        self.progress_at = opened_at  # when its sink was last seen to take bytes
        self.family_kept_at = opened_at  # when the life of its resume family was last extended; set by the heartbeat
        self.state = State.CATCHING_UP
        self.sink: Sink | None = None  # None before it is attached, and again once the stream is closed
        self.reading = False  # a read of the history is under way for it; set by the replay
        self.expiring_sent = False  # it was told that its identity expires soon; set by the expiry
        self.delivered = 0  # events written
        self.heartbeat_bucket = 0  # where the heartbeat finds it
        self.retire_at: float | None = None  # when it reaches its greatest age, None for never; set by the maximum age
        self.closed_by: CloseReason | None = None

    def event_id(self, position: Position) -> str:
        """Return an event id for this stream: the position, on ticket streams with the resume token before it."""
        return str(position) if self.token is None else f"{self.token.decode()}_{position}"

    def start(self, epoch: str) -> Position:
        """Return the position it starts from: the presented one, unless that lies ahead of the log."""
        if self.presented is not None and self.gap != "ahead":
            return self.presented
        return Position(epoch, self.position)

    def apply(self, event: Input) -> State:
        """Move through the table; return the state it is in now."""
        self.state = TABLE[self.state, event]
        return self.state

    def attach(self, sink: Sink) -> None:
        """Write to this sink from now on, in its framing."""
        self.sink = sink
        self.framing = 2 * self.envelope + sink.chunked

    def close(self, reason: CloseReason) -> None:
        """Be closed, and let go of the sink."""
        self.apply(Input.CLOSE)
        self.closed_by = reason
        self.sink = None  # the two know each other: without this only the garbage collector frees them

    def progress(self, now: float) -> None:
        """Note that the reader takes what it is given."""
        self.progress_at = now

    def stall(self, now: float) -> None:
        """Read at its own pace from now on: its sink is full."""
        self.progress_at = now
        self.apply(Input.STALLED)

    def written(self, offset: int, count: int) -> None:
        """Move behind some events of which so many were written (W5)."""
        self.position = offset
        self.delivered += count

    def skip_to(self, offset: int) -> None:
        """Move to an offset up to which nothing is left for it to read; never back."""
        self.position = max(self.position, offset)

    def miss(self, reason: str, at: Position, offset: int, *, from_oldest: bool) -> None:
        """Go on at an offset, and owe the reader a gap that begins at a position it has; an older debt stands."""
        self.presented = self.presented or at
        self.gap = self.gap or reason
        self.from_oldest = from_oldest
        self.position = offset

    def oldest_found(self) -> None:
        """Read on from its position: what was the oldest retained event is known now."""
        self.from_oldest = False

    def gap_announced(self) -> None:
        """Owe the reader no gap any more."""
        self.gap = None
        self.presented = None

    def refresh(self, subscription: Subscription) -> None:
        """Follow a fresh identity with the same topics."""
        self.subscription = subscription
        self.expiring_sent = False
