"""Reading back what was appended, by whatever process, in order (W28)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ...position import Position
from ..broker import Entry
from .epochs import Tip, settle
from .log import EVENT, PAGE_BYTES, entry
from .rows import decode
from .watcher import Watcher

__all__ = ["Receiver", "Tail"]

PAGE: Final = 500
"""Entries handed to the event loop at once."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """What a tail tells its broker, in the event loop.

    :param turned: gets the new epoch with what of it was handed out, and the offset of its newest entry.
    """

    on_entries: Callable[[Sequence[Entry], int], None]
    on_gap: Callable[[int], None]
    on_epoch_change: Callable[[Tip, int], None]
    on_reconnect: Callable[[], Coroutine[Any, Any, None]]
    beat: Callable[[sqlite3.Connection], object]


class Tail:
    """Follows the log from a tip on; works in the watching thread, one page ahead of the event loop at most."""

    def __init__(self, tip: Tip, receiver: Receiver) -> None:
        self._tip = tip
        self._receiver = receiver

    def look(self, connection: sqlite3.Connection, watcher: Watcher) -> None:
        """Hand out everything new."""
        more = True
        while more:
            more = self._page(connection, watcher)

    def on_reconnect(self, watcher: Watcher) -> None:
        """Let the hub do what it has to before anything is delivered (W17)."""
        watcher.call_async(self._receiver.on_reconnect)

    def told(self, body: bytes, watcher: Watcher) -> None:
        """Leave to the store what others say."""

    def beat(self, connection: sqlite3.Connection) -> None:
        """Let the broker trim what is too old."""
        self._receiver.beat(connection)

    def _page(self, connection: sqlite3.Connection, watcher: Watcher) -> bool:
        """Hand out a page; tell whether there may be more."""
        epoch, head, trimmed, rows = _read(connection, self._tip.head)
        if epoch != self._tip.lineage.epoch or head < self._tip.head:
            return self._turn(watcher)
        if trimmed > self._tip.head and not watcher.call(lambda: self._receiver.on_gap(trimmed)):
            return False
        entries = [entry(values) for values in rows]
        last = entries[-1].offset if entries else head
        if last > self._tip.head:
            handed_out = watcher.call(lambda: self._receiver.on_entries(entries, last))
            self._tip = Tip(self._tip.lineage, last)
            return handed_out and last < head
        return False

    def _turn(self, watcher: Watcher) -> bool:
        """Go over to a new epoch, and hand out what it has beyond where it agrees with the old one (W10)."""
        tip: Tip = watcher.write(_settle, self._tip)
        agreed = tip.lineage.resolve(Position(self._tip.lineage.epoch, self._tip.head), tip.head)
        # Of a log that has nothing in common with the old one everything is read from the history.
        handed_out = tip.head if agreed.oldest else agreed.offset
        if not watcher.call(lambda: self._receiver.on_epoch_change(Tip(tip.lineage, handed_out), tip.head)):
            return False
        self._tip = Tip(tip.lineage, handed_out)
        return True


def _read(connection: sqlite3.Connection, after: int) -> tuple[str, int, int, list[list[Any]]]:
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


def _settle(connection: sqlite3.Connection, known: Sequence[Tip]) -> list[Tip]:
    return [settle(connection, tip) for tip in known]
