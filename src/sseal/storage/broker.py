"""What every log can do, and the values it takes and gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ..position import Lineage
from ..subscription import TopicSet

__all__ = ["CANARY_ROOT", "Broker", "Entry", "IdempotencyKey", "LogListener", "Page", "Publication", "Retention"]

CANARY_ROOT: Final = "$sseal/canary"
"""Topics below it are canaries: a log keeps the newest of each only, and they never count as lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """A publisher's promise that this is one event, however often it is sent (W20).

    ``scope`` separates publishers (issuer and subject), ``digest`` is a hash of topics and body.
    """

    scope: tuple[str, str]
    key: str
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One event before the log gave it an offset. Made by `sseal.publisher.publication`, valid by then.

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

    A log that outlives its process stores the retention of the last hub that opened it, so that publishers
    without a hub trim as the hubs do.

    The defaults hold ten minutes of 16 events a second, a generous reconnect, in about 64 MiB.
    """

    count: int = 10_000
    age: float = 3600.0
    size: int = 64 * 1024 * 1024


class LogListener(Protocol):
    """What a log tells its hub. All methods are called in the hub's event loop, the synchronous ones never wait."""

    def on_entries(self, entries: Sequence[Entry]) -> None:
        """Take the next entries of the topics listened to: in order of offsets, each once, without holes (W24).

        What a log hands out has been read back from it, the hub's own events too (W28). Entries of other topics
        may be among them. Canaries (topics below `CANARY_ROOT`) are handed out like all others.
        """
        ...

    def on_epoch_change(self) -> None:
        """Learn that the log is in another epoch: `Broker.lineage` and `Broker.head` are the new ones already.

        Every topic listened to is delivered from that head on. Entries of the old epoch beyond its last offset
        are gone, and what the hub keeps in memory may be wrong (W10).
        """
        ...

    def on_gap(self, names: Sequence[str] | None, upto: int) -> None:
        """Learn that entries of these topics and patterns (None: of all) up to an offset were not delivered.

        The log no longer had them, or there were too many. From that offset on everything is delivered again; the
        readers have to ask the history, which knows what is really lost (W24).
        """
        ...

    async def on_reconnect(self) -> None:
        """Do what has to be done before anything is delivered after the log had been out of reach (W17)."""
        ...


class Broker(Protocol):
    """One log, shared by all hubs that open it. All methods are called in the hub's event loop."""

    async def open(self, listener: LogListener | None) -> None:
        """Connect, and hand every later entry of the topics listened to to ``listener``; None only publishes.

        :raises Unavailable: the log cannot be reached now; may be called again.
        :raises InvalidInput: it can be reached but not be used (password, version, eviction policy, a file that is
            no log); names the setting ``broker`` and says what to do.
        """
        ...

    async def close(self) -> None:
        """Let go of everything; idempotent. What was being published is finished or refused first."""
        ...

    @property
    def lineage(self) -> Lineage:
        """The current epoch and those it continues."""
        ...

    @property
    def head(self) -> int:
        """The offset of the last entry handed out; after `open` that of the newest entry. 0 for an empty log."""
        ...

    @property
    def lost_since(self) -> float | None:
        """Since when the log cannot be reached (``Clock.monotonic``); None while it can."""
        ...

    async def newest(self) -> int:
        """Ask the log itself for the offset of its newest entry, which may not have been handed out yet.

        A new epoch is noticed by this too: `LogListener.on_epoch_change` is called before it returns.

        :raises Unavailable: the log cannot be read now.
        """
        ...

    def now(self) -> float:
        """Return the log's own Unix time, by which its entries are published and expire.

        A hub whose clock is set back or forward goes by this one (W25).
        """
        ...

    async def publish(self, publications: Sequence[Publication]) -> list[int]:
        """Append all or nothing, in order; return the offsets (a known key returns its first offset, W20).

        Returns when the log promises to keep them (sqlite: on disk; redis: in the primary's memory).

        :raises Conflict: a key is known with another digest; nothing was appended.
        :raises Unavailable: the log cannot take it now; nothing was appended. With ``code="outcome_unknown"`` it may
            have been appended: to repeat it with the same key is safe. Within 2 seconds (W9).
        """
        ...

    async def history(
        self, topics: TopicSet, after: int, upto: int | None = None, *, limit: int, since: Mapping[str, float]
    ) -> Page:
        """Read one snapshot ``after < offset <= upto`` of these topics, at most ``limit`` entries a page (W7).

        Through an index for exact topics, in bounded steps for patterns: a page may hold few entries or none and
        say ``more``. Entries whose time to live is over are left out, and are no loss. Canaries are left out too.

        :param upto: None for the head, read in the same snapshot.
        :param since: per topic or pattern text, Unix seconds before which a trimmed event is no loss (W21).
        :raises Unavailable: the log cannot be read now.
        """
        ...

    async def listen(self, names: Iterable[str]) -> int:
        """Make sure that these topics and patterns are delivered; return the offset from which on that is so.

        While the log is out of reach it returns `head`: everything from there on is delivered when it returns.
        """
        ...

    async def forget(self, names: Iterable[str]) -> None:
        """Stop delivering these topics and patterns, which no stream reads any more. Raises nothing.

        It counts from its first step on, before it waits for anything: a later `listen` is not undone by it.
        """
        ...
