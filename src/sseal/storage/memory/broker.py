"""A bounded log in the memory of one process: for tests, embedding, and hubs that need not remember."""

from __future__ import annotations

import secrets
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from sys import getsizeof
from typing import Final

from ...clock import Clock
from ...errors import Conflict, Unavailable
from ...position import EPOCH_ALPHABET, EPOCH_LENGTH, Lineage
from ...subscription import TopicSet
from ..broker import CANARY_ROOT, Entry, IdempotencyKey, LogListener, Page, Publication, Retention

__all__ = ["MemoryBroker"]

KEY_LIFETIME: Final = 24 * 3600.0
"""Seconds an idempotency key is remembered (W20)."""
MAX_KEYS: Final = 100_000
"""Keys remembered at once: about 30 MiB; the oldest goes first."""
MAX_TRIMMED: Final = 65_536
"""Topics whose newest trimmed offset is kept apart; older ones fall into the common floor (W25)."""
SCAN: Final = 1_000
"""Entries that one page looks through for patterns: about half a millisecond, and others get their turn."""
_ENTRY_OVERHEAD: Final = 400
"""Bytes an entry costs beside its text, measured with sys.getsizeof over its parts."""


class MemoryBroker:
    """The log of one process. A new one is a new epoch: it cannot prove that it continues anything."""

    def __init__(self, clock: Clock, retention: Retention | None = None) -> None:
        self._clock = clock
        self._retention = retention or Retention()
        self._lineage = Lineage("".join(secrets.choice(EPOCH_ALPHABET) for _ in range(EPOCH_LENGTH)))
        self._entries: list[Entry] = []  # in order of offsets; those before index _start are trimmed
        self._start = 0
        self._size = 0  # bytes of the entries that are not trimmed
        self._head = 0
        self._by_topic: dict[str, list[Entry]] = {}  # the same entries by topic, without the trimmed ones
        self._trimmed: dict[str, tuple[int, float]] = {}  # topic to offset and time of its newest trimmed entry
        self._floor = (0, 0.0)  # the same for all topics that are not in _trimmed
        self._keys: dict[tuple[tuple[str, str], str], tuple[bytes, int, float]] = {}  # to digest, offset, expiry
        self._intake: LogListener | None = None  # None while closed, and for a broker that only publishes
        self._opened_at = 0  # the head when it was opened
        self._open = False

    async def open(self, listener: LogListener | None) -> None:
        """Hand every later entry to ``listener``."""
        self._intake, self._open, self._opened_at = listener, True, self._head

    async def close(self) -> None:
        """Forget whom to hand entries to; the log itself stays readable."""
        self._intake, self._open = None, False

    @property
    def lineage(self) -> Lineage:
        """One epoch, no ancestors."""
        return self._lineage

    @property
    def head(self) -> int:
        """The offset of the last entry."""
        return self._head

    @property
    def lost_since(self) -> float | None:
        """Memory is always in reach."""
        return None

    async def newest(self) -> int:
        """Return the offset of the last entry."""
        return self._head

    def now(self) -> float:
        """Return the time of the process."""
        return self._clock.wall()

    async def publish(self, publications: Sequence[Publication]) -> list[int]:
        """Append all or nothing; see `Broker.publish`."""
        if not self._open:
            raise Unavailable("the log is closed", code="broker_closed")
        now = self._clock.wall()
        known = [self._known(publication.key, now) for publication in publications]
        fresh: list[Entry] = []
        offsets: list[int] = []
        claimed: dict[tuple[tuple[str, str], str], tuple[bytes, int]] = {}
        for publication, offset in zip(publications, known, strict=True):
            if offset is None and publication.key is not None:
                offset = _claimed(claimed, publication.key)
            if offset is None:
                offset = self._head + len(fresh) + 1
                expires_at = None if publication.ttl is None else now + publication.ttl
                fresh.append(
                    Entry(
                        offset,
                        publication.topics,
                        publication.type,
                        publication.data,
                        now,
                        expires_at,
                        publication.retry,
                    )
                )
                if publication.key is not None:
                    claimed[publication.key.scope, publication.key.key] = (publication.key.digest, offset)
            offsets.append(offset)
        for key, (digest, offset) in claimed.items():
            self._keys.pop(key, None)  # of yesterday: the new one goes to the end of the line
            self._keys[key] = (digest, offset, now + KEY_LIFETIME)
        while len(self._keys) > MAX_KEYS:
            del self._keys[next(iter(self._keys))]
        for entry in fresh:
            self._append(entry)
        self._trim(now)
        if fresh and self._intake is not None:
            self._intake.on_entries(fresh)
        return offsets

    async def history(
        self, topics: TopicSet, after: int, upto: int | None = None, *, limit: int, since: Mapping[str, float]
    ) -> Page:
        """Read one snapshot; see `Broker.history`. The index per topic makes it proportional to the answer."""
        now = self._clock.wall()
        self._trim(now)
        upto = self._head if upto is None else min(upto, self._head)
        found: dict[int, Entry] = {}
        scanned = False
        for topic in topics.exact:
            index = self._by_topic.get(topic, [])
            start = bisect_right(index, after, key=_offset)
            for entry in index[start : start + limit + 1]:
                found[entry.offset] = entry
        if topics.patterns:
            start = bisect_right(self._entries, after, lo=self._start, key=_offset)
            match = topics.matcher()
            step = self._entries[start : start + SCAN]
            found |= {entry.offset: entry for entry in step if match(entry.topics)}
            if len(step) == SCAN and step[-1].offset < upto:
                upto, scanned = step[-1].offset, True
        offsets = sorted(offset for offset in found if offset <= upto)
        cut = offsets[:limit]
        more = len(cut) < len(offsets)
        last = cut[-1] if more else max(upto, after)
        alive = [found[o] for o in cut if (end := found[o].expires_at) is None or end > now]
        lost = self._lost(topics, since)
        return Page(alive, last, more or scanned, lost if lost > after else 0)

    def _lost(self, topics: TopicSet, since: Mapping[str, float]) -> int:
        """Return the newest trimmed offset of these topics; topics without a record share the floor."""
        newest = 0
        for topic in topics.exact:
            offset, published_at = self._trimmed.get(topic, self._floor)
            if offset > newest and published_at >= since.get(topic, 0.0):
                newest = offset
        for pattern in topics.patterns:
            start = since.get(str(pattern), 0.0)
            for topic, (offset, published_at) in self._trimmed.items():
                if offset > newest and published_at >= start and pattern.matches(topic):
                    newest = offset
            if self._floor[0] > newest and self._floor[1] >= start:
                newest = self._floor[0]
        return newest

    async def listen(self, topics: Iterable[str]) -> int:
        """Everything is delivered anyway, since the log was opened."""
        del topics
        return self._opened_at

    async def forget(self, topics: Iterable[str]) -> None:
        """Nothing to do: delivery costs nothing here."""
        del topics

    def _known(self, key: IdempotencyKey | None, now: float) -> int | None:
        if key is None:
            return None
        record = self._keys.get((key.scope, key.key))
        if record is None or record[2] <= now:
            return None
        if record[0] != key.digest:
            raise Conflict(f"key: {key.key!r} was used before with other content")
        return record[1]

    def _append(self, entry: Entry) -> None:
        self._head = entry.offset
        if entry.topics[0].startswith(CANARY_ROOT):
            return  # it was seen alive; nobody reads it again
        self._entries.append(entry)
        self._size += _cost(entry)
        for topic in entry.topics:
            self._by_topic.setdefault(topic, []).append(entry)

    def _trim(self, now: float) -> None:
        keep = self._retention
        while (count := len(self._entries) - self._start) and (
            count > keep.count or self._size > keep.size or self._entries[self._start].published_at <= now - keep.age
        ):
            entry = self._entries[self._start]
            self._start += 1
            if self._start > len(self._entries) // 2:
                del self._entries[: self._start]
                self._start = 0
            self._size -= _cost(entry)
            # An event that expired by its own ttl is not missed by anybody (W25).
            missed = entry.expires_at is None or entry.expires_at > now
            for topic in entry.topics:
                index = self._by_topic[topic]
                del index[0]
                if not index:
                    del self._by_topic[topic]
                if missed:
                    self._trimmed.pop(topic, None)
                    self._trimmed[topic] = (entry.offset, entry.published_at)
        while len(self._trimmed) > MAX_TRIMMED:
            self._floor = max(self._floor, self._trimmed.pop(next(iter(self._trimmed))))


def _offset(entry: Entry) -> int:
    return entry.offset


def _claimed(claimed: dict[tuple[tuple[str, str], str], tuple[bytes, int]], key: IdempotencyKey) -> int | None:
    record = claimed.get((key.scope, key.key))
    if record is None:
        return None
    if record[0] != key.digest:
        raise Conflict(f"key: {key.key!r} stands twice in this request with different content")
    return record[1]


def _cost(entry: Entry) -> int:
    return getsizeof(entry.data) + _ENTRY_OVERHEAD
