"""One open stream: its state, its position, and where its bytes go. No I/O, no clock, no queue."""

from __future__ import annotations

from typing import Final, Protocol

from ..position import Position
from ..subscription import Subscription
from .reasons import CloseReason
from .states import TABLE, Input, State

__all__ = ["HIGH_WATER", "Connection", "Owner", "Sink"]

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


class Owner(Protocol):
    """Whom a sink tells what happened to it; the engine. One object for all sinks, so that a sink stays small."""

    @property
    def close_timeout(self) -> float:
        """Seconds a closing sink may take to hand over the rest (W32)."""
        ...

    def pump(self, connection: Connection) -> None:
        """Everything taken has reached the kernel: the stream may read on."""
        ...

    def gone(self, connection: Connection) -> None:
        """The client has left."""
        ...


class Connection:
    """One open stream.

    :ivar id: ``<node>.<random>``, so that commands find the node (W42).
    :ivar position: everything of its topics up to this offset was written, or was not its to read.
    :ivar token: the resume token in front of its ids, None on streams with plain ids.
    :ivar framing: how its frames are encoded: 2 for the JSON envelope, plus 1 for chunks.
    :ivar retire_at: when it has reached its greatest age (monotonic seconds), None for never.
    :ivar gap: reason of a gap that must be announced before anything else is written.
    """

    __slots__ = (
        "address",
        "bucket",
        "closed_by",
        "delivered",
        "envelope",
        "expiring_sent",
        "framing",
        "from_oldest",
        "gap",
        "id",
        "opened_at",
        "position",
        "presented",
        "progress_at",
        "reading",
        "retire_at",
        "sink",
        "slot",
        "state",
        "subscription",
        "token",
        "touched_at",
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
        self.presented = presented
        self.gap = gap
        self.from_oldest = from_oldest
        self.token = token
        self.envelope = envelope
        self.framing = 2 * envelope
        self.address = address
        self.opened_at = opened_at
        self.progress_at = opened_at
        self.touched_at = opened_at
        self.state = State.CATCHING_UP
        self.sink: Sink | None = None
        self.reading = False
        self.expiring_sent = False
        self.delivered = 0
        self.bucket = 0
        self.slot: int | None = None
        self.retire_at: float | None = None
        self.closed_by: CloseReason | None = None

    def wants(self, offset: int) -> bool:
        """Tell whether a new frame is to be written now: LIVE, and not given before (W5)."""
        return self.state is State.LIVE and self.position < offset

    def event_id(self, position: Position) -> str:
        """Return an event id for this stream: the position, on ticket streams with the resume token before it."""
        return str(position) if self.token is None else f"{self.token.decode()}_{position}"

    def apply(self, event: Input) -> State:
        """Move through the table; return the state it is in now."""
        self.state = TABLE[self.state, event]
        return self.state
