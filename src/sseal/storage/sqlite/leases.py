"""Leases and what they hold, in the file. Times are microseconds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from ...clock import Clock
from ...errors import SsealError
from ..errors import lease_lapsed, store_full
from ..leases import Changes, Held
from .database import Database
from .rows import fetch, insert, micros, places

__all__ = ["Leases"]

NAMES_STEP: Final = 500
"""Names in one statement."""


class Leases:
    """The leases of a file; see the methods of `sseal.storage.store.Store` by the same names.

    :param limit: entries of all owners at once.
    """

    def __init__(self, database: Database, clock: Clock, limit: int) -> None:
        self._database = database
        self._clock = clock
        self._limit = limit

    async def renew(self, owner: str, seconds: float) -> bool:
        """Hold a lease; tell whether it was held until now."""
        return await self._database.write(self._renew, (owner, micros(seconds)))

    async def release(self, owner: str) -> None:
        """Give back a lease with everything under it."""
        await self._database.write(_release, owner)

    async def enter(self, owner: str, changes: Changes) -> dict[str, int]:
        """Put into sets, take out, and count."""
        size = sum(len(value or b"") for value in changes.values())
        return await self._database.write(self._enter, (owner, changes), size=size)

    async def held(self, sets: Sequence[str]) -> dict[str, list[Held]]:
        """Return what is in sets."""
        return await self._database.read(self._held, sets)

    def _renew(self, connection: sqlite3.Connection, items: Sequence[tuple[str, int]]) -> list[bool]:
        return [_renew(connection, owner, length, micros(self._clock.wall())) for owner, length in items]

    def _enter(
        self, connection: sqlite3.Connection, items: Sequence[tuple[str, Changes]]
    ) -> list[dict[str, int] | SsealError]:
        now = micros(self._clock.wall())
        return [_enter(connection, owner, changes, now, self._limit) for owner, changes in items]

    def _held(self, connection: sqlite3.Connection, items: Sequence[Sequence[str]]) -> list[dict[str, list[Held]]]:
        return [_held(connection, sets, micros(self._clock.wall())) for sets in items]


def _renew(connection: sqlite3.Connection, owner: str, length: int, now: int) -> bool:
    """Hold a lease; tell whether it was held until now."""
    known, renewed = _leases(connection)
    holders = _holders(known, renewed, now)
    _release(connection, [name for name in known if name not in holders])
    for name in holders:
        end, longest = known[name]
        if now - renewed > longest / 2 or end > now + longest:  # nobody could renew, or the clock was set back
            _hold(connection, name, longest, now)
    _hold(connection, owner, length, now)
    return owner in holders


def _release(connection: sqlite3.Connection, owners: Sequence[str]) -> list[None]:
    """Give back leases with everything under them."""
    for owner in owners:
        connection.execute("DELETE FROM lease WHERE owner = ?", (owner,))
        connection.execute("DELETE FROM held WHERE owner = ?", (owner,))
    return [None] * len(owners)


def _enter(
    connection: sqlite3.Connection, owner: str, changes: Changes, now: int, limit: int
) -> dict[str, int] | SsealError:
    """Put in, take out and count; refused as a whole without a lease, or when it is too much.

    :param limit: entries of all owners.
    """
    holders = _holders(*_leases(connection), now)
    if owner not in holders:
        return lease_lapsed()
    # A count costs a pass over an index, and a table that is nearly full is no place to be exact: what replaces an
    # entry is taken for a new one.
    (entries,) = connection.execute("SELECT count(*) FROM held").fetchone()
    put = [(name, owner, key, value) for (name, key), value in changes.items() if value is not None]
    if put and entries + len(put) > limit:
        return store_full()
    insert(connection, "INSERT OR REPLACE INTO held VALUES", put)
    gone = [(name, owner, key) for (name, key), value in changes.items() if value is None]
    connection.executemany('DELETE FROM held WHERE "set" = ? AND owner = ? AND id = ?', gone)
    return _counts(connection, sorted({name for name, _ in changes}), holders)


def _held(connection: sqlite3.Connection, sets: Sequence[str], now: int) -> dict[str, list[Held]]:
    """Return what counts in these sets."""
    holders = _holders(*_leases(connection), now)
    found: dict[str, list[Held]] = {name: [] for name in sets}
    for chunk in _chunks(list(found)):
        rows = fetch(
            connection,
            f'SELECT json_group_array(json_array("set", owner, id, hex(value))) FROM held WHERE "set" IN {places(len(chunk))}',  # noqa: S608, E501 - places
            chunk,
        )
        for name, owner, key, value in rows:
            if owner in holders:
                found[name].append(Held(owner, key, bytes.fromhex(value)))
    return {name: sorted(entries) for name, entries in found.items()}


def _leases(connection: sqlite3.Connection) -> tuple[dict[str, tuple[int, int]], int]:
    """Return owner to (end, length), and when a lease was last renewed."""
    known = {owner: (end, length) for owner, end, length in connection.execute("SELECT owner, ends, length FROM lease")}
    return known, max((end - length for end, length in known.values()), default=0)


def _holders(known: dict[str, tuple[int, int]], renewed: int, now: int) -> set[str]:
    """Return who holds a lease: whoever held it when anybody last renewed does so while nobody can."""
    return {
        owner for owner, (end, length) in known.items() if end > now or (end > renewed and now - renewed > length / 2)
    }


def _hold(connection: sqlite3.Connection, owner: str, length: int, now: int) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO lease VALUES (?, ?, ?)",
        (owner, now + length, length),
    )


def _counts(connection: sqlite3.Connection, names: Sequence[str], holders: set[str]) -> dict[str, int]:
    counts = dict.fromkeys(names, 0)
    for chunk in _chunks(names):
        rows = connection.execute(
            f'SELECT "set", owner, count(*) FROM held WHERE "set" IN {places(len(chunk))} GROUP BY "set", owner',  # noqa: S608 - places
            list(chunk),
        )
        for name, owner, number in rows:
            if owner in holders:
                counts[name] += number
    return counts


def _chunks(names: Sequence[str]) -> Iterable[Sequence[str]]:
    return (names[start : start + NAMES_STEP] for start in range(0, len(names), NAMES_STEP))
