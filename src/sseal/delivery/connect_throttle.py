"""Lets connects through in slices, so that a reconnect of all does not keep everybody else waiting."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

__all__ = ["ConnectThrottle"]

SLICE: Final = 0.002
"""Seconds of connects before other requests get their turn."""
AT_ONCE: Final = 4
"""Connects released per turn of the loop while others wait: a slice, at some 500 µs each."""


class ConnectThrottle:
    """A queue in order of arrival. With nobody in front it costs a look at the clock."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()  # in order of arrival
        self._end = 0.0  # of the slice in this turn of the loop, on the loop's clock
        self._turning = False  # `_turn` is scheduled, so `_end` holds

    def __len__(self) -> int:
        """Count those who wait."""
        return len(self._waiting)

    async def enter(self) -> None:
        """Go through now if this turn of the loop has time left for connects, else in a later one."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            if not self._turning:
                self._turning = True
                self._end = loop.time() + SLICE
                loop.call_soon(self._turn, loop)
                return
            if loop.time() < self._end:
                return
        waiting = loop.create_future()
        self._waiting.append(waiting)
        await waiting

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._end = loop.time() + SLICE
        released = 0
        while self._waiting and released < AT_ONCE:
            waiting = self._waiting.popleft()
            if not waiting.done():  # else its request was cancelled
                waiting.set_result(None)
                released += 1
        if self._waiting:
            loop.call_soon(self._turn, loop)
        else:
            self._turning = False
