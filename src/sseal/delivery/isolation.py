"""Isolation: a hub that cannot hear of revocations for too long lets nobody read (W17)."""

from __future__ import annotations

import logging

from ..clock import Clock
from ..storage import Broker
from ..storage.store import Store
from ..stream import reasons
from .background import BackgroundTasks
from .drain import Drain
from .open_streams import OpenStreams
from .revocations import Revocations

__all__ = ["Isolation"]

logger = logging.getLogger("sseal.delivery")


class Isolation:
    """Knows whether log, store and revocations are in reach, and ends all streams of a hub that is cut off.

    :param cut_off_after: seconds out of reach after which the hub is isolated; 0 for never.
    """

    def __init__(
        self,
        broker: Broker,
        store: Store,
        revocations: Revocations,
        streams: OpenStreams,
        drain: Drain,
        tasks: BackgroundTasks,
        clock: Clock,
        cut_off_after: float,
    ) -> None:
        self._broker = broker
        self._store = store
        self._revocations = revocations
        self._streams = streams
        self._drain = drain
        self._tasks = tasks
        self._clock = clock
        self._cut_off_after = cut_off_after
        self._disconnecting = False  # all streams are being ended, which takes the drain window

    @property
    def lost_since(self) -> float | None:
        """Since when (``Clock.monotonic``) log, store or revocations cannot be reached; None while all can."""
        broker, store, stale = self._broker.lost_since, self._store.lost_since, self._revocations.stale_since
        if broker is None and store is None:
            return stale  # as almost always; each connect asks
        return min(moment for moment in (broker, store, stale) if moment is not None)

    @property
    def isolated(self) -> bool:
        """Whether this hub has heard of no revocation for so long that it may let nobody read."""
        since, longest = self.lost_since, self._cut_off_after
        return since is not None and longest > 0 and self._clock.monotonic() - since > longest

    def tick(self) -> None:
        """End the streams of a hub that is isolated."""
        count = len(self._streams.index.by_id)
        if count and self.isolated and not self._disconnecting:
            logger.warning("cut off from the log or the store: %d streams are sent away", count)
            self._disconnecting = True
            self._tasks.spawn(self._disconnect_all())

    async def _disconnect_all(self) -> None:
        try:
            await self._drain.disconnect_all(reasons.STORE_LOST)
        finally:
            self._disconnecting = False
