"""Minutes of coming, going, slow reading and publishing, after which a hub is as large as it was."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]
import pytest

from .conftest import Scenario
from .load import Load, Mix, load
from .processes import Hub
from .redis_process import redis_on

SECONDS = 6.0
"""For each engine, after a quarter of it, at most a minute, to warm up; ``make soak`` sets ``SSEAL_SOAK=600``."""
MORE_MEMORY = 4.0
"""MiB a hub may have grown by: the caches of SQLite's connections, 2 MiB at most each, fill while the file grows by
its idempotency keys, and the allocator keeps arenas that are not quite empty. Measured: 2.5 MiB on SQLite after 150 s
and after 300 s alike, 0.1 MiB on Redis. A kilobyte left behind per visitor, or 100 bytes per event, would be more."""
MORE_DESCRIPTORS = 4
"""Connections that are being closed when one looks."""
EVENTS = 400
"""Events in log and window: full after a few seconds, so that from then on nothing has a reason to grow."""
LOOKS = 10


@dataclass(frozen=True, slots=True)
class Size:
    """How large the processes of the hubs are: MiB of memory of their own (PSS), and open descriptors."""

    memory: float
    descriptors: int

    def __str__(self) -> str:
        """Return both."""
        return f"{self.memory:.1f} MiB, {self.descriptors} descriptors"


async def sizes(hubs: list[Hub]) -> list[Size]:
    """Measure each hub; of several looks the smallest counts, for connections come and go meanwhile."""
    looks: list[list[Size]] = []
    for _ in range(LOOKS):
        processes = [psutil.Process(hub.pid) for hub in hubs]
        looks.append([Size(p.memory_full_info().pss / 2**20, p.num_fds()) for p in processes])
        await asyncio.sleep(0.1)
    return [Size(min(s.memory for s in hub), min(s.descriptors for s in hub)) for hub in zip(*looks, strict=True)]


async def churned(people: Load, seconds: float) -> None:
    """Let people come and go for a while, and wait until the last visitor has gone."""
    churn = asyncio.create_task(people.churn(0.1))
    await people.load(seconds)
    churn.cancel()
    await asyncio.gather(churn, return_exceptions=True)
    await people.load(1.0)


@pytest.mark.parametrize("engine", ["sqlite", "redis"])
async def test_a_hub_stays_as_large_as_it_is(scenario: Scenario, engine: str) -> None:
    """Under churn memory and descriptors are the same after a while as after the warm-up, and nothing is lost."""
    seconds = float(os.environ.get("SSEAL_SOAK") or SECONDS)
    address = f"sqlite:///{scenario.processes.folder}/log.db"
    if engine == "redis":
        address = f"redis://127.0.0.1:{(await redis_on(scenario.processes)).address.port}/0"
    bounds = {"log_count": str(EVENTS), "window_count": str(EVENTS)}
    hubs = [await scenario.processes.add(scenario.processes.hub(f"hub{n}", broker=address, **bounds)) for n in range(2)]
    async with load([hub.address for hub in hubs], Mix(), scenario.form.seed) as people:
        await churned(people, max(4.0, min(60.0, seconds / 4)))
        before = await sizes(hubs)
        await churned(people, seconds)
        after = await sizes(hubs)
        scenario.say(f"{seconds:.0f} s; before {'; '.join(map(str, before))}; after {'; '.join(map(str, after))}")
        await scenario.judge(people, address)
    for was, now in zip(before, after, strict=True):
        assert now.memory <= was.memory + MORE_MEMORY, f"memory grew from {was} to {now}"
        assert now.descriptors <= was.descriptors + MORE_DESCRIPTORS, f"descriptors grew from {was} to {now}"
