"""Reading back what was appended, by whatever process, in order (W28)."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, Protocol

from ...position import Position
from ..broker import Entry
from .epochs import Tip, ensure_continuity
from .log import EVENT, PAGE_BYTES, entry
from .rows import Row, decode
from .watcher import Watcher

__all__ = ["Tail", "TailListener"]

PAGE: Final = 500
"""Entries handed to the event loop at once."""


class TailListener(Protocol):
    """What a tail tells its broker; in the event loop, but for the last."""

    def on_entries(self, entries: Sequence[Entry], head: int) -> None:
        """Take the next entries, and the offset up to which everything has been given."""
        ...

    def on_gap(self, upto: int) -> None:
        """Learn that entries up to an offset are gone."""
        ...

    def on_epoch_change(self, tip: Tip, newest: int) -> None:
        """Learn of a new epoch: what of it counts as handed out, and the offset of its newest entry."""
        ...

    async def on_reconnect(self) -> None:
        """Do what has to be done before anything is delivered after the file could not be read (W17)."""
        ...

    def on_heartbeat(self, connection: sqlite3.Connection) -> None:
        """Trim what is too old; in the writing thread."""
        ...


class Tail:
    """Follows the log from a tip on; works in the watching thread, one page ahead of the event loop at most."""

    def __init__(self, tip: Tip, listener: TailListener) -> None:
        self._tip = tip  # up to where the entries were handed out
        self._listener = listener

    def on_change(self, connection: sqlite3.Connection, watcher: Watcher) -> None:
        """Hand out everything new."""
        more = True
        while more:
            more = self._hand_out_page(connection, watcher)

    def on_reconnect(self, watcher: Watcher) -> None:
        """Let the hub do what it has to before anything is delivered (W17)."""
        watcher.call_async(self._listener.on_reconnect)

    def on_broadcast(self, body: bytes, watcher: Watcher) -> None:
        """Nothing to do: broadcasts are for the store."""

    def on_heartbeat(self, connection: sqlite3.Connection) -> None:
        """Let the broker trim what is too old."""
        self._listener.on_heartbeat(connection)

    def _hand_out_page(self, connection: sqlite3.Connection, watcher: Watcher) -> bool:
        """Hand out a page; tell whether there may be more."""
        epoch, head, trimmed, rows = _read(connection, self._tip.head)
        if epoch != self._tip.lineage.epoch or head < self._tip.head:
            return self._change_epoch(watcher)
        if trimmed > self._tip.head and not watcher.call(lambda: self._listener.on_gap(trimmed)):
            return False
        entries = [entry(values) for values in rows]
        last = entries[-1].offset if entries else head
        if last > self._tip.head:
            handed_out = watcher.call(lambda: self._listener.on_entries(entries, last))
            self._tip = Tip(self._tip.lineage, last)
            return handed_out and last < head
        return False

    def _change_epoch(self, watcher: Watcher) -> bool:
        """Go over to a new epoch, and hand out what it has beyond where it agrees with the old one (W10)."""
        tip = watcher.write(_ensure_continuity, self._tip)
        agreed = tip.lineage.resolve(Position(self._tip.lineage.epoch, self._tip.head), tip.head)
        # Of a log that has nothing in common with the old one everything is read from the history.
        handed_out = tip.head if agreed.oldest else agreed.offset
        if not watcher.call(lambda: self._listener.on_epoch_change(Tip(tip.lineage, handed_out), tip.head)):
            return False
        self._tip = Tip(tip.lineage, handed_out)
        return True


def _read(connection: sqlite3.Connection, after: int) -> tuple[str, int, int, list[Row]]:
    """Return epoch, head, newest trimmed offset, and the entries after an offset: in one statement, one snapshot."""
    epoch, head, trimmed, events = connection.execute(
        f"""
        SELECT epoch, head, trimmed, (
            SELECT json_group_array({EVENT}) FROM (
                SELECT * FROM event WHERE "offset" > ? AND "offset" <= (
                    SELECT max("offset") FROM (
                        SELECT "offset", sum(bytes) OVER (ORDER BY "offset") - bytes AS before FROM (
                            SELECT "offset", bytes FROM event WHERE "offset" > ? ORDER BY "offset" LIMIT ?
                        )
                    ) WHERE before < ?
                )
            )
        ) FROM log
        """,  # noqa: S608 - a constant
        (after, after, PAGE, PAGE_BYTES),
    ).fetchone()
    return epoch, head, trimmed, sorted(decode(events))


def _ensure_continuity(connection: sqlite3.Connection, known: Sequence[Tip]) -> list[Tip]:
    return [ensure_continuity(connection, tip) for tip in known]
