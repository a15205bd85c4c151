"""The memory log: order, idempotency, snapshots, retention."""

from __future__ import annotations

import pytest

from sseal.brokers import Draft, Entry, IdempotencyKey, MemoryBroker, Retention
from sseal.errors import Conflict, Unavailable
from sseal.subscription import TopicSet
from sseal.testing import ManualClock

NOTHING: dict[str, float] = {}


def make(topic: str, data: str = "", key: str | None = None, digest: bytes = b"d", **options: object) -> Draft:
    """Return a draft."""
    claim = None if key is None else IdempotencyKey(scope=("iss", "sub"), key=key, digest=digest)
    return Draft(topics=(topic,), type="message", data=data, key=claim, **options)  # type: ignore[arg-type]


async def opened(**options: object) -> tuple[MemoryBroker, ManualClock, list[Entry]]:
    """Return an open log, its clock, and what it delivered."""
    clock = ManualClock(wall=1000.0)
    broker = MemoryBroker(clock, Retention(**options))  # type: ignore[arg-type]
    got: list[Entry] = []
    await broker.open(got.extend)
    return broker, clock, got


async def test_offsets_are_contiguous_and_delivery_is_in_order() -> None:
    """One total order."""
    broker, _, got = await opened()
    assert await broker.publish([make("a"), make("b")]) == [1, 2]
    assert await broker.publish([make("a")]) == [3]
    assert [entry.offset for entry in got] == [1, 2, 3]
    assert broker.head == 3


async def test_a_closed_log_refuses_and_appends_nothing() -> None:
    """Publishing before open or after close is an error, never silence."""
    broker, _, _ = await opened()
    await broker.close()
    with pytest.raises(Unavailable):
        await broker.publish([make("a")])
    assert broker.head == 0


async def test_a_known_key_returns_its_first_offset() -> None:
    """The same event sent twice is one event (W20)."""
    broker, _, got = await opened()
    assert await broker.publish([make("a", key="k")]) == [1]
    assert await broker.publish([make("a", key="k"), make("b")]) == [1, 2]
    assert len(got) == 2


async def test_a_key_with_other_content_conflicts_and_nothing_is_appended() -> None:
    """A batch with one conflicting key is refused whole (W20)."""
    broker, _, got = await opened()
    await broker.publish([make("a", key="k")])
    with pytest.raises(Conflict):
        await broker.publish([make("b"), make("a", key="k", digest=b"other")])
    with pytest.raises(Conflict):
        await broker.publish([make("b", key="n"), make("a", key="n", digest=b"other")])
    assert len(got) == 1
    assert await broker.publish([make("b", key="n"), make("b", key="n")]) == [2, 2]


async def test_a_key_is_forgotten_after_a_day() -> None:
    """Idempotency keys are kept for 24 hours (W20)."""
    broker, clock, _ = await opened()
    await broker.publish([make("a", key="k")])
    clock.advance(24 * 3600.0 - 1)
    assert await broker.publish([make("a", key="k")]) == [1]
    clock.advance(2)
    assert await broker.publish([make("a", key="k")]) == [2]


async def test_history_is_one_snapshot_merged_by_offset() -> None:
    """Pages run across topics by offset, so that none is passed over (W7)."""
    broker, _, _ = await opened()
    for index in range(10):
        await broker.publish([make("a" if index % 2 else "b", str(index))])
    topics = TopicSet.of("a", "b")
    seen: list[int] = []
    after, upto, more = 0, None, True
    while more:
        page = await broker.history(topics, after, upto, limit=3, since=NOTHING)
        seen += [entry.offset for entry in page.entries]
        await broker.publish([make("a", "late")])  # after the snapshot's head
        after, upto, more = page.upto, upto or 10, page.more
    assert seen == list(range(1, 11))


async def test_history_of_patterns_reads_what_matches() -> None:
    """A pattern is replayed from the log."""
    broker, _, _ = await opened()
    await broker.publish([make("a/1"), make("b"), make("a/2/3")])
    page = await broker.history(TopicSet.of("a/**"), 0, limit=10, since=NOTHING)
    assert [entry.offset for entry in page.entries] == [1, 3]


@pytest.mark.parametrize("limits", [{"count": 2}, {"size": 1000}, {"age": 5.0}])
async def test_retention_trims_the_oldest_and_remembers_what_was_lost(limits: dict[str, object]) -> None:
    """Whatever limit is hit, the newest trimmed offset of each topic is known (W25)."""
    broker, clock, _ = await opened(**limits)
    await broker.publish([make("a", "x" * 10), make("b", "x" * 10)])
    clock.advance(6.0)
    await broker.publish([make("c", "x" * 10), make("c", "x" * 10)])
    assert (await broker.history(TopicSet.of("a"), 0, limit=10, since=NOTHING)).lost == 1
    assert (await broker.history(TopicSet.of("b"), 0, limit=10, since=NOTHING)).lost == 2
    assert (await broker.history(TopicSet.of("b"), 2, limit=10, since=NOTHING)).lost == 0
    assert (await broker.history(TopicSet.of("c"), 0, limit=10, since=NOTHING)).lost == 0
    assert (await broker.history(TopicSet.of("*"), 0, limit=10, since=NOTHING)).lost == 2
    assert (await broker.history(TopicSet.of("b"), 0, limit=10, since={"b": 1003.0})).lost == 0


async def test_a_new_log_is_a_new_epoch() -> None:
    """A memory log cannot prove that it continues another (W10)."""
    first, _, _ = await opened()
    second, _, _ = await opened()
    assert first.lineage.epoch != second.lineage.epoch
    assert first.lineage.older == ()
