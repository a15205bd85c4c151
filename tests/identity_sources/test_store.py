"""The store of one process: records that expire, one taker, an ordered log."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from asgi.driver import T0, HandClock
from sseal.errors import Unavailable
from sseal.identity_sources.store import MemoryStore


@pytest.fixture
def clock() -> HandClock:
    """Return a clock that stands."""
    return HandClock()


@pytest.fixture
def store(clock: HandClock) -> MemoryStore:
    """Return an empty store."""
    return MemoryStore(clock)


async def test_a_record_lives_until_its_moment(store: MemoryStore, clock: HandClock) -> None:
    """Up to its end it is there, at its end it is not, for every kind of reading."""
    await store.put("k", b"v", T0 + 10)
    clock.turn(9.9)
    assert await store.get("k") == b"v"
    clock.turn(0.1)
    assert await store.get("k") is None
    assert await store.take("k") is None
    assert len(store) == 0


async def test_of_all_takers_one_gets_it(store: MemoryStore) -> None:
    """Reading and deleting is one step, so a ticket is spent once."""
    await store.put("k", b"v", T0 + 10)
    taken = await asyncio.gather(*(store.take("k") for _ in range(5)))
    assert sorted(taken, key=bool) == [None, None, None, None, b"v"]
    assert await store.get("k") is None


SWAPS = [
    # there, expected, new, swapped, there afterwards
    (b"a", b"a", b"b", True, b"b"),
    (b"a", b"x", b"b", False, b"a"),
    (b"a", None, b"b", False, b"a"),
    (None, None, b"b", True, b"b"),
    (None, b"a", b"b", False, None),
    (b"a", b"a", None, True, None),
    (b"a", b"x", None, False, b"a"),
    (None, None, None, True, None),
]


@pytest.mark.parametrize(("there", "expected", "new", "swapped", "after"), SWAPS)
async def test_law_of_the_swap(
    store: MemoryStore, there: bytes | None, expected: bytes | None, new: bytes | None, swapped: bool, after: bytes
) -> None:
    """It writes only over what the caller has seen."""
    if there is not None:
        await store.put("k", there, T0 + 10)
    assert await store.swap("k", expected, new, T0 + 10) is swapped
    assert await store.get("k") == after


async def test_an_expired_record_counts_as_absent_in_a_swap(store: MemoryStore, clock: HandClock) -> None:
    """Nobody can prolong what is over."""
    await store.put("k", b"a", T0 + 10)
    clock.turn(10)
    assert not await store.swap("k", b"a", b"b", T0 + 99)
    assert await store.swap("k", None, b"b", T0 + 99)


async def test_a_full_store_refuses_and_keeps_what_it_has(clock: HandClock) -> None:
    """New records are refused for now; old ones may be rewritten, and expired ones make room."""
    store = MemoryStore(clock, max_records=2)
    await store.put("a", b"1", T0 + 10)
    await store.put("b", b"2", T0 + 99)
    with pytest.raises(Unavailable) as caught:
        await store.put("c", b"3", T0 + 99)
    assert caught.value.code == "store_full"
    await store.put("b", b"4", T0 + 99)
    clock.turn(10)
    await store.put("c", b"3", T0 + 99)
    assert [await store.get(key) for key in "abc"] == [None, b"4", b"3"]


async def test_rewriting_does_not_grow_the_store(store: MemoryStore) -> None:
    """A family touched for days leaves no trail of old expiries."""
    for number in range(20_000):
        await store.put("k", b"v", T0 + 10 + number)
    assert len(store) == 1
    assert len(store._expiry) < 5_000


async def test_a_prolonged_record_outlives_its_first_end(store: MemoryStore, clock: HandClock) -> None:
    """The old end of a record is not its end any more."""
    await store.put("k", b"v", T0 + 10)
    await store.put("k", b"v", T0 + 20)
    clock.turn(15)
    assert len(store) == 1
    assert await store.get("k") == b"v"


async def test_the_revocation_log_is_ordered_and_signalled(store: MemoryStore) -> None:
    """Every hub reads on from where it was; a signal says that there is more (W17)."""
    signals = []
    await store.open(lambda: signals.append(1))
    numbers = [await store.revoke(record, T0 + 99) for record in (b"a", b"b", b"c")]
    assert numbers == sorted(set(numbers))
    assert [record for _, record in await store.revocations(0)] == [b"a", b"b", b"c"]
    assert await store.revocations(numbers[0]) == [(numbers[1], b"b"), (numbers[2], b"c")]
    assert await store.revocations(numbers[2]) == []
    assert len(signals) == 3
    await store.close()
    await store.close()
    await store.revoke(b"d", T0 + 99)
    assert len(signals) == 3


async def test_the_revocation_log_forgets_what_is_over(store: MemoryStore, clock: HandClock) -> None:
    """Numbers go on, entries that concern nothing any more go."""
    await store.revoke(b"a", T0 + 10)
    clock.turn(10)
    last = await store.revoke(b"b", T0 + 99)
    assert await store.revocations(0) == [(last, b"b")]
    assert last == 2


class StoreAgainstDict(RuleBasedStateMachine):
    """Whatever is done in whatever order, the store agrees with a plain dictionary."""

    keys = st.sampled_from("abc")

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.store = MemoryStore(self.clock)
        self.model: dict[str, tuple[bytes, float]] = {}

    def _run(self, coroutine):
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("the store of one process never waits")

    def _model(self, key: str) -> bytes | None:
        value = self.model.get(key)
        return value[0] if value is not None and value[1] > self.clock.now else None

    @rule(key=keys, value=st.binary(max_size=2), life=st.integers(1, 5))
    def put(self, key: str, value: bytes, life: int) -> None:
        """Write."""
        self._run(self.store.put(key, value, self.clock.now + life))
        self.model[key] = (value, self.clock.now + life)

    @rule(key=keys)
    def take(self, key: str) -> None:
        """Read and delete."""
        assert self._run(self.store.take(key)) == self._model(key)
        self.model.pop(key, None)

    @rule(seconds=st.integers(0, 4))
    def turn(self, seconds: int) -> None:
        """Let time pass."""
        self.clock.turn(seconds)

    @invariant()
    def agree(self) -> None:
        """Reading and counting give what the dictionary gives."""
        for key in "abc":
            assert self._run(self.store.get(key)) == self._model(key)
        assert len(self.store) == sum(self._model(key) is not None for key in "abc")


TestStoreAgainstDict = StoreAgainstDict.TestCase
