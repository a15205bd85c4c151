"""What every log can do, and the values it takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..position import Lineage
from ..subscription import TopicSet

__all__ = ["Broker", "Deliver", "Draft", "Entry", "IdempotencyKey", "Page", "Retention"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """A publisher's promise that this is one event, however often it is sent (W20).

    ``scope`` separates publishers (issuer and subject), ``digest`` is a hash of topics and body.
    """

    scope: tuple[str, str]
    key: str
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One event before the log gave it an offset. Made by `sseal.publisher.draft`, valid by then.

    :param topics: one or more exact topics; one event, one offset, one delivery (W27).
    :param ttl: seconds it stays readable, None for as long as the log retains it.
    :param retry: milliseconds a reader shall wait before it reconnects, None for unchanged.
    """

    topics: tuple[str, ...]
    type: str
    data: str
    ttl: float | None = None
    retry: int | None = None
    key: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of the log. Times are Unix seconds of the broker's clock."""

    offset: int
    topics: tuple[str, ...]
    type: str
    data: str
    published_at: float
    expires_at: float | None = None
    retry: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a snapshot of the log.

    :param entries: in order of their offsets.
    :param upto: everything of the topics up to and including this offset has been given.
    :param more: whether the snapshot holds more after ``upto``.
    :param lost: offset of the newest event of these topics after the start that was trimmed, 0 if none.
    """

    entries: Sequence[Entry]
    upto: int
    more: bool
    lost: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much a log keeps. Whatever limit is hit first trims the oldest event.

    The defaults hold ten minutes of 16 events a second, a generous reconnect, in about 64 MiB.
    """

    count: int = 10_000
    age: float = 3600.0
    size: int = 64 * 1024 * 1024


Deliver = Callable[[Sequence[Entry]], None]
"""Called in the event loop with new entries, in order and without holes."""


class Broker(Protocol):
    """One log. All methods are called in the hub's event loop."""

    async def open(self, deliver: Deliver) -> None:
        """Connect, and hand every later entry to ``deliver``."""
        ...

    async def close(self) -> None:
        """Let go of everything; idempotent."""
        ...

    @property
    def lineage(self) -> Lineage:
        """The current epoch and those it continues."""
        ...

    @property
    def head(self) -> int:
        """The offset of the last entry handed out, 0 for an empty log."""
        ...

    async def publish(self, drafts: Sequence[Draft]) -> list[int]:
        """Append all or nothing, in order; return the offsets (a known key returns its first offset).

        :raises Conflict: a key is known with another digest; nothing was appended.
        :raises Unavailable: the log cannot take it now; nothing was appended.
        """
        ...

    async def history(
        self, topics: TopicSet, after: int, upto: int | None = None, *, limit: int, since: Mapping[str, float]
    ) -> Page:
        """Read one snapshot ``after < offset <= upto`` of these topics, at most ``limit`` entries a page (W7).

        :param upto: None for the head, read in the same snapshot.
        :param since: per topic or pattern text, Unix seconds before which a trimmed event is no loss (W21).
        """
        ...

    async def listen(self, topics: Iterable[str]) -> int:
        """Make sure that these topics are delivered; return the offset from which on that is so."""
        ...

    async def forget(self, topics: Iterable[str]) -> None:
        """Stop delivering these topics, which no stream reads any more."""
        ...
