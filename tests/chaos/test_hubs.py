"""Hubs that are killed, restarted and replaced, while two hundred readers read through them."""

from __future__ import annotations

import signal

from .conftest import Scenario
from .crowd import Mix, crowd


async def test_one_of_two_hubs_is_killed(scenario: Scenario, nginx_path: str) -> None:
    """Kill -9 of one of two hubs on one log: its readers go on at the other, and nothing is lost."""
    address = f"sqlite:///{scenario.stage.folder}/log.db"
    hubs = [await scenario.stage.add(scenario.stage.hub(f"hub{n}", broker=address)) for n in range(2)]
    front = await scenario.stage.nginx(nginx_path, hubs)
    async with crowd([front.address], Mix(), scenario.form.seed) as all_of_them:
        for number in range(scenario.form.rounds):
            await all_of_them.load(scenario.form.moment(number))
            await hubs[number % 2].end(signal.SIGKILL)
            await all_of_them.load(scenario.form.load)
            await hubs[number % 2].start()
        await all_of_them.load(scenario.form.load)
        await scenario.judge(all_of_them, address)
