"""Makes what broker and store of one process share, from an address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..clock import Clock
from ..extras import needed
from .address import engine_of, file_of

__all__ = ["connect"]


def connect(address: str, clock: Clock, field: str = "broker") -> Any:
    """Return a `Database`, a `Link`, or None for memory; nothing is opened yet.

    :raises InvalidInput: the address is none; names the field.
    :raises MissingPackage: its engine is not installed.
    """
    return _BACKENDS[engine_of(address, field)](address, clock, field)


def _memory(address: str, clock: Clock, field: str) -> None:
    del address, clock, field


def _sqlite(address: str, clock: Clock, field: str) -> Any:
    from .sqlite import Database

    return Database(file_of(address, field), clock)


def _redis(address: str, clock: Clock, field: str) -> Any:
    with needed(f"{address.partition('://')[0].lower()}://", "redis"):
        from .redis import Link
    return Link(address, clock, field)


_BACKENDS: Final[dict[str, Callable[[str, Clock, str], Any]]] = {"memory": _memory, "sqlite": _sqlite, "redis": _redis}
