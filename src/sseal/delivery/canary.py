"""Readiness: one event through the log and back, which no stream ever sees."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from ..clock import Clock
from ..errors import Unavailable
from ..storage import CANARY_ROOT, Broker, Publication

__all__ = ["Canary"]

CANARY_INTERVAL: Final = 1.0
"""Seconds for which one canary answers every asker: `/readyz` is open to all and must not fill the log."""
CANARY_TIMEOUT: Final = 2.0
"""Seconds a canary may take before the hub counts as not ready."""


class Canary:
    """Proves that a hub is handed what it appends.

    :param broker: the log.
    :param node: the hub's name; each hub has a canary of its own.
    :param head: returns the offset up to which the hub was handed the log.
    :ivar topic: where it is published.
    """

    def __init__(self, broker: Broker, clock: Clock, node: str, head: Callable[[], int]) -> None:
        self.topic = f"{CANARY_ROOT}/{node}"
        self._broker = broker
        self._clock = clock
        self._head = head
        self._last: tuple[float, float] | None = None  # when it came back, and how long it took
        self._lost: float | None = None  # Unix seconds at which the first one was missed; None while they come back
        self._turn = asyncio.Lock()  # one is under way at a time
        self._awaited: dict[int, asyncio.Future[None]] = {}  # done when the log hands out this offset

    async def probe(self) -> float:
        """Send one event through the log and back; return how long it took, in seconds.

        :raises Unavailable: it has not come back in time; says since when none has.
        """
        start = self._clock.monotonic()
        if self._last is not None and start - self._last[0] < CANARY_INTERVAL:
            return self._last[1]
        try:
            async with self._turn, asyncio.timeout(CANARY_TIMEOUT):
                if self._last is not None and self._last[0] >= start:
                    return self._last[1]  # somebody else's came back while we waited
                await self._there_and_back()
        except (TimeoutError, Unavailable) as error:
            if self._lost is None:
                self._lost = self._clock.wall()
            why = error.detail if isinstance(error, Unavailable) else "the log does not give back what it took"
            since = datetime.fromtimestamp(self._lost, UTC).isoformat(timespec="seconds")
            raise Unavailable(f"no canary has come back since {since}: {why}", code="broker_lost") from None
        now = self._clock.monotonic()
        self._last, self._lost = (now, now - start), None
        return now - start

    def on_received(self, offset: int) -> None:
        """Say that the log has handed out a canary, this one's or another's."""
        if (waiting := self._awaited.pop(offset, None)) is not None and not waiting.done():
            waiting.set_result(None)

    async def _there_and_back(self) -> None:
        (offset,) = await self._broker.publish([Publication(topics=(self.topic,), type="canary", data="", ttl=1.0)])
        if self._head() < offset:
            waiting = self._awaited.setdefault(offset, asyncio.get_running_loop().create_future())
            try:
                await waiting
            finally:
                self._awaited.pop(offset, None)
