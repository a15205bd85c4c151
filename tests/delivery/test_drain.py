"""Streams that end because the hub wants it: evenly at a drain, and each at its greatest age."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace

import pytest

from delivery.harness import NodeHarness
from sseal.auth.identity import Identity
from sseal.delivery.max_age import AGE_SPREAD
from sseal.delivery.pacing import STEP, spread
from sseal.testing import ManualClock

STREAMS = 5_000
RETRY = 3.0
"""Seconds a client waits by default, jittered by a quarter."""


async def ends(window: float, late: float = 0.0, blocked: tuple[float, float] = (0.0, 0.0)) -> list[float]:
    """Spread 5,000 ends on a clock turned by hand; return when each came, in seconds from the start.

    :param late: by how much every sleep is late.
    :param blocked: after what time the loop stands still once, and for how long.
    """
    clock = ManualClock()
    start, stood = clock.monotonic(), False
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal stood
        clock.advance(seconds + late)
        if blocked[1] and not stood and clock.monotonic() - start >= blocked[0]:
            stood = True
            clock.advance(blocked[1])

    await spread(
        range(STREAMS), window, lambda _: found.append(clock.monotonic() - start), now=clock.monotonic, sleep=sleep
    )
    return found


def peak(moments: list[float], pieces: int = 10) -> float:
    """Return how many times the mean rate the fullest of so many equal pieces of time has."""
    first, length = min(moments), max(moments) - min(moments) + STEP
    counts = Counter(int((moment - first) / length * pieces) for moment in moments)
    return max(counts.values()) / (len(moments) / pieces)


@pytest.mark.parametrize("window", [0.5, 3.0, 30.0])
@pytest.mark.parametrize("late", [0.0, 0.002, 0.05])
async def test_a_drain_never_peaks_above_twice_its_mean(window: float, late: float) -> None:
    """All streams end at an even rate, in about the window if the event loop is in time; so do the reconnects."""
    moments = await ends(window, late)
    assert len(moments) == STREAMS
    assert peak(moments) < 1.5
    assert max(moments) <= window * (1 + late / STEP)
    chance = random.Random(1)
    assert peak([moment + RETRY * chance.uniform(0.75, 1.25) for moment in moments]) < 2.0


async def test_a_loop_that_stood_still_is_not_made_up_for_by_a_wave() -> None:
    """After half a window without an end the rest comes a little faster, and not all at once."""
    moments = await ends(10.0, blocked=(2.0, 5.0))
    assert len(moments) == STREAMS
    assert peak(moments) < 2.0


async def test_a_clock_that_stands_still_holds_no_drain_up() -> None:
    """Sleeping counts as time even where the clock does not show it."""
    clock, done = ManualClock(), []

    async def sleep(seconds: float) -> None:
        del seconds

    await spread(range(100), 1.0, done.append, now=clock.monotonic, sleep=sleep)
    assert done == list(range(100))


@pytest.mark.parametrize(("count", "window"), [(0, 5.0), (1, 5.0), (7, 0.0)])
async def test_one_stream_or_no_window_ends_at_once(count: int, window: float) -> None:
    """There is nothing to spread, so nobody waits."""

    async def never(seconds: float) -> None:
        raise AssertionError(seconds)

    done: list[int] = []
    await spread(range(count), window, done.append, now=ManualClock().monotonic, sleep=never)
    assert done == list(range(count))


def reasons_of(world: NodeHarness) -> dict[str, int]:
    """Return why streams ended so far."""
    return dict(world.node.stats.closed)


async def test_a_stream_ends_at_its_greatest_age_and_may_come_back() -> None:
    """Between 80 and 100 % of `max_stream_age` each says `bye`, at different moments, and none gets older."""
    async with NodeHarness(max_stream_age=1000.0) as world:
        start = world.clock.monotonic()
        readers = [await world.read("a") for _ in range(200)]
        ages: list[float] = []
        while any(not reader.sink.closed for reader in readers):
            before = len(world.node.connections)
            world.clock.advance(0.25)
            world.node.tick()
            ages += [world.clock.monotonic() - start] * (before - len(world.node.connections))
        assert 1000.0 * AGE_SPREAD[0] <= min(ages) < 850.0
        assert 950.0 < max(ages) <= 1000.5
        assert max(Counter(ages).values()) < 10
        assert json.loads(readers[0].events[-1].data) == {"reason": "max_age", "reconnect": True}
        assert readers[0].sink.data.count(b"retry: ") == 2  # a jittered one comes with the end
        assert reasons_of(world) == {"max_age": 200}
        assert len(world.node.expiry) == 0


async def test_a_stream_has_no_greatest_age_unless_one_is_set() -> None:
    """By default a stream lives as long as its identity."""
    async with NodeHarness() as world:
        reader = await world.read("a")
        for _ in range(100):
            world.clock.advance(3600.0)
            world.node.tick()
            reader.drain()
        assert not reader.sink.closed


async def test_an_identity_that_ends_earlier_ends_the_stream_as_ever() -> None:
    """Age and expiry share one heap: the earlier wins, and a refresh moves only the expiry."""
    async with NodeHarness(max_stream_age=1000.0) as world:
        identity = Identity(subject="alice", issued_at=1.0, expires_at=world.clock.wall() + 100.0, auth_method="bearer")
        expiring, refreshed = await world.read("a", identity=identity), await world.read("a", identity=identity)
        fresh = replace(identity, expires_at=world.clock.wall() + 5000.0)
        world.node.refresh(refreshed.connection, replace(refreshed.connection.subscription, identity=fresh))
        for _ in range(110):
            world.clock.advance(1.0)
            world.node.tick()
        assert reasons_of(world) == {"expired": 1}
        for _ in range(900):
            world.clock.advance(1.0)
            world.node.tick()
        assert expiring.sink.closed
        assert refreshed.sink.closed
        assert reasons_of(world) == {"expired": 1, "max_age": 1}


async def test_a_jump_of_the_clock_makes_no_stream_old() -> None:
    """A corrected wall clock moves expiries and no ages: else all streams would leave at once."""
    async with NodeHarness(max_stream_age=1000.0) as world:
        reader = await world.read("a")
        world.clock.jump(86_400.0)
        for _ in range(790):
            world.clock.advance(1.0)
            world.node.tick()
        assert not reader.sink.closed
        for _ in range(211):
            world.clock.advance(1.0)
            world.node.tick()
        assert reader.sink.closed
