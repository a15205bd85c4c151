"""Checks of leases: what nodes hold together in sets, and what becomes of it when one of them is gone."""

from __future__ import annotations

import asyncio

from ...errors import Unavailable
from ...storage.leases import Held
from .fixture import ConformanceFixture, equal, refused, store_check
from .history import MOMENT
from .nodes import node, nodes
from .records import LONG, ODD_KEYS

ROUNDS = 200
"""Turns after which what has to lapse must have done so: on a machine that is held up some of them count for none."""


@store_check()
async def entries_of_all_owners_are_counted(fixture: ConformanceFixture) -> None:
    """Putting in, replacing and taking out is seen by all nodes; an id is its owner's own; each set is by itself."""
    opened = await nodes(fixture)
    first, last = opened[0].store, opened[-1].store
    equal(await first.renew("a", LONG), False, "renew() of a new owner")
    equal(await last.renew("b", LONG), False, "renew() of another new owner")
    equal(await last.renew("a", LONG), True, "renew() of a lease that is held")
    equal(
        await first.enter("a", {("s", "1"): b"", ("s", "2"): b"\0\xff", ("t", "1"): b"t"}), {"s": 2, "t": 1}, "counts"
    )
    equal(await last.enter("b", {("s", "1"): b"b"}), {"s": 3}, "the count of an id that another owner has too")
    equal(await last.enter("a", {("s", "2"): b"new"}), {"s": 3}, "the count after an entry was replaced")
    for one in opened:
        found = await one.store.held(["s", "none", "t"])
        equal(found["s"], [Held("a", "1", b""), Held("a", "2", b"new"), Held("b", "1", b"b")], "what a set holds")
        equal((found["none"], found["t"]), ([], [Held("a", "1", b"t")]), "what the others hold")
    equal(
        await first.enter("a", {("s", "1"): None, ("s", "never"): None}), {"s": 2}, "the count after one was taken out"
    )
    equal(await last.held(["s"]), {"s": [Held("a", "2", b"new"), Held("b", "1", b"b")]}, "what is left")


@store_check()
async def names_of_sets_owners_and_ids_mean_themselves(fixture: ConformanceFixture) -> None:
    """Names that differ in anything are different ones, whatever they are made of."""
    (one,) = await nodes(fixture, 1)
    for owner in ODD_KEYS:
        await one.store.renew(owner, LONG)
        counts = await one.store.enter(owner, {(name, name): owner.encode() for name in ODD_KEYS})
        equal(set(counts), set(ODD_KEYS), "the sets that were counted")
    await one.store.release(ODD_KEYS[0])
    for name, entries in (await one.store.held(ODD_KEYS)).items():
        equal(entries, sorted(Held(owner, name, owner.encode()) for owner in ODD_KEYS[1:]), f"the set {name!r}")


@store_check()
async def entries_need_a_lease(fixture: ConformanceFixture) -> None:
    """Who holds none is told so, and nothing is changed."""
    (one,) = await nodes(fixture, 1)
    with refused(Unavailable, "enter() without a lease"):
        await one.store.enter("a", {("s", "1"): b""})
    await one.store.renew("a", LONG)
    equal(await one.store.enter("a", {("s", "2"): b""}), {"s": 1}, "the count after a refusal")


@store_check()
async def entering_and_counting_are_one_step(fixture: ConformanceFixture) -> None:
    """Of those who enter at once on several nodes each gets a count of its own, up to all of them."""
    opened = await nodes(fixture, 3)
    for one in opened:
        await one.store.renew(one.name, LONG)
    got = await asyncio.gather(*(one.store.enter(one.name, {("s", f"{n}"): b""}) for one in opened for n in range(8)))
    equal(sorted(counts["s"] for counts in got), list(range(1, 8 * len(opened) + 1)), "the counts")


