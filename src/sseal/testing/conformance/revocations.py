"""Checks of the revocation log: numbered, in order, and heard of by all nodes (W17)."""

from __future__ import annotations

import asyncio

from .fixture import ConformanceFixture, equal, eventually, expect, store_check
from .history import MOMENT
from .nodes import node, nodes
from .records import LONG


@store_check()
async def revocations_are_numbered_in_order(fixture: ConformanceFixture) -> None:
    """From 1 on, without a gap, and each node reads on after the last number it knows."""
    opened = await nodes(fixture)
    ends = fixture.clock.wall() + LONG
    equal(await opened[0].store.revocations(0), [], "an empty revocation log")
    records = [b"a", b"\0\xff", b"", b"c" * 5_000]
    numbers = [await opened[i % len(opened)].store.revoke(record, ends) for i, record in enumerate(records)]
    equal(numbers, [1, 2, 3, 4], "the numbers")
    for one in opened:
        for after in range(5):
            wanted = list(zip(numbers, records, strict=True))[after:]
            equal(await one.store.revocations(after), wanted, f"revocations after {after}")


@store_check()
async def revocations_at_once_are_all_kept(fixture: ConformanceFixture) -> None:
    """Nodes that revoke at the same moment get different numbers, and none of it is lost."""
    opened = await nodes(fixture, 3)
    ends = fixture.clock.wall() + LONG
    records = [b"%d" % index for index in range(24)]
    numbers = await asyncio.gather(*(opened[i % len(opened)].store.revoke(r, ends) for i, r in enumerate(records)))
    equal(sorted(numbers), list(range(1, 25)), "the numbers")
    equal(await opened[-1].store.revocations(0), sorted(zip(numbers, records, strict=True)), "the revocation log")


@store_check()
async def a_node_that_reads_on_misses_none(fixture: ConformanceFixture) -> None:
    """Whoever has read up to a number finds everything else after it, while others revoke."""
    opened = await nodes(fixture)
    ends = fixture.clock.wall() + LONG
    seen: list[int] = []

    async def reader() -> None:
        while len(seen) < 20:
            seen.extend(number for number, _ in await opened[-1].store.revocations(seen[-1] if seen else 0))
            await asyncio.sleep(0)

    async def author(number: int) -> None:
        for index in range(5):
            await opened[number % len(opened)].store.revoke(b"%d" % index, ends)
            await asyncio.sleep(0.002)

    reading = asyncio.create_task(reader())
    await asyncio.gather(*map(author, range(4)))
    await asyncio.wait_for(reading, 10.0)
    equal(seen, list(range(1, 21)), "what a reader saw")


@store_check()
async def every_node_hears_of_a_revocation(fixture: ConformanceFixture) -> None:
    """It is signalled to all, the one that revoked included, and can be read when it is (W17)."""
    opened = await nodes(fixture, 3)
    for turn, author in enumerate(opened):
        before = [one.recorder.revocation_signals for one in opened]
        await author.store.revoke(b"%d" % turn, fixture.clock.wall() + LONG)
        for one, count in zip(opened, before, strict=True):
            await eventually(
                lambda one=one, count=count: one.recorder.revocation_signals > count,  # type: ignore[misc]
                f"{one.name} hears of a revocation by {author.name}",
            )
            equal([number for number, _ in await one.store.revocations(turn)], [turn + 1], "what is read then")


@store_check()
async def what_is_in_force_no_more_is_left_out(fixture: ConformanceFixture) -> None:
    """Entries go at their end; the numbers go on, even when none is left."""
    opened = await nodes(fixture)
    now = fixture.clock.wall()
    await opened[0].store.revoke(b"short", now + MOMENT)
    await opened[0].store.revoke(b"long", now + LONG)
    await opened[-1].store.revoke(b"short", now + MOMENT)
    await fixture.elapse(2 * MOMENT)
    equal(await opened[-1].store.revocations(0), [(2, b"long")], "what is in force")
    equal(await opened[0].store.revoke(b"next", now + LONG), 4, "the number after some have ended")
    equal(await opened[0].store.revocations(2), [(4, b"next")], "what is in force after a number")


@store_check()
async def who_knows_more_than_the_log_is_given_all(fixture: ConformanceFixture) -> None:
    """A log that was lost and began anew has fewer than the node remembers; then everything is given."""
    (one,) = await nodes(fixture, 1)
    await one.store.revoke(b"a", fixture.clock.wall() + LONG)
    await one.store.revoke(b"b", fixture.clock.wall() + LONG)
    equal(await one.store.revocations(2), [], "revocations after the newest")
    equal(await one.store.revocations(99), [(1, b"a"), (2, b"b")], "revocations after more than there are")


@store_check("durable")
async def revocations_outlive_a_restart(fixture: ConformanceFixture) -> None:
    """What was revoked stays so, and the numbers go on (W17)."""
    one = await node(fixture)
    ends = fixture.clock.wall() + LONG
    await one.store.revoke(b"a", ends)
    await one.store.revoke(b"gone", fixture.clock.wall() + MOMENT)
    await fixture.elapse(2 * MOMENT)
    await fixture.restart()
    one = await node(fixture)
    equal(await one.store.revocations(0), [(1, b"a")], "the revocation log after a restart")
    number = await one.store.revoke(b"b", ends)
    expect(number == 3, f"the number after a restart is {number}, two were given before it")
