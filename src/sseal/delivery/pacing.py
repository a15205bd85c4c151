"""Many ends spread evenly over a while, so that those who come back do not come as one wave."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

__all__ = ["STEP", "spread"]

STEP: Final = 0.02
"""Seconds between two slices: short against any window, long against the wake-ups of an event loop."""
CATCH_UP: Final = 1.25
"""How much larger than its share a slice may be when the one before came late. Twice would be a wave again."""

_Item = TypeVar("_Item")


async def spread(
    items: Sequence[_Item],
    window: float,
    act: Callable[[_Item], object],
    *,
    now: Callable[[], float],
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Do something with each item, at an even rate over a window; returns when all are done.

    When the event loop is late, the window gets longer and not the rate higher.

    :param window: seconds.
    :param now: monotonic seconds. A clock that stands still holds nothing up: each sleep counts for at least itself.
    """
    if len(items) < 2 or window <= STEP:
        for item in items:
            act(item)
        return
    most = math.ceil(CATCH_UP * len(items) * STEP / window)
    start, done, slept = now(), 0, 0.0
    while True:
        passed = max(now() - start, slept)
        due = min(math.ceil(len(items) * min(1.0, (passed + STEP) / window)), done + most)
        for item in items[done:due]:
            act(item)
        done = due
        if done == len(items):
            return
        await sleep(STEP)
        slept += STEP
