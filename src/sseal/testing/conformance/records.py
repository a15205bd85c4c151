"""Checks of records: what is written is read, by all nodes, until its moment; and of many takers one gets it."""

from __future__ import annotations

import asyncio
import random

from .fixture import ConformanceFixture, equal, expect, store_check
from .history import MOMENT
from .nodes import Node, node, nodes

LONG = 60.0
"""Seconds that something lives which must not expire within a check."""
ODD_KEYS = ("k", "K", "k ", "k/*", "k%", "k_", "k?", "[k]", "k\\", "é/\u2028", "k'\"", "k:1", "session/" + "x" * 500)
VALUES = (b"", b"\0", b"plain", bytes(range(256)), b'{"a": 1}', "é".encode(), b"\xff\xfe", b"x" * 65_536)


@store_check()
async def a_record_is_what_was_written(fixture: ConformanceFixture) -> None:
    """Any bytes, none included, come back unchanged on every node; and writing again replaces them."""
    opened = await nodes(fixture)
    ends = fixture.clock.wall() + LONG
    for number, value in enumerate(VALUES):
        await opened[0].store.put(f"{number}", value, ends)
        await opened[0].store.put("same", value, ends)
        for one in opened:
            equal(await one.store.get(f"{number}"), value, "a record")
            equal(await one.store.get("same"), value, "a record that was written again")
    equal(await opened[-1].store.get("never"), None, "a record that was never written")
    equal(opened[0].store.lost_since, None, "lost_since of a store in reach")


@store_check()
async def keys_mean_themselves(fixture: ConformanceFixture) -> None:
    """Keys that differ in anything are different records, whatever letters they are made of."""
    (one,) = await nodes(fixture, 1)
    ends = fixture.clock.wall() + LONG
    for number, key in enumerate(ODD_KEYS):
        await one.store.put(key, b"%d" % number, ends)
    for number, key in enumerate(ODD_KEYS):
        equal(await one.store.get(key), b"%d" % number, f"the record of {key!r}")
    equal(await one.store.take("k/*"), b"3", "the record that was taken")
    equal(sum([await one.store.get(key) is not None for key in ODD_KEYS]), len(ODD_KEYS) - 1, "records that are left")


@store_check()
async def a_record_ends_at_its_moment(fixture: ConformanceFixture) -> None:
    """Then no way of reading finds it, nobody can prolong it, and its name is free; others stay."""
    opened = await nodes(fixture)
    now = fixture.clock.wall()
    for key in ("get", "take", "swap", "free", "longer"):
        await opened[0].store.put(key, b"v", now + MOMENT)
    await opened[0].store.put("past", b"v", now - 1.0)
    await opened[0].store.put("stays", b"v", now + LONG)
    await opened[0].store.put("shorter", b"v", now + LONG)
    await opened[0].store.put("shorter", b"v", now + MOMENT)
    await opened[0].store.put("longer", b"v", now + LONG)
    await opened[0].store.swap("swapped", None, b"v", now + MOMENT)
    await fixture.elapse(2 * MOMENT)
    for one in opened:
        for key in ("get", "past", "shorter", "swapped"):
            equal(await one.store.get(key), None, f"the record {key!r} after its end")
        equal(await one.store.take("take"), None, "taking a record after its end")
        equal(await one.store.swap("swap", b"v", b"w", now + LONG), False, "swapping a record after its end")
        for key in ("stays", "longer"):
            equal(await one.store.get(key), b"v", f"the record {key!r} before its end")
    equal(await opened[-1].store.swap("free", None, b"w", now + LONG), True, "writing under a name that is free again")
    equal(await opened[0].store.get("free"), b"w", "a record under a name that was free again")


@store_check()
async def of_all_takers_one_gets_it(fixture: ConformanceFixture) -> None:
    """A record is read and deleted in one step, whoever on whichever node asks at once."""
    opened = await nodes(fixture, 3)
    for turn in range(10):
        await opened[0].store.put("k", b"%d" % turn, fixture.clock.wall() + LONG)
        got = await asyncio.gather(*(one.store.take("k") for one in opened for _ in range(5)))
        equal([value for value in got if value is not None], [b"%d" % turn], "what the takers got")
        equal(await opened[-1].store.get("k"), None, "a record that was taken")


SWAPS: tuple[tuple[bytes | None, bytes | None, bytes | None, bool, bytes | None], ...] = (
    # there, expected, new, swapped, there afterwards
    (b"a", b"a", b"b", True, b"b"),
    (b"a", b"x", b"b", False, b"a"),
    (b"a", None, b"b", False, b"a"),
    (None, None, b"b", True, b"b"),
    (None, b"a", b"b", False, None),
    (b"a", b"a", None, True, None),
    (b"a", b"x", None, False, b"a"),
    (b"a", None, None, False, b"a"),
    (None, None, None, True, None),
    (None, b"a", None, False, None),
    (b"", b"", b"b", True, b"b"),
    (b"", None, b"b", False, b""),
    (None, b"", b"b", False, None),
    (b"a", b"a", b"", True, b""),
)


