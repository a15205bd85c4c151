"""The store of one process beyond what every store promises (test_store_conformance.py): its bounds, and a model."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from asgi.driver import T0
from sseal.errors import Unavailable
from sseal.storage import MemoryStore
from sseal.testing import ManualClock
from sseal.testing.conformance.nodes import StoreRecorder


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that stands."""
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    """Return an empty store."""
    return MemoryStore(clock)


async def test_a_full_store_refuses_and_keeps_what_it_has(clock: ManualClock) -> None:
    """New records are refused for now; old ones may be rewritten, and expired ones make room."""
    store = MemoryStore(clock, max_records=2)
    await store.put("a", b"1", T0 + 10)
    await store.put("b", b"2", T0 + 99)
    with pytest.raises(Unavailable) as caught:
        await store.put("c", b"3", T0 + 99)
    assert caught.value.code == "store_full"
    await store.put("b", b"4", T0 + 99)
    clock.advance(10)
    await store.put("c", b"3", T0 + 99)
    assert [await store.get(key) for key in "abc"] == [None, b"4", b"3"]


async def test_rewriting_does_not_grow_the_store(store: MemoryStore) -> None:
    """A family touched for days leaves no trail of old expiries."""
    for number in range(20_000):
        await store.put("k", b"v", T0 + 10 + number)
    assert len(store) == 1
    assert len(store._expiry) < 5_000


async def test_a_prolonged_record_outlives_its_first_end(store: MemoryStore, clock: ManualClock) -> None:
    """The old end of a record is not its end any more."""
    await store.put("k", b"v", T0 + 10)
    await store.put("k", b"v", T0 + 20)
    clock.advance(15)
    assert len(store) == 1
    assert await store.get("k") == b"v"


async def test_a_closed_store_signals_nothing(store: MemoryStore) -> None:
    """A hub that has gone is not called back."""
    recorder = StoreRecorder()
    await store.open("node", recorder)
    await store.revoke(b"a", T0 + 99)
    await store.close()
    await store.revoke(b"b", T0 + 99)
    assert recorder.revocation_signals == 1


class StoreAgainstDict(RuleBasedStateMachine):
    """Whatever is done in whatever order, the store agrees with a plain dictionary."""

    keys = st.sampled_from("abc")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
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
        return value[0] if value is not None and value[1] > self.clock.wall() else None

    @rule(key=keys, value=st.binary(max_size=2), life=st.integers(1, 5))
    def put(self, key: str, value: bytes, life: int) -> None:
        """Write."""
        self._run(self.store.put(key, value, self.clock.wall() + life))
        self.model[key] = (value, self.clock.wall() + life)

    @rule(key=keys)
    def take(self, key: str) -> None:
        """Read and delete."""
        assert self._run(self.store.take(key)) == self._model(key)
        self.model.pop(key, None)

    @rule(seconds=st.integers(0, 4))
    def turn(self, seconds: int) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @invariant()
    def agree(self) -> None:
        """Reading and counting give what the dictionary gives."""
        for key in "abc":
            assert self._run(self.store.get(key)) == self._model(key)
        assert len(self.store) == sum(self._model(key) is not None for key in "abc")


TestStoreAgainstDict = StoreAgainstDict.TestCase


async def test_the_revocation_log_has_a_bound_too(clock: ManualClock) -> None:
    """Beyond it a revocation is refused, which the hub that applied it already tells; expired ones make room."""
    store = MemoryStore(clock, max_records=2)
    for end in (T0 + 10, T0 + 99):
        await store.revoke(b"r", end)
    with pytest.raises(Unavailable) as caught:
        await store.revoke(b"r", T0 + 99)
    assert caught.value.code == "store_full"
    clock.advance(10)
    assert await store.revoke(b"r", T0 + 99) == 3
