"""The row that counts what the log holds, and events as rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Final

from ..broker import CANARY_ROOT, Entry, Publication, Retention
from .rows import Row, micros, seconds

__all__ = ["EVENT", "PAGE_BYTES", "EventRow", "Log", "entry", "is_canary", "keep", "row", "size_of"]

EVENT: Final = 'json_array("offset", topics, published_at, expires_at, retry, type, data)'
"""What `entry` makes an entry of."""
PAGE_BYTES: Final = 4 * 1024 * 1024
"""Bytes of events one page holds at most, unless a single event is larger: they are in memory several times."""
EVENT_OVERHEAD: Final = 100
TOPIC_OVERHEAD: Final = 20
"""Bytes an event and its place under a topic cost in the file beside their text."""
_DEFAULT: Final = Retention()
_NEVER: Final = 2**62

EventRow = tuple[int, str, int, int, int | None, int | None, str, str]
"""Offset, topics, bytes, published_at, expires_at, retry, type, data: a row of the table ``event``."""


@dataclass(slots=True)
class Log:
    """The counters of the log, read at the start of a transaction and written at its end.

    :param trimmed: offset of the newest event that retention took.
    :param events: how many it holds, canaries apart; ``bytes`` what they cost.
    :param records: topics whose newest trimmed offset is kept apart; the others share ``floor`` and ``floor_at``.
    :param keep_count: the retention of the last hub, age in microseconds.
    :param oldest_at: when the oldest event was published.
    """

    epoch: str
    head: int
    trimmed: int
    events: int
    bytes: int
    records: int
    floor: int
    floor_at: int
    keep_count: int
    keep_age: int
    keep_bytes: int
    oldest_at: int

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> Log:
        """Read the row."""
        return cls(
            *connection.execute(
                "SELECT epoch, head, trimmed, events, bytes, records, floor, floor_at,"
                " ifnull(keep_count, ?), ifnull(keep_age, ?), ifnull(keep_bytes, ?),"
                ' ifnull((SELECT published_at FROM event ORDER BY "offset" LIMIT 1), ?) FROM log',
                (_DEFAULT.count, micros(_DEFAULT.age), _DEFAULT.size, _NEVER),
            ).fetchone()
        )

    def save(self, connection: sqlite3.Connection) -> None:
        """Write the counters back."""
        connection.execute(
            "UPDATE log SET head = ?, trimmed = ?, events = ?, bytes = ?, records = ?, floor = ?, floor_at = ?",
            astuple(self)[1:8],
        )


def keep(connection: sqlite3.Connection, retentions: Sequence[Retention]) -> list[None]:
    """Store how much shall be kept; the last one wins."""
    for wanted in retentions:
        values = (min(wanted.count, 2**62), micros(wanted.age), min(wanted.size, 2**62))
        connection.execute("UPDATE log SET keep_count = ?, keep_age = ?, keep_bytes = ?", values)
    return [None] * len(retentions)


def row(offset: int, publication: Publication, now: int) -> EventRow:
    """Return an event as it is stored; no printable text, so no topic, holds a line feed."""
    ends = None if publication.ttl is None else now + micros(publication.ttl)
    topics = "\n".join(publication.topics)
    size = 0 if is_canary(topics) else size_of(publication)
    return (offset, topics, size, now, ends, publication.retry, publication.type, publication.data)


def entry(values: Row) -> Entry:
    """Return an event as it is handed out."""
    offset, topics, published_at, expires_at, retry, kind, data = values
    ends = None if expires_at is None else seconds(expires_at)
    return Entry(offset, tuple(topics.split("\n")), kind, data, seconds(published_at), ends, retry)


def is_canary(topics: str) -> bool:
    """Tell whether an event, given by its topics as they are stored, is a canary."""
    return topics.startswith(CANARY_ROOT)


def size_of(publication: Publication) -> int:
    """Return about how many bytes an event costs in the file."""
    topics = sum(2 * len(topic) + TOPIC_OVERHEAD for topic in publication.topics)
    return len(publication.data.encode()) + len(publication.type) + topics + EVENT_OVERHEAD