@store_check()
async def a_swap_writes_only_over_what_was_seen(fixture: ConformanceFixture) -> None:
    """Every case of what is there, expected and new, the empty value included, which is not an absent one."""
    opened = await nodes(fixture)
    ends = fixture.clock.wall() + LONG
    for number, (there, expected, new, swapped, after) in enumerate(SWAPS):
        key = f"{number}"
        if there is not None:
            await opened[0].store.put(key, there, ends)
        what = f"swap of {there!r}, expected {expected!r}, for {new!r}"
        equal(await opened[-1].store.swap(key, expected, new, ends), swapped, what)
        equal(await opened[0].store.get(key), after, f"what is there after a {what}")


@store_check()
async def of_all_swaps_of_one_value_one_wins(fixture: ConformanceFixture) -> None:
    """Creating, changing and deleting at the same moment on several nodes has exactly one winner."""
    opened = await nodes(fixture, 3)
    ends = fixture.clock.wall() + LONG
    for turn in range(6):
        old = (None, b"old")[turn % 2]
        key = f"{turn}"
        if old is not None:
            await opened[0].store.put(key, old, ends)
        new = [None if old and i == 3 else b"%d" % i for i in range(12)]
        got = await asyncio.gather(*(opened[i % len(opened)].store.swap(key, old, new[i], ends) for i in range(12)))
        equal(sum(got), 1, f"winners among twelve who saw {old!r}")
        equal(await opened[-1].store.get(key), new[got.index(True)], "what the winner wrote")


@store_check()
async def a_take_and_a_swap_do_not_both_win(fixture: ConformanceFixture) -> None:
    """What one has taken no other has changed at the same moment: a ticket is not spent and prolonged."""
    opened = await nodes(fixture)
    ends = fixture.clock.wall() + LONG
    for turn in range(20):
        await opened[0].store.put("k", b"old", ends)
        first = opened[turn % len(opened)].store.swap("k", b"old", b"new", ends)
        taken, swapped = await asyncio.gather(opened[-1].store.take("k"), first)
        left = await opened[0].store.get("k")
        expect(
            (taken, swapped, left) in ((b"old", False, None), (b"new", True, None)),
            f"taken {taken!r}, swapped {swapped}, left {left!r}",
        )


@store_check()
async def no_change_by_swap_is_lost(fixture: ConformanceFixture) -> None:
    """Nodes that read, change and swap until it works have all their changes in the record."""
    opened = await nodes(fixture)
    ends = fixture.clock.wall() + LONG

    async def worker(one: Node) -> None:
        for _ in range(5):
            while True:
                old = await one.store.get("k")
                new = b"%d" % (int(old or b"0") + 1)
                if await one.store.swap("k", old, new, ends):
                    break
                await asyncio.sleep(random.uniform(0, 0.002))  # noqa: S311 - not a secret

    await asyncio.gather(*(worker(one) for one in opened for _ in range(3)))
    equal(await opened[0].store.get("k"), b"%d" % (15 * len(opened)), "a record that was changed by many")


@store_check()
async def counts_are_of_all_nodes(fixture: ConformanceFixture) -> None:
    """Every count under one key, on whichever node and at once, gets a number of its own; other keys have theirs."""
    opened = await nodes(fixture)
    got = await asyncio.gather(*(one.store.count("k", LONG) for one in opened for _ in range(10)))
    equal(sorted(got), list(range(1, 10 * len(opened) + 1)), "the numbers")
    equal(await opened[-1].store.count("other", LONG), 1, "the count of another key")
    equal(await opened[0].store.get("k"), None, "the record of the name of a count")
    await opened[0].store.put("k", b"v", fixture.clock.wall() + LONG)
    equal(await opened[0].store.count("k", LONG), 10 * len(opened) + 1, "a count beside a record of the same name")


@store_check()
async def a_count_starts_anew(fixture: ConformanceFixture) -> None:
    """When the time since its first is over, not since its last; the seconds of later ones do not prolong it."""
    opened = await nodes(fixture)
    for turn in range(10):  # on a machine that is held up the second count may come after the time of the first
        short = f"short {turn}"
        equal(await opened[0].store.count(short, MOMENT), 1, "the first count")
        if await opened[0].store.count(short, LONG) == 2:
            break
    await opened[0].store.count("long", LONG)
    await fixture.elapse(2 * MOMENT)
    equal(await opened[-1].store.count(short, MOMENT), 1, "the first count after its time")
    equal(await opened[-1].store.count("long", MOMENT), 2, "the second count within its time")


@store_check()
async def closing_may_be_repeated(fixture: ConformanceFixture) -> None:
    """And what was written is there for the others."""
    opened = await nodes(fixture)
    await opened[0].store.put("k", b"v", fixture.clock.wall() + LONG)
    if len(opened) > 1:
        await opened[0].store.close()
        equal(await opened[1].store.get("k"), b"v", "a record whose writer has gone")
    for one in opened:
        await one.store.close()
        await one.store.close()


@store_check("durable")
async def records_outlive_a_restart(fixture: ConformanceFixture) -> None:
    """Sessions, tickets and counts go on where they were; what expired meanwhile is gone (W15)."""
    one = await node(fixture)
    now = fixture.clock.wall()
    await one.store.put("stays", b"v", now + LONG)
    await one.store.put("gone", b"v", now + MOMENT)
    await one.store.count("k", LONG)
    await fixture.restart()
    await fixture.elapse(2 * MOMENT)
    one = await node(fixture)
    equal(await one.store.get("stays"), b"v", "a record after a restart")
    equal(await one.store.get("gone"), None, "a record that expired during a restart")
    equal(await one.store.count("k", LONG), 2, "a count after a restart")
