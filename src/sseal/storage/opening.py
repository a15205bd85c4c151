"""From an address to what it names: one file or one server, and the broker and the store on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from ..clock import Clock
from ..extras import needed
from .address import engine_of
from .broker import Broker, Retention
from .store import Store

__all__ = ["Storage", "open"]


class Storage(Protocol):
    """An engine at an address. What is made of it shares its file or its connections."""

    def broker(self, retention: Retention | None = None) -> Broker:
        """Return its log, not yet open.

        :param retention: what a hub wants kept; None for what the log was told last.
        """
        ...

    def store(self) -> Store:
        """Return its store, not yet open."""
        ...


def open(address: str, clock: Clock, field: str = "broker") -> Storage:  # noqa: A001
    """Return the storage of an address; nothing is read or connected before broker or store are opened.

    :param field: the setting that errors name.
    :raises InvalidInput: the address is none.
    :raises MissingPackage: its engine is not installed.
    """
    return _ENGINES[engine_of(address, field)](address, clock, field)


def _memory(address: str, clock: Clock, field: str) -> Storage:
    from .memory import MemoryStorage

    return MemoryStorage(address, clock, field)


def _sqlite(address: str, clock: Clock, field: str) -> Storage:
    from .sqlite import SqliteStorage

    return SqliteStorage(address, clock, field)


def _redis(address: str, clock: Clock, field: str) -> Storage:
    with needed(f"{address.partition('://')[0].lower()}://", "redis"):
        from .redis import RedisStorage
    return RedisStorage(address, clock, field)


_ENGINES: Final[dict[str, Callable[[str, Clock, str], Storage]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "redis": _redis,
}
