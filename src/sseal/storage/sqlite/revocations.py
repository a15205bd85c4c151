"""The revocation log in the file: append, read on, and notice that it has grown."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from ...clock import Clock
from ...errors import SsealError
from ..errors import store_full
from .database import Database
from .rows import fetch, insert, micros

__all__ = ["RevocationLog"]

SWEEP_STEP: Final = 1_000
"""Revocations that are over which go with one new one."""
PAGE: Final = 5_000
"""Revocations of one read, so that no number of them takes longer than a read may."""


class RevocationLog:
    """The revocations of a file; see `Store.revoke` and `Store.revocations`.

    :param limit: revocations at once.
    """

    def __init__(self, database: Database, clock: Clock, limit: int) -> None:
        self._database = database
        self._clock = clock
        self._limit = limit

    async def revoke(self, record: bytes, expires_at: float) -> int:
        """Append, and tell all nodes."""
        return await self._database.write(self._append, (record, expires_at), size=len(record), wake=True)

    async def read(self, after: int) -> list[tuple[int, bytes]]:
        """Read what is in force after a number."""
        found: list[tuple[int, bytes]] = []
        while True:
            page = await self._database.read(self._pages, after)
            found += page
            if len(page) < PAGE:
                return found
            after = page[-1][0]

    def _append(self, connection: sqlite3.Connection, items: Sequence[tuple[bytes, float]]) -> list[int | SsealError]:
        """Append and return the numbers; all are refused when the log is full."""
        connection.execute(
            "DELETE FROM revocation WHERE number IN"
            " (SELECT number FROM revocation WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
            (micros(self._clock.wall()), SWEEP_STEP),
        )
        last, held = connection.execute("SELECT revoked, (SELECT count(*) FROM revocation) FROM store").fetchone()
        if held + len(items) > self._limit:
            return [store_full() for _ in items]
        rows = [(last + 1 + index, record, micros(ends)) for index, (record, ends) in enumerate(items)]
        insert(connection, "INSERT INTO revocation VALUES", rows)
        connection.execute("UPDATE store SET revoked = ?", (last + len(rows),))
        return [number for number, _, _ in rows]

    def _pages(self, connection: sqlite3.Connection, afters: Sequence[int]) -> list[list[tuple[int, bytes]]]:
        return [_page(connection, after, micros(self._clock.wall())) for after in afters]


def _page(connection: sqlite3.Connection, after: int, now: int) -> list[tuple[int, bytes]]:
    """Return at most `PAGE` of what is in force after a number; from the start when the log never came that far."""
    (last,) = connection.execute("SELECT revoked FROM store").fetchone()
    rows = fetch(
        connection,
        "SELECT json_group_array(json_array(number, hex(record))) FROM (SELECT number, record FROM revocation"
        " WHERE number > ? AND expires_at > ? ORDER BY number LIMIT ?)",
        (after if after <= last else 0, now, PAGE),
    )
    return [(number, bytes.fromhex(record)) for number, record in sorted(rows)]
