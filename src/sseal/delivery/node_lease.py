"""What this hub holds in the store's sets for as long as it lives: one lease for all of it."""

from __future__ import annotations

import logging
from itertools import islice
from typing import Final

from ..clock import Clock
from ..errors import Unavailable
from ..storage.store import Store

__all__ = ["LEASE_TIMEOUT", "RENEW_INTERVAL", "Lease"]

LEASE_TIMEOUT: Final = 15.0
"""Seconds after its last sign of life for which a hub is taken to live: two may be late."""
RENEW_INTERVAL: Final = 5.0
"""Seconds between two signs of life."""
STEP: Final = 1_000
"""Entries that are put in or taken out at once: a millisecond or two of a store."""

logger = logging.getLogger("sseal.cluster")


class Lease:
    """The lease of one hub, and what is under it. Nothing is written while there is nothing under it.

    :param owner: names this process and no other one, before or after it.
    """

    def __init__(
        self,
        store: Store,
        owner: str,
        clock: Clock,
        *,
        seconds: float = LEASE_TIMEOUT,
        interval: float = RENEW_INTERVAL,
    ) -> None:
        self.owner = owner
        self._store = store
        self._clock = clock
        self._seconds = seconds
        self._interval = interval
        self._wanted: dict[tuple[str, str], bytes] = {}  # (set, id) → value: what this hub is to hold
        self._changes: dict[tuple[str, str], bytes | None] = {}  # what the store is to be told; None: taken out
        self._renewed: float | None = None  # Clock.monotonic of the last sign of life; None: no lease is held

    def put(self, name: str, id: str, value: bytes = b"") -> None:  # noqa: A002 - what it is
        """Have an entry in a set from the next `sync` on."""
        if self._wanted.get((name, id)) != value:
            self._wanted[name, id] = value
            self._changes[name, id] = value

    def drop(self, name: str, id: str) -> None:  # noqa: A002
        """Have it there no more."""
        if self._wanted.pop((name, id), None) is not None:
            self._changes[name, id] = None

    async def sync(self) -> dict[str, int]:
        """Renew the lease if it is time, then bring the store up to date; return the counts of the sets that changed.

        The order matters: a hub that comes back from a freeze learns first whether it still holds anything.

        :raises Unavailable: the store cannot be reached, which leaves everything to the next time.
        """
        if not self._wanted and not self._changes:
            return {}
        await self._renew_if_due()
        counts: dict[str, int] = {}
        while self._changes:
            some = dict(islice(self._changes.items(), STEP))
            try:
                counts |= await self._store.enter(self.owner, some)
            except Unavailable as error:
                if error.code == "lease_lapsed":
                    self._renewed = None
                raise
            for key, value in some.items():  # what was changed again meanwhile has its turn after that
                if key in self._changes and self._changes[key] == value:
                    del self._changes[key]
        return counts

    async def close(self) -> None:
        """Give everything back."""
        self._wanted, self._changes = {}, {}
        if self._renewed is not None:
            self._renewed = None
            await self._store.release(self.owner)

    async def _renew_if_due(self) -> None:
        now = self._clock.monotonic()
        if self._renewed is not None and now - self._renewed < self._interval:
            return
        if not await self._store.renew(self.owner, self._seconds):
            if self._renewed is not None:
                logger.warning("this hub was taken for dead; what it holds is put in again")
            # What waits to be taken out was lost with the lease.
            self._changes = dict(self._wanted)
        self._renewed = now
