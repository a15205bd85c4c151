"""Redis killed, emptied, put back, replaced and frozen, and the way to it cut, slow and half open."""

from __future__ import annotations

import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from .conftest import Scenario
from .load import Load, Mix, load
from .processes import Hub
from .proxy import Proxy, proxy
from .redis_process import Redis, redis_on

MIX = Mix(clients=40)
ANSWERS_UNDER_WAY = 0.15
"""Seconds: somebody waits for an answer, and there is time to ask again before a publish is given up."""
HALF_OPEN = 3.0
"""Seconds: longer than a hub waits for an answer."""


def url(port: int) -> str:
    """Return the address of a log."""
    return f"redis://127.0.0.1:{port}/0"


async def hubs_on(scenario: Scenario, *ports: int) -> list[Hub]:
    """Start one hub per port to reach the log by."""
    return [await scenario.processes.add(scenario.processes.hub(f"hub{n}", broker=url(p))) for n, p in enumerate(ports)]


@asynccontextmanager
async def people_on(scenario: Scenario, hubs: list[Hub]) -> AsyncIterator[Load]:
    """Gather a crowd, half of it at each hub."""
    async with load([hub.address for hub in hubs], MIX, scenario.form.seed) as people:
        yield people


async def test_redis_is_killed_and_restarted_with_its_data(scenario: Scenario) -> None:
    """Kill -9 of Redis, which comes back with all it had acknowledged: no reader loses anything or gets a gap (W10)."""
    redis = await redis_on(scenario.processes)
    async with people_on(scenario, await hubs_on(scenario, *[redis.address.port] * 2)) as people:
        for number in range(scenario.form.rounds):
            await people.load(scenario.form.moment(number))
            await redis.crash(keep=True)
            await people.load(scenario.form.load)
        await people.load(scenario.form.load)
        await scenario.judge(people, url(redis.address.port))


async def test_redis_is_killed_and_restarted_without_its_data(scenario: Scenario) -> None:
    """Kill -9 of Redis, which comes back empty: every reader is told, and goes on in the new log (W10)."""
    redis = await redis_on(scenario.processes)
    async with people_on(scenario, await hubs_on(scenario, *[redis.address.port] * 2)) as people:
        for number in range(scenario.form.rounds):
            await people.load(scenario.form.moment(number))
            await redis.crash(keep=False)
            await people.load(scenario.form.load)
        await people.load(scenario.form.load)
        await scenario.judge(people, url(redis.address.port), keeps=False)


async def test_a_backup_of_redis_is_restored(scenario: Scenario) -> None:
    """Redis comes back as it was a while ago: readers beyond that get a gap that is true, and go on (W10)."""
    redis = await redis_on(scenario.processes)
    async with people_on(scenario, await hubs_on(scenario, *[redis.address.port] * 2)) as people:
        for number in range(scenario.form.rounds):
            await people.load(scenario.form.moment(number))
            redis.backup()
            await people.load(scenario.form.load)
            await redis.unredeem()
            await people.load(scenario.form.load)
        await people.load(scenario.form.load)
        await scenario.judge(people, url(redis.address.port), keeps=False)


async def test_a_replica_is_promoted_with_the_last_writes_missing(scenario: Scenario) -> None:
    """A primary dies before its replica had everything: readers beyond that get a gap that is true (W10)."""
    primary = await redis_on(scenario.processes, "redis0")
    with proxy(primary.address) as door, proxy(primary.address) as between:
        replica = await replica_behind(scenario, between, 1)
        async with people_on(scenario, await hubs_on(scenario, *[door.address.port] * 2)) as people:
            for number in range(scenario.form.rounds):
                await people.load(scenario.form.moment(number))
                between.hold("up", "down")  # what is written from here on the replica never sees
                await people.load(scenario.form.load)
                await primary.end(signal.SIGKILL)
                await replica.ask("REPLICAOF", "NO", "ONE")
                primary = replica
                door.aim(primary.address)
                between.aim(primary.address)
                between.heal(reset=True)
                replica = await replica_behind(scenario, between, number + 2)
                await people.load(scenario.form.load)
            await people.load(scenario.form.load)
            await scenario.judge(people, url(door.address.port), keeps=False)


async def replica_behind(scenario: Scenario, auth_method: Proxy, number: int) -> Redis:
    """Start a replica of what a proxy leads to, and wait until it follows."""
    replica = await redis_on(scenario.processes, f"redis{number}", replica_of=auth_method.address.port)
    await replica.synced()
    return replica


async def test_redis_is_frozen(scenario: Scenario) -> None:
    """Redis stands still (SIGSTOP) and goes on: nothing is lost, doubled or announced as lost (W9)."""
    redis = await redis_on(scenario.processes)
    async with people_on(scenario, await hubs_on(scenario, *[redis.address.port] * 2)) as people:
        for number in range(max(1, scenario.form.rounds // 2)):
            await people.load(scenario.form.moment(number))
            redis.send(signal.SIGSTOP)
            await people.load(scenario.form.freeze)
            redis.send(signal.SIGCONT)
            await people.load(scenario.form.load)
        await people.load(scenario.form.load)
        await scenario.judge(people, url(redis.address.port))


@pytest.mark.parametrize("fault", ["cut", "cut while answers are under way", "delayed", "half open"])
async def test_the_way_to_redis_is(scenario: Scenario, fault: str) -> None:
    """One hub's way to the log is cut, slow, or carries one direction only: nothing is lost or doubled (W8, W9)."""
    redis = await redis_on(scenario.processes)
    rng = random.Random(scenario.form.seed)
    with proxy(redis.address) as auth_method:
        hubs = await hubs_on(scenario, auth_method.address.port, redis.address.port)
        async with people_on(scenario, hubs) as people:
            for number in range(scenario.form.rounds):
                await people.load(scenario.form.moment(number))
                match fault:
                    case "cut":
                        auth_method.cut()
                        await people.load(scenario.form.load)
                    case "cut while answers are under way":  # what was asked has happened, and nobody knows
                        for _ in range(8):
                            auth_method.hold("down")
                            await people.load(ANSWERS_UNDER_WAY)
                            auth_method.heal(reset=True)
                            await people.load(2 * ANSWERS_UNDER_WAY)
                    case "delayed":
                        auth_method.delay(rng.uniform(0.1, 0.6))
                        await people.load(2 * scenario.form.load)
                    case _:
                        for direction in ("up", "down"):
                            auth_method.hold(direction)
                            await people.load(HALF_OPEN)
                            auth_method.heal()
                auth_method.heal()
                await people.load(scenario.form.load)
            await scenario.judge(people, url(redis.address.port))


async def test_one_of_two_hubs_on_redis_is_killed(scenario: Scenario, nginx_path: str) -> None:
    """Kill -9 of one of two hubs on Redis: its readers go on at the other, and nothing is lost."""
    redis = await redis_on(scenario.processes)
    hubs = await hubs_on(scenario, *[redis.address.port] * 2)
    front = await scenario.processes.nginx(nginx_path, hubs)
    async with load([front.address], MIX, scenario.form.seed) as people:
        for number in range(scenario.form.rounds):
            await people.load(scenario.form.moment(number))
            await hubs[number % 2].end(signal.SIGKILL)
            await people.load(scenario.form.load)
            await hubs[number % 2].start()
        await people.load(scenario.form.load)
        await scenario.judge(people, url(redis.address.port))
        assert not people.closures("cookie"), "a session survives its hub"
