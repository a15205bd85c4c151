"""Checks of what a log that outlives its hubs goes on from (W10)."""

from __future__ import annotations

from ...position import Lineage, Position
from .fixture import ConformanceFixture, broker_check, equal, expect
from .hubs import Hub, everything, hub, offsets, open_hubs, publication


@broker_check("durable")
async def what_was_acknowledged_is_there_after_a_restart(fixture: ConformanceFixture) -> None:
    """Every event, with all its parts, and the offsets go on above it."""
    one = await hub(fixture)
    numbers = await one.publish(*(publication(("a", "b"), f"{index}", ttl=3600.0) for index in range(20)))
    before = await one.history("a")
    await fixture.restart()
    one = await hub(fixture)
    equal(await one.history("a"), before, "the log after a restart")
    equal((one.broker.head, await one.broker.newest()), (numbers[-1], numbers[-1]), "head and newest()")
    (fresh,) = await one.publish(publication("a"))
    expect(fresh > numbers[-1], f"offset {fresh} after a restart, the last one before was {numbers[-1]}")


@broker_check("durable")
async def positions_of_before_a_restart_hold(fixture: ConformanceFixture) -> None:
    """A position that was handed out leads to the same place, over several restarts; one that never was does not."""
    given: list[Position] = []
    for _ in range(4):
        one = await hub(fixture, "fence")
        await _resolved(one, given)
        (number,) = await one.publish(publication())
        await everything([one])
        equal(offsets(await one.history("a"))[-1], number, "the newest event")
        given += [Position(one.broker.lineage.epoch, 0), Position(one.broker.lineage.epoch, number)]
        await fixture.restart()
    one = await hub(fixture)
    await _resolved(one, given)
    newest = await one.broker.newest()
    never = one.broker.lineage.resolve(Position(given[-1].epoch, newest + 1), newest)
    expect(never.reason is not None, "a position that the log never handed out is good after a restart")


async def _resolved(one: Hub, given: list[Position]) -> None:
    newest = await one.broker.newest()
    for position in given:
        where = one.broker.lineage.resolve(position, newest)
        equal((where.offset, where.reason), (position.offset, None), f"where {position} leads after a restart")


@broker_check("durable", "shared")
async def hubs_agree_about_the_epoch(fixture: ConformanceFixture) -> None:
    """Whoever opens the log while others have it open joins their epoch, after a restart too."""
    lineages: list[Lineage] = []
    for _ in range(2):
        hubs = await open_hubs(fixture, size=3)
        await hubs[0].publish(publication())
        late = await hub(fixture)
        lineages.append(late.broker.lineage)
        for one in hubs:
            equal(one.broker.lineage, late.broker.lineage, "lineages of two hubs on one log")
            equal(one.recorder.epoch_changes, 0, "epoch changes because another hub came")
        await fixture.restart()
    known = {lineages[1].epoch, *(epoch for epoch, _ in lineages[1].older)}
    expect(lineages[0].epoch in known, "the epoch before a restart is not in the lineage after it")
