"""Hubs that are killed, restarted, replaced or wrong about the time, while two hundred readers read through them."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from .conftest import Scenario
from .load import Mix, load
from .processes import Hub, python, until


async def hubs_on(scenario: Scenario, address: str, count: int = 2) -> list[Hub]:
    """Start hubs on one log."""
    return [await scenario.processes.add(scenario.processes.hub(f"hub{n}", broker=address)) for n in range(count)]


async def test_one_of_two_hubs_is_killed(scenario: Scenario, nginx_path: str) -> None:
    """Kill -9 of one of two hubs on one log: its readers go on at the other, and nothing is lost."""
    address = f"sqlite:///{scenario.processes.folder}/log.db"
    hubs = await hubs_on(scenario, address)
    front = await scenario.processes.nginx(nginx_path, hubs)
    async with load([front.address], Mix(), scenario.form.seed) as people:
        for number in range(scenario.form.rounds):
            await people.load(scenario.form.moment(number))
            await hubs[number % 2].end(signal.SIGKILL)
            await people.load(scenario.form.load)
            await hubs[number % 2].start()
        await people.load(scenario.form.load)
        await scenario.judge(people, address)
        assert not people.closures("cookie"), "a session survives its hub"


async def test_both_hubs_are_killed_at_once(scenario: Scenario, nginx_path: str) -> None:
    """Kill -9 of all hubs of a file, as a power cut does: what was acknowledged is there when they are back (W10)."""
    address = f"sqlite:///{scenario.processes.folder}/log.db"
    hubs = await hubs_on(scenario, address)
    front = await scenario.processes.nginx(nginx_path, hubs)
    async with load([front.address], Mix(), scenario.form.seed) as people:
        for number in range(scenario.form.rounds):
            await people.load(scenario.form.moment(number))
            for hub in hubs:
                hub.send(signal.SIGKILL)
            for hub in hubs:
                await hub.end(signal.SIGKILL)
                await hub.start()
        await people.load(scenario.form.load)
        await scenario.judge(people, address)


async def test_rolling_restart_of_all_hubs_behind_nginx(scenario: Scenario, nginx_path: str) -> None:
    """One hub after the other is restarted under load: no EventSource gives up, and nothing is lost (W36)."""
    address = f"sqlite:///{scenario.processes.folder}/log.db"
    hubs = await hubs_on(scenario, address)
    front = await scenario.processes.nginx(nginx_path, hubs)
    async with load([front.address], Mix(), scenario.form.seed) as people:
        for number in range(scenario.form.rounds):
            await people.load(scenario.form.moment(number))
            for hub in hubs:
                await hub.end(signal.SIGTERM)
                await hub.start()
                await people.load(scenario.form.load / 2)
        await people.load(scenario.form.load)
        await scenario.judge(people, address)
        assert not people.closures("cookie"), "a session survives a restart"


async def test_a_worker_of_four_is_killed(scenario: Scenario) -> None:
    """Kill -9 of one worker of four: the supervisor replaces it, its readers come back, and nothing is lost."""
    address = f"sqlite:///{scenario.processes.folder}/log.db"
    hub = await scenario.processes.add(scenario.processes.hub("hub", broker=address, workers="4"))
    rng = random.Random(scenario.form.seed)
    async with load([hub.address], Mix(), scenario.form.seed) as people:
        for number in range(scenario.form.rounds):
            await people.load(scenario.form.moment(number))
            workers = hub.workers()
            assert len(workers) == 4
            killed = rng.choice(workers)
            os.kill(killed, signal.SIGKILL)
            await people.load(scenario.form.load)
            await until(lambda: len(set(hub.workers()) - {killed}) == 4, 20.0, "the worker to be replaced")  # noqa: B023
        await people.load(scenario.form.load)
        await scenario.judge(people, address)
        assert not people.closures("cookie"), "a session survives a worker"


@pytest.mark.parametrize("back", [600, 2 * 3600 + 600], ids=["ten minutes", "longer than the log's age"])
async def test_the_clock_of_one_hub_is_set_back(scenario: Scenario, nginx_path: str, back: int) -> None:
    """A hub whose clock jumps back loses nothing and reorders nothing; offsets make the order, not times."""
    address = f"sqlite:///{scenario.processes.folder}/log.db"
    launcher = (*python("hub_with_a_clock.py"), str(-back))
    hubs = await hubs_on(scenario, address, 1)
    hubs.append(await scenario.processes.add(scenario.processes.hub("hub-behind", launcher=launcher, broker=address)))
    front = await scenario.processes.nginx(nginx_path, hubs)
    async with load([front.address], Mix(), scenario.form.seed) as people:
        await people.load(scenario.form.moment(0))
        hubs[1].send(signal.SIGUSR1)
        for _ in range(scenario.form.rounds):
            await people.load(scenario.form.load)
        await scenario.judge(people, address)


async def test_a_backup_of_a_file_is_restored(scenario: Scenario, nginx_path: str) -> None:
    """A file put back to an earlier state: readers beyond it get a true gap, and go on in the new epoch (W10)."""
    path = scenario.processes.folder / "log.db"
    address = f"sqlite:///{path}"
    hubs = await hubs_on(scenario, address)
    front = await scenario.processes.nginx(nginx_path, hubs)
    async with load([front.address], Mix(), scenario.form.seed) as people:
        for number in range(scenario.form.rounds):
            await people.load(scenario.form.moment(number))
            backup(path)
            await people.load(scenario.form.load)
            for hub in hubs:
                await hub.end(signal.SIGKILL)
            unredeem(path)
            for hub in hubs:
                await hub.start()
        await people.load(scenario.form.load)
        await scenario.judge(people, address, keeps=False)


def backup(path: Path) -> None:
    """Copy a file of SQLite that is in use, with SQLite's own means."""
    copy = path.with_suffix(".backup")
    copy.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def unredeem(path: Path) -> None:
    """Put the copy in the place of the file."""
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    shutil.copyfile(path.with_suffix(".backup"), path)
