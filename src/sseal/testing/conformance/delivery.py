"""Checks of handing out: what was confirmed is never missed, each once, in order (W24, W28)."""

from __future__ import annotations

import asyncio
import random

from ...storage import CANARY_ROOT, Retention
from .fixture import ConformanceFixture, broker_check, equal, expect
from .history import MOMENT
from .hubs import Hub, canary, everything, hub, offsets, open_hubs, publication

NAMES = ("t/0", "t/1", "t/2", "t/3", "u/0", "u/1")


@broker_check()
async def listen_keeps_its_promise(fixture: ConformanceFixture) -> None:
    """While publishers run, every event of a topic after the offset that was confirmed is handed out, once (W24)."""
    hubs = await open_hubs(fixture)
    running = True

    async def publisher(number: int) -> None:
        rng = random.Random(number)  # noqa: S311 - the same draws every time
        while running:
            names = tuple(rng.sample(NAMES, rng.choice((1, 1, 2))))
            await hubs[number % len(hubs)].publish(publication(names))
            await asyncio.sleep(rng.choice((0, 0, 0.001)))

    async def listener(one: Hub, number: int) -> dict[str, int]:
        rng = random.Random(100 + number)  # noqa: S311
        confirmed = {}
        for name in rng.sample((*NAMES, "t/*", "u/**"), 8):
            confirmed[name] = await one.broker.listen([name])
            await asyncio.sleep(rng.choice((0, 0.001, 0.005)))
        return confirmed

    publishers = [asyncio.create_task(publisher(number)) for number in range(4)]
    try:
        confirmed = await asyncio.gather(*(listener(one, number) for number, one in enumerate(hubs)))
    finally:
        running = False
        await asyncio.gather(*publishers)
    await everything(hubs)
    for one, mine in zip(hubs, confirmed, strict=True):
        for name, start in mine.items():
            equal(
                offsets(one.given(name, after=start)),
                offsets(await one.history(name, after=start)),
                f"what was handed out of {name} after the confirmed offset {start}",
            )


@broker_check("shared")
async def a_hub_that_comes_late_is_handed_what_comes_after(fixture: ConformanceFixture) -> None:
    """Its head is that of the log, and what was published before it came it has to read."""
    one = await hub(fixture, "fence")
    numbers = await one.publish(*(publication() for _ in range(5)))
    late = await hub(fixture)
    expect(late.broker.head >= numbers[-1], f"head after open() is {late.broker.head}, the log's is {numbers[-1]}")
    confirmed = await late.broker.listen(["a", "fence"])
    (number,) = await one.publish(publication())
    await everything([one, late])
    equal(offsets(late.given("a")), [number], "what the late hub was handed")
    early = offsets(await late.history("a", upto=confirmed))
    equal(early, numbers, "what the late hub reads up to the offset that was confirmed")


@broker_check()
async def forget_stops_only_what_it_names(fixture: ConformanceFixture) -> None:
    """A topic stays when another one, or a pattern that covers it, is forgotten; unknown names are no error."""
    hubs = await open_hubs(fixture, "a", "b", "x/1", "x/*", "y/*")
    for one in hubs:
        await one.broker.forget(["a", "x/*", "never", "never/*"])
    numbers = await hubs[0].publish(publication("b"), publication("x/1"), publication("y/1"), publication(("a", "b")))
    await everything(hubs)
    for one in hubs:
        equal(offsets(one.given("b", "x/1", "y/1")), numbers, "what was handed out of the rest")


@broker_check()
async def listen_after_forget_holds_again(fixture: ConformanceFixture) -> None:
    """A forget that has begun does not undo a listen that came after it."""
    hubs = await open_hubs(fixture)
    for turn in range(10):
        for one in hubs:
            await one.broker.listen(["a", "p/*"])
            forget = asyncio.create_task(_forget(one, "a", "p/*"))
            await asyncio.sleep(0)
            confirmed = await one.broker.listen(["a", "p/*"])
            if turn % 2:
                await forget
            numbers = await hubs[-1].publish(publication("a"), publication("p/1"))
            await forget
            numbers += await hubs[0].publish(publication("p/1"), publication("a"))
            expect(numbers[0] > confirmed, f"listen() confirmed {confirmed}, which the log had not reached")
            await one.wait_for(numbers[-1])
            wanted = offsets(await one.history("a", "p/*", after=confirmed))
            equal(
                offsets(one.given("a", "p/*", after=confirmed)), wanted, "what was handed out after a second listen()"
            )


async def _forget(one: Hub, *names: str) -> None:
    await one.broker.forget(names)


@broker_check()
async def an_epoch_change_is_told_only_when_there_is_one(fixture: ConformanceFixture) -> None:
    """While nothing happens to the log its epoch stays, its hubs agree about it, and it is in reach."""
    hubs = await open_hubs(fixture, "a")
    for one in hubs:
        await one.publish(publication())
        await one.broker.newest()
    await everything(hubs)
    for one in hubs:
        equal(one.recorder.epoch_changes, 0, "epoch changes of a log to which nothing happened")
        equal(one.broker.lineage, hubs[0].broker.lineage, "lineages of two hubs on one log")
        equal(one.broker.lost_since, None, "lost_since of a log in reach")


@broker_check()
async def the_log_has_one_time(fixture: ConformanceFixture) -> None:
    """``now()`` goes on, agrees between hubs, and is what events are published by (W25)."""
    hubs = await open_hubs(fixture)
    before = [one.broker.now() for one in hubs]
    await fixture.elapse(MOMENT)
    after = [one.broker.now() for one in hubs]
    gone_on = all(now >= then + 0.9 * MOMENT for then, now in zip(before, after, strict=True))
    expect(gone_on, f"{MOMENT} s later now() went from {before} to {after}")
    expect(max(after) - min(after) < 1.0, f"hubs on one log do not agree what time it is: {after}")
    await hubs[0].publish(publication())
    (entry,) = await hubs[-1].history("a")
    off = entry.published_at - hubs[-1].broker.now()
    expect(abs(off) < 1.0, f"an event was published {off:g} s away from now()")


@broker_check(retention=Retention(count=10))
async def canaries_are_delivered_and_leave_nothing_behind(fixture: ConformanceFixture) -> None:
    """They are handed out, never read back, never lost, and push no event out of the log."""
    hubs = await open_hubs(fixture, f"{CANARY_ROOT}/one", f"{CANARY_ROOT}/two")
    kept = await hubs[0].publish(*(publication() for _ in range(8)))
    sent: list[int] = []
    for turn in range(40):
        sent += await hubs[-1].publish(canary(("one", "two")[turn % 2]))
        for one in hubs:
            await one.wait_for(sent[-1])  # a log keeps only a few of them for a hub that is late
    for one in hubs:
        handed = [entry for entry in one.recorder.entries if entry.topics[0].startswith(CANARY_ROOT)]
        equal(offsets(handed), sent, "canaries handed out")
        expect(one.broker.head >= sent[-1], "head is behind a canary that was handed out")
        equal(offsets(await one.history("a")), kept, "events in the log after many canaries")
        for names in ((f"{CANARY_ROOT}/one",), (f"{CANARY_ROOT}/*",), ("**",)):
            page = [e for e in await one.history(*names) if e.topics[0].startswith(CANARY_ROOT)]
            equal(offsets(page), [], f"canaries in the history of {names}")
            equal(await one.lost(*names), 0, f"lost of {names}")
    equal(await hubs[0].broker.newest(), sent[-1], "newest() after canaries")
