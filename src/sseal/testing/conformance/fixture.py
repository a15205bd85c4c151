"""Where a check runs, what it needs, and how it says what is wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from ...clock import Clock
from ...errors import SsealError
from ...storage import Broker, Retention
from ...storage.store import Store

__all__ = [
    "BROKER_CHECKS",
    "STORE_CHECKS",
    "Check",
    "ConformanceError",
    "ConformanceFixture",
    "Promise",
    "broker_check",
    "equal",
    "eventually",
    "expect",
    "refused",
    "store_check",
]

EVENTUALLY_TIMEOUT = 10.0
"""Seconds a check waits for what has to come: an engine that is slower than that is not usable."""

Promise = Literal["shared", "durable", "our_clock"]
"""What not every engine promises.

- ``shared``: several hubs on one log, one store;
- ``durable``: log and store outlive their handles, see `ConformanceFixture.restart`;
- ``our_clock``: times go by the clock of the fixture, so that a day can pass in no time.
"""


class ConformanceError(AssertionError):
    """A promise of the contract that was not kept."""


class ConformanceFixture(Protocol):
    """One log and one store, empty when a check gets them, and the time they go by.

    Made anew for every check, with the retention the check asks for. Whoever made it closes the brokers and
    stores it has given out once the check is over.
    """

    @property
    def promises(self) -> frozenset[Promise]:
        """What this engine promises beyond what all do."""
        ...

    @property
    def clock(self) -> Clock:
        """The clock that the brokers and stores were given."""
        ...

    async def broker(self) -> Broker:
        """Return one more hub's broker on the log, not yet open. Asked for a second one only when ``shared``."""
        ...

    async def store(self) -> Store:
        """Return one more hub's store, not yet open. Asked for a second one only when ``shared``."""
        ...

    async def elapse(self, seconds: float) -> None:
        """Let time pass: turn the clock, or wait where the engine has its own."""
        ...

    async def restart(self) -> None:
        """Close all brokers and stores, and the engine in the ordinary way. Called only when ``durable``."""
        ...


@dataclass(frozen=True, slots=True)
class Check:
    """One promise of the contract: await it with a fresh fixture; it raises `ConformanceError` when it is broken.

    :param needs: what the engine has to promise for this check to make sense.
    :param retention: with what the fixture has to be made.
    """

    run: Callable[[ConformanceFixture], Awaitable[None]]
    needs: frozenset[Promise]
    retention: Retention

    @property
    def promise(self) -> str:
        """What it proves, as a sentence."""
        return self.run.__doc__ or ""

    async def __call__(self, fixture: ConformanceFixture) -> None:
        """Run the check."""
        await self.run(fixture)


BROKER_CHECKS: Final[dict[str, Check]] = {}
"""Every promise of `sseal.storage.Broker`, by name."""
STORE_CHECKS: Final[dict[str, Check]] = {}
"""Every promise of `sseal.storage.store.Store`, by name."""

_Run = Callable[[ConformanceFixture], Awaitable[None]]


def broker_check(*needs: Promise, retention: Retention | None = None) -> Callable[[_Run], Check]:
    """Enter a check of brokers in `BROKER_CHECKS`."""
    return _entered(BROKER_CHECKS, frozenset(needs), retention or Retention())


def store_check(*needs: Promise) -> Callable[[_Run], Check]:
    """Enter a check of stores in `STORE_CHECKS`."""
    return _entered(STORE_CHECKS, frozenset(needs), Retention())


def _entered(checks: dict[str, Check], needs: frozenset[Promise], retention: Retention) -> Callable[[_Run], Check]:
    def enter(run: _Run) -> Check:
        check = checks[run.__name__] = Check(run, needs, retention)
        return check

    return enter


# `assert` would be silent under ``python -O``, and says nothing outside of pytest's own test files.


def expect(condition: object, problem: str) -> None:
    """Raise `ConformanceError` unless the condition holds."""
    if not condition:
        raise ConformanceError(problem)


def equal(got: object, wanted: object, what: str) -> None:
    """Raise `ConformanceError` unless both are equal."""
    if got != wanted:
        raise ConformanceError(f"{what}: expected {_short(wanted)}, got {_short(got)}")


@contextmanager
def refused(error: type[SsealError], what: str) -> Iterator[None]:
    """Expect the block to raise this error, and no other one."""
    try:
        yield
    except error:
        return
    except Exception as other:
        raise ConformanceError(f"{what}: expected {error.__name__}, got {other!r}") from other
    raise ConformanceError(f"{what}: expected {error.__name__}, nothing was raised")


async def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition holds, in real time."""
    deadline = time.monotonic() + EVENTUALLY_TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise ConformanceError(f"{what}: not so after {EVENTUALLY_TIMEOUT:g} s")
        await asyncio.sleep(0.002)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 600 else f"{text[:400]} ... {text[-180:]}"
