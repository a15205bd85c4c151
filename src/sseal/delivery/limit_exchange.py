"""Limits that hold at all hubs together, although each hub decides without asking anybody.

Each hub counts by itself and, once a second, compares with the others through the store what is worth it: names that
have used up a quarter of their fair part of a rate here (`sseal.limits.RateLimiter`), and subjects and addresses with
so many streams (`sseal.delivery.stream_limits`). So a limit is exceeded by less than a quarter, plus what the hubs let
in before they have compared: a second, and longer for who is one of more than `MAX_COMPARED`. A hub alone compares
nothing. While the store cannot be reached, each hub goes on with what it knew.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from ..clock import Clock
from ..errors import SsealError, Unavailable
from ..limits import WINDOW, RateLimiter
from ..storage.store import Store
from .stream_limits import StreamLimits

__all__ = ["EXCHANGE_INTERVAL", "LimitExchange"]

EXCHANGE_INTERVAL: Final = 1.0
"""Seconds between two comparisons."""
FORGET_TIMEOUT: Final = 15.0
"""Seconds without a comparison after which what was known of other hubs is known no more: they may be gone."""
MAX_COMPARED: Final = 500
"""Rates, and sets of streams, compared at once: a few milliseconds of the store. The others have their turn later."""

logger = logging.getLogger("sseal.cluster")


class LimitExchange:
    """Compares the counters of one hub with those of the others.

    :param store: where they meet.
    :param rates: what happens how often.
    :param stream_limits: who has how many streams open.
    """

    def __init__(self, store: Store, rates: RateLimiter, stream_limits: StreamLimits, clock: Clock) -> None:
        self._store = store
        self._rates = rates
        self._stream_limits = stream_limits
        self._clock = clock
        self._hubs = 1  # how many there are, this one included
        self._compared_at = 0.0  # monotonic seconds of the last comparison
        self._task: asyncio.Task[None] | None = None  # compares for ever

    def start(self) -> None:
        """Begin to compare with other hubs."""
        self._task = asyncio.get_running_loop().create_task(self._exchange_forever(), name="sseal-limit-exchange")

    async def close(self) -> None:
        """Stop, and give back what this hub holds in the store."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._stream_limits.close()
        except SsealError as error:
            logger.warning("what this hub counted lapses with its lease: %s", error)

    async def exchange(self) -> None:
        """Compare with the other hubs once.

        :raises Unavailable: the store cannot be reached now.
        """
        self._stream_limits.collect()
        hubs = max(1, len(await self._store.nodes()))
        if hubs != self._hubs:
            self._hubs = hubs
            self._rates.among(hubs)
            await self._stream_limits.among(hubs)
        if self._hubs > 1:
            # With many hubs fewer at once, so that the store has not more to do.
            most = max(1, MAX_COMPARED // max(1, self._hubs // 10))
            await self._stream_limits.compare(most)
            await self._compare_rates(most)
            self._compared_at = self._clock.monotonic()

    async def _exchange_forever(self) -> None:
        while True:
            await asyncio.sleep(EXCHANGE_INTERVAL)
            try:
                await self.exchange()
            except Unavailable:
                if self._clock.monotonic() - self._compared_at > FORGET_TIMEOUT:
                    self._stream_limits.forget_others()
            except Exception:
                logger.exception("limits could not be compared with other hubs; it is tried again")

    async def _compare_rates(self, most: int) -> None:
        changed = self._rates.uncompared(most)
        totals = await asyncio.gather(*(self._store.count(f"rate/{name}", 2.0 * WINDOW, by) for _, name, by in changed))
        for (key, name, by), total in zip(changed, totals, strict=True):
            self._rates.learn(key, name, by, total)
