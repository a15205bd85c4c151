"""The memory log beyond what every log promises (test_conformance.py): its bounds, and what they cost."""

from __future__ import annotations

import pytest

from sseal.storage import IdempotencyKey, MemoryBroker, Publication, Retention
from sseal.storage.memory import broker as memory
from sseal.subscription import NO_BOUNDS, TopicSet
from sseal.testing import ManualClock
from sseal.testing.conformance.hubs import LogRecorder


def make(topic: str, data: str = "", key: str | None = None, digest: bytes = b"d") -> Publication:
    """Return a draft."""
    claim = None if key is None else IdempotencyKey(scope=("iss", "sub"), key=key, digest=digest)
    return Publication(topics=(topic,), type="message", data=data, key=claim)


async def opened(retention: Retention | None = None) -> tuple[MemoryBroker, ManualClock, LogRecorder]:
    """Return an open log, its clock, and what it was told."""
    clock = ManualClock(wall=1000.0)
    broker = MemoryBroker(clock, retention)
    told = LogRecorder()
    await broker.open(told)
    return broker, clock, told


async def lost(broker: MemoryBroker, *names: str) -> int:
    """Return what is lost of these topics."""
    return (await broker.history(TopicSet.of(*names), 0, limit=10, since=NO_BOUNDS)).lost


async def test_a_new_log_is_a_new_epoch() -> None:
    """A memory log cannot prove that it continues another (W10)."""
    first, _, _ = await opened()
    second, _, _ = await opened()
    assert first.lineage.epoch != second.lineage.epoch
    assert first.lineage.older == ()


async def test_offsets_have_no_holes() -> None:
    """Beyond being in order they are contiguous, canaries and refused batches included."""
    broker, _, told = await opened()
    assert await broker.publish([make("a"), make("b")]) == [1, 2]
    assert await broker.publish([make("a")]) == [3]
    assert [entry.offset for entry in told.entries] == [1, 2, 3]


async def test_what_has_gone_by_while_closed_is_not_confirmed() -> None:
    """A log opened again confirms a topic from its head on, since nothing before it is handed out any more."""
    broker, _, _ = await opened()
    assert await broker.listen(["a"]) == 0
    await broker.publish([make("a")] * 3)
    await broker.close()
    told = LogRecorder()
    await broker.open(told)
    assert await broker.listen(["a"]) == 3
    await broker.publish([make("a")])
    assert [entry.offset for entry in told.entries] == [4]


async def test_topics_beyond_the_bound_share_a_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bookkeeping of what was trimmed is bounded; those that fall out are told of a loss, rather than not (W25)."""
    monkeypatch.setattr(memory, "MAX_TRIMMED", 3)
    broker, _, _ = await opened(Retention(count=1))
    await broker.publish([make(f"t{index}") for index in range(6)])
    assert len(broker._trimmed) == 3
    assert [await lost(broker, f"t{index}") for index in range(6)] == [2, 2, 3, 4, 5, 2]
    assert await lost(broker, "*") == 5
    assert await lost(broker, "never/*") == 2


async def test_keys_are_bounded_and_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of keys costs bounded memory; a key used anew after its day is as new as it is."""
    monkeypatch.setattr(memory, "MAX_KEYS", 3)
    broker, clock, _ = await opened()
    await broker.publish([make("a", key=f"k{index}") for index in range(3)])
    clock.advance(24 * 3600.0)
    assert await broker.publish([make("a", key="k0")]) == [4]
    assert await broker.publish([make("a", key="k3"), make("a", key="k4")]) == [5, 6]
    assert await broker.publish([make("a", key="k0"), make("a", key="k4")]) == [4, 6]
    assert len(broker._keys) == 3


async def test_a_pattern_is_read_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page looks through a bounded part of the log, so that a rare topic does not stop the loop."""
    monkeypatch.setattr(memory, "SCAN", 10)
    broker, _, _ = await opened()
    await broker.publish([make("x/1" if index == 24 else "a") for index in range(30)])
    topics, after, pages, found = TopicSet.of("x/*"), 0, 0, []
    more = True
    while more:
        page = await broker.history(topics, after, 30, limit=5, since=NO_BOUNDS)
        found += [entry.offset for entry in page.entries]
        after, more, pages = page.upto, page.more, pages + 1
    assert found == [25]
    assert pages == 3
    assert after == 30


async def test_a_page_costs_as_much_as_it_holds() -> None:
    """One page of a topic with many events does not walk through all of them."""

    class Counting(list):  # type: ignore[type-arg]
        """Counts what is taken out of it."""

        taken = 0

        def __getitem__(self, index):
            got = super().__getitem__(index)
            if isinstance(index, slice):
                Counting.taken += len(got)
            return got

    broker, _, _ = await opened()
    await broker.publish([make("a")] * 5_000)
    broker._by_topic["a"] = Counting(broker._by_topic["a"])
    page = await broker.history(TopicSet.of("a"), 100, limit=10, since=NO_BOUNDS)
    assert [entry.offset for entry in page.entries] == list(range(101, 111))
    assert page.more
    assert Counting.taken < 20
