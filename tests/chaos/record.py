"""What the checker is told: every publish, what every reader saw, and what the log holds at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sseal.position import Position

__all__ = [
    "Connected",
    "GapSeen",
    "History",
    "Opened",
    "Outcome",
    "Parted",
    "Publish",
    "ReaderRecord",
    "Received",
    "Seen",
]

Outcome = Literal["acknowledged", "refused", "unknown"]
"""What a publisher knows in the end. ``refused``: it was told that nothing was appended."""


@dataclass(slots=True)
class Publish:
    """One event somebody wanted to publish.

    :ivar payload: unlike that of any other event.
    :ivar number: counts the events of its publisher, who awaits each before the next.
    :ivar began: when its first request went out, on the clock of all records (seconds).
    :ivar position: what the acknowledgement says.
    """

    payload: str
    publisher: str
    number: int
    topics: tuple[str, ...]
    key: str | None
    began: float
    outcome: Outcome = "unknown"
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream began with ``auth``; None for a client that does not show the position."""

    at: float
    position: Position | None


@dataclass(frozen=True, slots=True)
class Received:
    """An event of the application was dispatched."""

    at: float
    position: Position
    payload: str


@dataclass(frozen=True, slots=True)
class GapSeen:
    """A ``gap`` was dispatched; ``start`` is None when the hub did not know the position presented."""

    at: float
    start: Position | None
    end: Position
    reason: str


@dataclass(frozen=True, slots=True)
class Parted:
    """A stream ended: with a ``bye``, cut, or refused; ``why`` says which."""

    at: float
    why: str


@dataclass(frozen=True, slots=True)
class Connected:
    """A request for a stream was answered, or could not be made (status 0)."""

    at: float
    last_event_id: str
    status: int


Seen = Opened | Received | GapSeen | Parted


@dataclass(slots=True)
class ReaderRecord:
    """One reader over all its connections.

    :ivar settled: whether it has had the last event of each of its topics. Of one that left before, only what lies
        before its last event is asked for.
    :ivar closed: how often an `EventSource` gave up for good, and its page had to ask for another way in (W15).
    """

    name: str
    kind: str
    topics: tuple[str, ...]
    seen: list[Seen] = field(default_factory=list)
    connects: list[Connected] = field(default_factory=list)
    settled: bool = False
    closed: int = 0

    @property
    def received(self) -> list[Received]:
        """Its events, in the order they came."""
        return [item for item in self.seen if isinstance(item, Received)]

    @property
    def gaps(self) -> list[GapSeen]:
        """The gaps it was told of."""
        return [item for item in self.seen if isinstance(item, GapSeen)]


@dataclass(frozen=True, slots=True)
class History:
    """A whole scenario.

    :ivar log: the payloads in the log at the end, read from the log itself, each with the offsets it stands at.
    :ivar keeps: whether the log promised to keep what it had acknowledged; not so where the scenario took its data.
    """

    publishes: Sequence[Publish]
    readers: Sequence[ReaderRecord]
    log: Mapping[str, Sequence[int]]
    keeps: bool = True
