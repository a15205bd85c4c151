"""Records and counters: what several callers do to them goes into one transaction, one after the other."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Generic

from ...clock import Clock
from ...errors import SsealError, Unavailable
from ..errors import store_full
from .database import Database
from .rows import decode, insert, micros, places
from .worker import Result

__all__ = ["Records"]

SWEEP_STEP: Final = 1_000
"""Expired records that go with one commit."""

Record = tuple[bytes, int]
"""A value, and the Unix microsecond at which it is over."""


class Records:
    """The records of a file; see the methods of `sseal.storage.store.Store` by the same names.

    :param limit: records at once.
    """

    def __init__(self, database: Database, clock: Clock, limit: int) -> None:
        self._database = database
        self._clock = clock
        self._limit = limit

    async def put(self, key: str, value: bytes, expires_at: float) -> None:
        """Write a record."""
        await self._change(_Put(key, value, expires_at), len(value))

    async def get(self, key: str) -> bytes | None:
        """Read a record."""
        return await self._database.read(self._read, key)

    async def take(self, key: str) -> bytes | None:
        """Read and delete in one step."""
        return await self._change(_Take(key))

    async def swap(self, key: str, old: bytes | None, new: bytes | None, expires_at: float) -> bool:
        """Compare and write in one step."""
        return await self._change(_Swap(key, old, new, expires_at), len(new or b""))

    async def count(self, key: str, seconds: float, by: int = 1) -> int:
        """Count."""
        return await self._change(_Count(f"count/{key}", seconds, by))

    def sweep(self, connection: sqlite3.Connection) -> None:
        """Remove some of what has expired; in the writing thread."""
        _sweep(connection, micros(self._clock.wall()))

    async def _change(self, change: _Change[Result], size: int = 0) -> Result:
        return await self._database.write(self._apply, change, size=size)

    def _apply(self, connection: sqlite3.Connection, changes: Sequence[_Change[Result]]) -> list[Result | SsealError]:
        return _apply(connection, changes, micros(self._clock.wall()), self._limit)

    def _read(self, connection: sqlite3.Connection, keys: Sequence[str]) -> list[bytes | None]:
        batch = _Batch(_load(connection, keys), micros(self._clock.wall()))
        return [None if (known := batch.get(key)) is None else known[0] for key in keys]


@dataclass(slots=True)
class _Batch:
    """The records that a group of callers asks for, and what becomes of them.

    :param found: what is stored of them, expired ones too.
    :param room: how many more fit.
    """

    found: dict[str, Record]
    now: int
    room: int = 0
    changed: dict[str, Record | None] = field(default_factory=dict)

    def get(self, key: str) -> Record | None:
        """Return a record that has not expired."""
        known = self.changed[key] if key in self.changed else self.found.get(key)
        return known if known is not None and known[1] > self.now else None

    def put(self, key: str, value: bytes, expires_at: int) -> Unavailable | None:
        """Write a record, unless it is new and there is no room."""
        if key not in self.found and key not in self.changed:
            if self.room <= 0:
                return store_full()
            self.room -= 1
        self.changed[key] = (value, expires_at)
        return None

    def drop(self, key: str) -> None:
        """Delete a record."""
        self.changed[key] = None


@dataclass(frozen=True, slots=True)
class _Change(Generic[Result]):
    """What one caller asks for."""

    key: str

    @abstractmethod
    def apply(self, batch: _Batch) -> Result | SsealError:
        """Do it; return the result, or why not."""


@dataclass(frozen=True, slots=True)
class _Put(_Change[None]):
    value: bytes
    expires_at: float

    def apply(self, batch: _Batch) -> SsealError | None:
        return batch.put(self.key, self.value, micros(self.expires_at))


@dataclass(frozen=True, slots=True)
class _Take(_Change[bytes | None]):
    def apply(self, batch: _Batch) -> bytes | None:
        known = batch.get(self.key)
        if known is None:
            return None
        batch.drop(self.key)
        return known[0]


@dataclass(frozen=True, slots=True)
class _Swap(_Change[bool]):
    old: bytes | None
    new: bytes | None
    expires_at: float

    def apply(self, batch: _Batch) -> bool | SsealError:
        known = batch.get(self.key)
        if (None if known is None else known[0]) != self.old:
            return False
        if self.new is not None:
            return batch.put(self.key, self.new, micros(self.expires_at)) or True
        if known is not None:
            batch.drop(self.key)
        return True


@dataclass(frozen=True, slots=True)
class _Count(_Change[int]):
    seconds: float
    by: int

    def apply(self, batch: _Batch) -> int | SsealError:
        known = batch.get(self.key)
        if known is None:
            if self.by <= 0:
                return 0
            return batch.put(self.key, b"%d" % self.by, batch.now + micros(self.seconds)) or self.by
        number = max(0, int(known[0]) + self.by)
        batch.changed[self.key] = (b"%d" % number, known[1])
        return number


def _apply(
    connection: sqlite3.Connection, changes: Sequence[_Change[Result]], now: int, limit: int
) -> list[Result | SsealError]:
    """Do what several callers ask for."""
    _sweep(connection, now)
    (stored,) = connection.execute("SELECT records FROM store").fetchone()
    found = _load(connection, [change.key for change in changes])
    batch = _Batch(found, now, limit - stored)
    results = [change.apply(batch) for change in changes]
    kept = [(key, *record) for key, record in batch.changed.items() if record is not None]
    gone = [key for key, record in batch.changed.items() if record is None and key in found]
    newer = "ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at"
    insert(connection, "INSERT INTO record VALUES", kept, newer)
    if gone:
        connection.execute(f"DELETE FROM record WHERE key IN {places(len(gone))}", gone)  # noqa: S608 - places
    grown = sum(key not in found for key, *_ in kept) - len(gone)
    if grown:
        connection.execute("UPDATE store SET records = records + ?", (grown,))
    return results


def _load(connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Record]:
    """Return what is stored under these keys, expired ones too."""
    select = "SELECT json_group_array(json_array(key, hex(value), expires_at)) FROM record WHERE key IN"
    (text,) = connection.execute(f"{select} {places(len(keys))}", list(keys)).fetchone()
    return {key: (bytes.fromhex(value), expires_at) for key, value, expires_at in decode(text)}


def _sweep(connection: sqlite3.Connection, now: int) -> None:
    """Remove some of what has expired: more than one transaction adds."""
    gone = connection.execute(
        "DELETE FROM record WHERE key IN (SELECT key FROM record WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
        (now, SWEEP_STEP),
    ).rowcount
    if gone:
        connection.execute("UPDATE store SET records = records - ?", (gone,))
