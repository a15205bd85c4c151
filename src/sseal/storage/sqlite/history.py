"""Pages of the log: one snapshot each, merged by offset, never more work than bounded (W7)."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ...subscription import TopicSet
from ...topics import Pattern
from ..broker import Entry, Page
from .log import EVENT, PAGE_BYTES, Log, entry, is_canary
from .retention import due
from .rows import Row, fetch, micros, texts

__all__ = ["LOST_SCAN", "SCAN", "HistoryQuery", "pages"]

SCAN: Final = 1_000
"""Events that one page looks through for patterns: about a millisecond, and others get their turn."""
LOST_SCAN: Final = 2_000
"""Topics' newest trimmed offsets that one page looks through for patterns: some milliseconds."""
BEYOND: Final = "\U0010ffff"
"""Sorts after every text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryQuery:
    """What `Broker.history` was asked.

    :param now: Unix microseconds.
    :param require_trimmed: answer nothing while retention is due, so that nothing is shown that should be gone.
    """

    topics: TopicSet
    after: int
    upto: int | None
    limit: int
    since: Mapping[str, float]
    now: int
    require_trimmed: bool = True


def pages(connection: sqlite3.Connection, queries: Sequence[HistoryQuery]) -> list[Page | None]:
    """Answer each; None for one that has to wait until the log is trimmed."""
    return [_page(connection, query) for query in queries]


def _page(connection: sqlite3.Connection, asked: HistoryQuery) -> Page | None:
    log = Log.read(connection)
    if asked.require_trimmed and due(log, asked.now):
        return None
    upto = log.head if asked.upto is None else min(asked.upto, log.head)
    offsets = _of_topics(connection, asked, upto)
    looked = upto
    if asked.topics.patterns:
        found, looked = _of_patterns(connection, asked.topics, asked.after, upto)
        offsets |= found
    ordered = sorted(offset for offset in offsets if offset <= looked)
    entries = _load(connection, ordered[: asked.limit])
    whole = len(entries) == len(ordered)
    alive = [item for item in entries if item.expires_at is None or micros(item.expires_at) > asked.now]
    lost = _lost(connection, asked, log)
    return Page(alive, max(looked, asked.after) if whole else entries[-1].offset, not whole or looked < upto, lost)


def _of_topics(connection: sqlite3.Connection, asked: HistoryQuery, upto: int) -> set[int]:
    """Return the first offsets of each topic, one more than fit on the page."""
    topics = [topic for topic in asked.topics.exact if not is_canary(topic)]
    if not topics:
        return set()
    rows = fetch(
        connection,
        """
        SELECT json_group_array(json(found)) FROM (SELECT (
            SELECT json_group_array("offset") FROM (
                SELECT "offset" FROM listed WHERE topic = asked.value AND "offset" > ? AND "offset" <= ?
                ORDER BY "offset" LIMIT ?
            )) AS found FROM json_each(?) AS asked)
        """,
        (asked.after, upto, asked.limit + 1, texts(topics)),
    )
    return {offset for found in rows for offset in found}


def _of_patterns(connection: sqlite3.Connection, topics: TopicSet, after: int, upto: int) -> tuple[set[int], int]:
    """Return the offsets that match, and the offset up to which was looked."""
    patterns = TopicSet(frozenset(), topics.patterns)
    if upto - after > SCAN and (found := _through_index(connection, patterns, after, upto)) is not None:
        return found, upto
    match = patterns.matcher()
    rows = fetch(
        connection,
        'SELECT json_group_array(json_array("offset", topics)) FROM (SELECT "offset", topics FROM event'
        ' WHERE "offset" > ? AND "offset" <= ? ORDER BY "offset" LIMIT ?)',
        (after, upto, SCAN),
    )
    looked = max(offset for offset, _ in rows) if len(rows) == SCAN else upto
    return {offset for offset, names in rows if not is_canary(names) and match(tuple(names.split("\n")))}, looked


def _through_index(connection: sqlite3.Connection, patterns: TopicSet, after: int, upto: int) -> set[int] | None:
    """Look only at the topics that begin as the patterns do; None when these are too many events."""
    rows: list[Row] = []
    for pattern in patterns.patterns:
        first, last = _range(pattern)
        rows += fetch(
            connection,
            'SELECT json_group_array(json_array(topic, "offset")) FROM (SELECT topic, "offset" FROM listed'
            " WHERE topic >= ? AND topic < ? LIMIT ?)",
            (first, last, SCAN + 1 - len(rows)),
        )
        if len(rows) > SCAN:
            return None
    match = patterns.matcher()
    return {offset for topic, offset in rows if after < offset <= upto and not is_canary(topic) and match((topic,))}


def _range(pattern: Pattern) -> tuple[str, str]:
    """Return between which two texts, the second excluded, every topic of a pattern lies."""
    literal = ""
    for segment in pattern.segments:
        if segment in ("*", "**"):
            break
        literal += f"{segment}/"
    return literal, literal + BEYOND


def _load(connection: sqlite3.Connection, offsets: Sequence[int]) -> list[Entry]:
    """Return these events, as many from the first on as one page holds."""
    if not offsets:
        return []
    rows = fetch(
        connection,
        f"""
        WITH asked AS (
            SELECT event."offset" AS "offset", sum(bytes) OVER (ORDER BY event."offset") - bytes AS before
            FROM json_each(?) AS wanted CROSS JOIN event ON event."offset" = wanted.value
        )
        SELECT json_group_array({EVENT}) FROM (
            SELECT event.* FROM asked CROSS JOIN event USING ("offset") WHERE before < ?
        )
        """,  # noqa: S608 - a constant
        (texts(offsets), PAGE_BYTES),
    )
    return [entry(values) for values in sorted(rows)]


def _lost(connection: sqlite3.Connection, asked: HistoryQuery, log: Log) -> int:
    """Return the newest trimmed offset after the start; topics without a record share the floor."""
    newest = asked.after
    floor = (log.floor, log.floor_at)
    exact = [topic for topic in asked.topics.exact if not is_canary(topic)]
    known = {topic: (offset, at) for topic, offset, at in _trimmed_of(connection, exact)}
    for topic in exact:
        offset, at = known.get(topic, floor)
        if offset > newest and at >= _since(asked, topic):
            newest = offset
    if log.floor > newest and any(log.floor_at >= _since(asked, str(pattern)) for pattern in asked.topics.patterns):
        newest = log.floor
    if asked.topics.patterns:
        newest = _lost_of_patterns(connection, asked, newest)
    return newest if newest > asked.after else 0


def _trimmed_of(connection: sqlite3.Connection, topics: Sequence[str]) -> list[Row]:
    if not topics:
        return []
    return fetch(
        connection,
        'SELECT json_group_array(json_array(topic, "offset", published_at)) FROM trimmed'
        " WHERE topic IN (SELECT value FROM json_each(?))",
        (texts(topics),),
    )


def _lost_of_patterns(connection: sqlite3.Connection, asked: HistoryQuery, after: int) -> int:
    """Return the newest trimmed offset of all patterns, or ``after``.

    Of more records than are looked through the newest offset of the rest is given: a gap that may be none is
    honest, silence would not be.
    """
    tests = [(re.compile(each.regex).fullmatch, _since(asked, str(each))) for each in asked.topics.patterns]
    rows = fetch(
        connection,
        'SELECT json_group_array(json_array("offset", topic, published_at)) FROM (SELECT * FROM trimmed'
        ' WHERE "offset" > ? ORDER BY "offset" DESC LIMIT ?)',
        (after, LOST_SCAN + 1),
    )
    rows.sort(reverse=True)
    for offset, topic, at in rows[:LOST_SCAN]:
        if any(at >= start and match(topic) for match, start in tests):
            return int(offset)
    if len(rows) <= LOST_SCAN:
        return after
    through_index = _lost_through_index(connection, asked, after)
    return int(rows[-1][0]) if through_index is None else through_index


def _lost_through_index(connection: sqlite3.Connection, asked: HistoryQuery, after: int) -> int | None:
    """Look only at the topics that begin as the patterns do; None when these are too many."""
    newest, left = after, LOST_SCAN
    for pattern in asked.topics.patterns:
        match, start = re.compile(pattern.regex).fullmatch, _since(asked, str(pattern))
        rows = fetch(
            connection,
            'SELECT json_group_array(json_array("offset", topic, published_at)) FROM (SELECT * FROM trimmed'
            " WHERE topic >= ? AND topic < ? LIMIT ?)",
            (*_range(pattern), left + 1),
        )
        left -= len(rows)
        if left < 0:
            return None
        newest = max(newest, *(offset for offset, topic, at in rows if at >= start and match(topic)), 0)
    return newest


def _since(asked: HistoryQuery, name: str) -> int:
    return micros(asked.since.get(name, 0.0))
