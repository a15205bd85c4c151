"""Makes the broker of an address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..backends import connect as backends
from ..backends.address import engine_of
from ..clock import Clock
from .base import Broker, Retention
from .memory import MemoryBroker

__all__ = ["connect"]


def connect(address: str, clock: Clock, retention: Retention | None = None, *, backend: Any = None) -> Broker:
    """Return the broker of an address, not yet open.

    :param retention: what a hub wants kept; None for what the log was told last.
    :param backend: what it shares with the store of the same address; None to make its own.
    :raises InvalidInput: the address is none.
    :raises MissingPackage: its engine is not installed.
    """
    if backend is None:
        backend = backends.connect(address, clock)
    return _BROKERS[engine_of(address)](backend, clock, retention)


def _memory(backend: None, clock: Clock, retention: Retention | None) -> Broker:
    del backend
    return MemoryBroker(clock, retention)


def _sqlite(backend: Any, clock: Clock, retention: Retention | None) -> Broker:
    from .sqlite import SqliteBroker

    return SqliteBroker(backend, clock, retention)


def _redis(backend: Any, clock: Clock, retention: Retention | None) -> Broker:
    from .redis import RedisBroker

    return RedisBroker(backend, clock, retention)


_BROKERS: Final[dict[str, Callable[[Any, Clock, Retention | None], Broker]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "redis": _redis,
}
