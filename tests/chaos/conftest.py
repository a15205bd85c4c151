"""Fixtures of the failure suite, and its report."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reporting import run_seed, say

from .load import Load
from .processes import Processes, processes, read_log


@dataclass(frozen=True, slots=True)
class Form:
    """How much of it: every scenario once and short, or ten minutes of the same with more rounds.

    :ivar rounds: how often a scenario's fault happens.
    :ivar load: seconds before and after each.
    :ivar freeze: seconds for which Redis stands still.
    """

    seed: int
    rounds: int
    load: float
    freeze: float

    def moment(self, number: int) -> float:
        """Return the seconds to wait before a round's fault: the first comes soon, the others at random."""
        return self.load * (1.0 if number == 0 else random.Random(self.seed + number).uniform(0.3, 2.0))


class Scenario:
    """One scenario's stage and its report."""

    def __init__(self, made: Processes, form: Form, node: pytest.Item) -> None:
        self.processes = made
        self.form = form
        self._node = node

    def say(self, text: str) -> None:
        """Add a line to the report."""
        say(self._node, "chaos", f"{self._node.name.removeprefix('test_')}: {text}")

    async def judge(self, load: Load, address: str, *, keeps: bool = True) -> None:
        """Let everything settle and judge it.

        :param address: the log, read directly at the end.
        :param keeps: whether the log promised to keep what it acknowledged.
        :raises AssertionError: a promise was broken, a hub is not healthy, or logged what none should.
        """
        await self.processes.all_ready()
        await load.settle()
        verdict = load.judge(await read_log(address), keeps=keeps)
        self.say(load.summary(verdict))
        assert not verdict.faults, f"seed {self.form.seed}\n{verdict}"
        unsettled = load.unsettled()
        assert not unsettled, f"{len(unsettled)} readers did not get the last events: {unsettled[:3]}"
        await self.processes.all_ready()


@pytest.fixture(scope="session")
def form() -> Form:
    """The form of this run: ``SSEAL_CHAOS=long`` and ``SSEAL_CHAOS_SEED=number`` choose."""
    seed = int(os.environ.get("SSEAL_CHAOS_SEED") or run_seed() % 1_000_000)
    if os.environ.get("SSEAL_CHAOS") == "long":
        return Form(seed, rounds=4, load=3.0, freeze=10.0)
    return Form(seed, rounds=1, load=1.0, freeze=4.0)


@pytest.fixture
async def scenario(form: Form, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Scenario]:
    """A stage for one scenario, of which nothing is left at the end."""
    say(request.node, "chaos", f"seed {form.seed}")
    async with processes(tmp_path) as made:
        yield Scenario(made, form, request.node)
