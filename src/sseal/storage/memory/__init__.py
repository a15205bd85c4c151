"""One process, nothing on disk: for tests, embedding, and hubs that need not remember."""

from __future__ import annotations

from ...clock import Clock
from ..broker import Retention
from .broker import MemoryBroker
from .store import MemoryStore

__all__ = ["MemoryBroker", "MemoryStorage", "MemoryStore"]


class MemoryStorage:
    """See `sseal.storage.Storage`; broker and store have nothing to share."""

    def __init__(self, address: str, clock: Clock, field: str) -> None:
        del address, field
        self._clock = clock

    def broker(self, retention: Retention | None = None) -> MemoryBroker:
        """Return a log."""
        return MemoryBroker(self._clock, retention)

    def store(self) -> MemoryStore:
        """Return a store."""
        return MemoryStore(self._clock)
