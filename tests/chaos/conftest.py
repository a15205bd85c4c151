"""Fixtures of the failure suite, and its report."""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .crowd import Crowd
from .stage import Stage, read_log, stage

_SEED, _LINE = "chaos seed", "chaos line"
"""Properties of a test's report, by which it gets from the worker that ran it to whoever prints the summary."""


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

    def __init__(self, made: Stage, form: Form, name: str, properties: list[tuple[str, object]]) -> None:
        self.stage = made
        self.form = form
        self._name = name
        self._properties = properties

    def say(self, text: str) -> None:
        """Add a line to the report."""
        self._properties.append((_LINE, f"{self._name}: {text}"))

    async def judge(self, crowd: Crowd, address: str, *, keeps: bool = True) -> None:
        """Let everything settle and judge it.

        :param address: the log, read directly at the end.
        :param keeps: whether the log promised to keep what it acknowledged.
        :raises AssertionError: a promise was broken, a hub is not healthy, or logged what none should.
        """
        await self.stage.all_ready()
        await crowd.settle()
        verdict = crowd.judge(await read_log(address), keeps=keeps)
        self.say(crowd.summary(verdict))
        assert not verdict.faults, f"seed {self.form.seed}\n{verdict}"
        unsettled = crowd.unsettled()
        assert not unsettled, f"{len(unsettled)} readers did not get the last events: {unsettled[:3]}"
        await self.stage.all_ready()


@pytest.fixture(scope="session")
def form() -> Form:
    """The form of this run: ``SSEAL_CHAOS=long`` and ``SSEAL_CHAOS_SEED=number`` choose."""
    run = int(os.environ.get("PYTEST_XDIST_TESTRUNUID", "0"), 16) or time.time_ns()  # workers of one run share a seed
    seed = int(os.environ.get("SSEAL_CHAOS_SEED") or run % 1_000_000)
    if os.environ.get("SSEAL_CHAOS") == "long":
        return Form(seed, rounds=4, load=3.0, freeze=10.0)
    return Form(seed, rounds=1, load=1.0, freeze=4.0)


@pytest.fixture
async def scenario(form: Form, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Scenario]:
    """A stage for one scenario, of which nothing is left at the end."""
    properties = request.node.user_properties
    properties.append((_SEED, f"seed {form.seed}"))
    async with stage(tmp_path) as made:
        yield Scenario(made, form, request.node.name.removeprefix("test_"), properties)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what happened in each scenario, also in a run without a failure."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    called = [report for report in reports if getattr(report, "when", "") == "call"]
    properties = [each for report in called for each in report.user_properties]
    seeds = dict.fromkeys(text for name, text in properties if name == _SEED)
    lines = [text for name, text in properties if name == _LINE]
    if seeds:
        terminalreporter.section("chaos")
        for line in (*seeds, *lines):
            terminalreporter.write_line(line)
