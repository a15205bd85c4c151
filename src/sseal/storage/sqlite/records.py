"""What several callers do to records in one transaction, one after the other."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ...errors import Unavailable
from .rows import decode, insert, micros, places

__all__ = ["Call", "Count", "Put", "Shelf", "Swap", "Take", "apply", "records", "sweep"]

STEP: Final = 1_000
"""Expired records that go with one commit."""

Record = tuple[bytes, int]
"""A value, and the Unix microsecond at which it is over."""


@dataclass(slots=True)
class Shelf:
    """The records that the calls are about, and what becomes of them.

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
                return Unavailable("the store is full", code="store_full", retry_after=5.0)
            self.room -= 1
        self.changed[key] = (value, expires_at)
        return None

    def drop(self, key: str) -> None:
        """Delete a record."""
        self.changed[key] = None


@dataclass(frozen=True, slots=True)
class Put:
    """Write; see `Store.put`."""

    key: str
    value: bytes
    expires_at: float

    def on(self, shelf: Shelf) -> Unavailable | None:
        """Return nothing, or why not."""
        return shelf.put(self.key, self.value, micros(self.expires_at))


@dataclass(frozen=True, slots=True)
class Take:
    """Read and delete; see `Store.take`."""

    key: str

    def on(self, shelf: Shelf) -> bytes | None:
        """Return the value."""
        known = shelf.get(self.key)
        if known is None:
            return None
        shelf.drop(self.key)
        return known[0]


@dataclass(frozen=True, slots=True)
class Swap:
    """Compare and write; see `Store.swap`."""

    key: str
    old: bytes | None
    new: bytes | None
    expires_at: float

    def on(self, shelf: Shelf) -> bool | Unavailable:
        """Return whether it was done, or why not."""
        known = shelf.get(self.key)
        if (None if known is None else known[0]) != self.old:
            return False
        if self.new is not None:
            return shelf.put(self.key, self.new, micros(self.expires_at)) or True
        if known is not None:
            shelf.drop(self.key)
        return True


@dataclass(frozen=True, slots=True)
class Count:
    """Count; see `Store.count`."""

    key: str
    seconds: float
    by: int

    def on(self, shelf: Shelf) -> int | Unavailable:
        """Return the number, or why not."""
        known = shelf.get(self.key)
        if known is None:
            if self.by <= 0:
                return 0
            return shelf.put(self.key, b"%d" % self.by, shelf.now + micros(self.seconds)) or self.by
        number = max(0, int(known[0]) + self.by)
        shelf.changed[self.key] = (b"%d" % number, known[1])
        return number


Call = Put | Take | Swap | Count


def apply(connection: sqlite3.Connection, calls: Sequence[Call], now: int, limit: int) -> list[Any]:
    """Do what several callers ask for; the result of each may be an exception.

    :param limit: records at once.
    """
    sweep(connection, now)
    (stored,) = connection.execute("SELECT records FROM store").fetchone()
    found = records(connection, [call.key for call in calls])
    shelf = Shelf(found, now, limit - stored)
    results = [call.on(shelf) for call in calls]
    kept = [(key, *record) for key, record in shelf.changed.items() if record is not None]
    gone = [key for key, record in shelf.changed.items() if record is None and key in found]
    newer = "ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at"
    insert(connection, "INSERT INTO record VALUES", kept, newer)
    if gone:
        connection.execute(f"DELETE FROM record WHERE key IN {places(len(gone))}", gone)  # noqa: S608 - places
    grown = sum(key not in found for key, *_ in kept) - len(gone)
    if grown:
        connection.execute("UPDATE store SET records = records + ?", (grown,))
    return results


def records(connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Record]:
    """Return what is stored under these keys, expired ones too."""
    select = "SELECT json_group_array(json_array(key, hex(value), expires_at)) FROM record WHERE key IN"
    (text,) = connection.execute(f"{select} {places(len(keys))}", list(keys)).fetchone()
    return {key: (bytes.fromhex(value), expires_at) for key, value, expires_at in decode(text)}


def sweep(connection: sqlite3.Connection, now: int) -> None:
    """Remove some of what has expired: more than one transaction adds."""
    gone = connection.execute(
        "DELETE FROM record WHERE key IN (SELECT key FROM record WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
        (now, STEP),
    ).rowcount
    if gone:
        connection.execute("UPDATE store SET records = records - ?", (gone,))
