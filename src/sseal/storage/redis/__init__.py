"""Many machines: a Redis or Valkey server; broker and store of one process share its connections."""

from __future__ import annotations

from ...clock import Clock
from ..broker import Retention
from .broker import RedisBroker
from .link import Link
from .store import RedisStore

__all__ = ["Link", "RedisBroker", "RedisStorage", "RedisStore"]


class RedisStorage:
    """See `sseal.storage.Storage`; broker and store share the link to the server."""

    def __init__(self, address: str, clock: Clock, field: str) -> None:
        self._clock = clock
        self._link = Link(address, clock, field)

    def broker(self, retention: Retention | None = None) -> RedisBroker:
        """Return the log on the server."""
        return RedisBroker(self._link, self._clock, retention)

    def store(self) -> RedisStore:
        """Return the store on the server."""
        return RedisStore(self._link, self._clock)
