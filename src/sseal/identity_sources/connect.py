"""Makes the store of an address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..backends import connect as backends
from ..backends.address import engine_of
from ..clock import Clock
from .store import MemoryStore, Store

__all__ = ["connect"]


def connect(address: str, clock: Clock, *, backend: Any = None) -> Store:
    """Return the store of an address, not yet open.

    :param backend: what it shares with the broker of the same address; None to make its own.
    :raises InvalidInput: the address is none.
    :raises MissingPackage: its engine is not installed.
    """
    if backend is None:
        backend = backends.connect(address, clock, "store")
    return _STORES[engine_of(address, "store")](backend, clock)


def _memory(backend: None, clock: Clock) -> Store:
    del backend
    return MemoryStore(clock)


def _sqlite(backend: Any, clock: Clock) -> Store:
    from .sqlite_store import SqliteStore

    return SqliteStore(backend, clock)


def _redis(backend: Any, clock: Clock) -> Store:
    from .redis_store import RedisStore

    return RedisStore(backend, clock)


_STORES: Final[dict[str, Callable[[Any, Clock], Store]]] = {"memory": _memory, "sqlite": _sqlite, "redis": _redis}