@store_check()
async def a_crash_frees_what_its_lease_held(fixture: ConformanceFixture) -> None:
    """Not renewed while others are, a lease lapses with all under it, once and for good; theirs stay."""
    opened = await nodes(fixture)
    first, last = opened[0].store, opened[-1].store
    await first.renew("crashed", MOMENT)
    await last.renew("alive", MOMENT)
    await first.enter("crashed", {("s", "1"): b"", ("t", "1"): b""})
    await last.enter("alive", {("s", "1"): b""})
    for _ in range(ROUNDS):
        await fixture.elapse(MOMENT / 4)
        equal(await last.renew("alive", MOMENT), True, "renew() in time")
        if await last.held(["s", "t"]) == {"s": [Held("alive", "1", b"")], "t": []}:
            break
    equal(await last.held(["s", "t"]), {"s": [Held("alive", "1", b"")], "t": []}, "what is held after a crash")
    with refused(Unavailable, "enter() after the lease has lapsed"):
        await first.enter("crashed", {("s", "2"): b""})
    equal(await first.renew("crashed", MOMENT), False, "renew() too late")
    equal(await first.enter("crashed", {("s", "3"): b""}), {"s": 2}, "the count of who began anew")


@store_check()
async def time_without_the_store_does_not_count(fixture: ConformanceFixture) -> None:
    """When nobody could renew for long, all leases hold on, and then a whole one more: nobody alive loses any."""
    opened = await nodes(fixture)
    first, last = opened[0].store, opened[-1].store
    await first.renew("a", MOMENT)
    await last.renew("b", MOMENT)
    await first.enter("a", {("s", "1"): b""})
    await fixture.elapse(5 * MOMENT)
    equal(await last.held(["s"]), {"s": [Held("a", "1", b"")]}, "what is held before anybody was heard of")
    equal(await last.renew("b", MOMENT), True, "the first renew() afterwards")
    equal(await last.held(["s"]), {"s": [Held("a", "1", b"")]}, "what is held by who was not heard of yet")
    equal(await first.renew("a", MOMENT), True, "the second renew() afterwards")


@store_check()
async def what_is_released_is_free_at_once(fixture: ConformanceFixture) -> None:
    """A node that leaves takes what it held along; giving back what one does not have is nothing."""
    opened = await nodes(fixture)
    first, last = opened[0].store, opened[-1].store
    for owner in ("a", "b"):
        await first.renew(owner, LONG)
        await first.enter(owner, {("s", "1"): b""})
    await last.release("a")
    await last.release("a")
    await last.release("never")
    equal(await last.held(["s"]), {"s": [Held("b", "1", b"")]}, "what is held after one was released")
    equal(await first.renew("a", LONG), False, "renew() after release()")
    equal(await first.enter("a", {("t", "1"): b""}), {"t": 1}, "the count of who began anew")
    equal(await last.held(["s"]), {"s": [Held("b", "1", b"")]}, "what is held after one began anew")


@store_check()
async def counts_go_by_any_amount(fixture: ConformanceFixture) -> None:
    """Several at once, none to ask, and back again; never below nothing, and never in anybody else's time."""
    opened = await nodes(fixture)
    first, last = opened[0].store, opened[-1].store
    equal(await first.count("k", LONG, 0), 0, "asking for what was never counted")
    equal(await first.count("k", LONG, 5), 5, "five at once")
    equal(await last.count("k", LONG, 0), 5, "asking")
    equal(await last.count("k", LONG, -2), 3, "taking back")
    equal(await first.count("k", LONG), 4, "one more")
    equal(await first.count("k", LONG, -9), 0, "taking back more than there is")
    equal(await last.count("never", LONG, -1), 0, "taking back what was never counted")
    await first.count("short", MOMENT)
    await first.count("short", LONG, 3)
    await fixture.elapse(2 * MOMENT)
    equal(await last.count("short", LONG, 0), 0, "asking after its time")


@store_check("durable")
async def leases_outlive_a_restart(fixture: ConformanceFixture) -> None:
    """What is held is held after it: to the hubs it is an outage like another."""
    one = await node(fixture)
    await one.store.renew("a", LONG)
    await one.store.enter("a", {("s", "1"): b"v"})
    await fixture.restart()
    one = await node(fixture)
    equal(await one.store.held(["s"]), {"s": [Held("a", "1", b"v")]}, "what is held after a restart")
    equal(await one.store.renew("a", LONG), True, "renew() after a restart")
