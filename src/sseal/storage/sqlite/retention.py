"""What the log lets go of, and what it remembers of it (W25)."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import Final

from .log import Log, is_canary
from .rows import Row, fetch, insert, texts

__all__ = ["MAX_TRIMMED", "TRIM_STEP", "due", "trim"]

TRIM_STEP: Final = 1_000
"""Events one commit trims at most: some ten milliseconds, and other writers get their turn."""
MIN_STEP: Final = 64
"""Rows looked at when it is not known how many are over."""
MAX_TRIMMED: Final = 65_536
"""Topics whose newest trimmed offset is kept apart; older ones fall into the common floor."""


@dataclass(slots=True)
class _TrimPlan:
    """What is trimmed.

    :param last: its newest offset; ``next_at`` is when the event after it was published, 0 if that was not looked at.
    :param missed: per topic the newest that somebody may miss.
    """

    last: int = 0
    next_at: int = 0
    topics: set[str] = field(default_factory=set)
    missed: dict[str, tuple[int, int]] = field(default_factory=dict)


def due(log: Log, now: int) -> bool:
    """Tell whether the oldest event has to go."""
    return log.events > log.keep_count or log.bytes > log.keep_bytes or log.oldest_at <= now - log.keep_age


def trim(connection: sqlite3.Connection, log: Log, now: int) -> bool:
    """Let the oldest events go until all bounds hold, at most `TRIM_STEP`; tell whether more has to go.

    The caller saves ``log``.
    """
    if not due(log, now):
        return False
    limit = TRIM_STEP if log.bytes > log.keep_bytes else min(TRIM_STEP, max(MIN_STEP, log.events - log.keep_count))
    rows = fetch(
        connection,
        'SELECT json_group_array(json_array("offset", topics, bytes, published_at, expires_at)) FROM'
        ' (SELECT * FROM event ORDER BY "offset" LIMIT ?)',
        (limit,),
    )
    plan = _choose(sorted(rows), log, now)
    if not plan.last:
        return False
    connection.execute('DELETE FROM event WHERE "offset" <= ?', (plan.last,))
    connection.execute(
        'DELETE FROM listed WHERE topic IN (SELECT value FROM json_each(?)) AND "offset" <= ?',
        (texts(plan.topics), plan.last),
    )
    _remember(connection, log, plan.missed)
    log.oldest_at = plan.next_at
    return due(log, now)


def _choose(rows: list[Row], log: Log, now: int) -> _TrimPlan:
    plan = _TrimPlan()
    for offset, topics, size, published_at, expires_at in rows:
        over = log.events > log.keep_count or log.bytes > log.keep_bytes or published_at <= now - log.keep_age
        if not over:
            plan.next_at = published_at
            break
        names = topics.split("\n")
        plan.last = offset
        plan.topics.update(names)
        if is_canary(topics):
            continue
        log.events -= 1
        log.bytes -= size
        log.trimmed = offset
        # An event that expired by its own ttl is not missed by anybody.
        if expires_at is None or expires_at > now:
            plan.missed |= dict.fromkeys(names, (offset, published_at))
    return plan


def _remember(connection: sqlite3.Connection, log: Log, missed: dict[str, tuple[int, int]]) -> None:
    """Keep the newest trimmed offset of each topic; the oldest of too many fall into the floor."""
    if not missed:
        return
    there = "SELECT count(*) FROM trimmed WHERE topic IN (SELECT value FROM json_each(?))"
    (known,) = connection.execute(there, (texts(missed),)).fetchone()
    insert(
        connection,
        "INSERT INTO trimmed VALUES",
        [(topic, offset, published_at) for topic, (offset, published_at) in missed.items()],
        'ON CONFLICT (topic) DO UPDATE SET "offset" = excluded."offset", published_at = excluded.published_at',
    )
    log.records += len(missed) - known
    if log.records <= MAX_TRIMMED:
        return
    oldest = fetch(
        connection,
        'SELECT json_group_array(json_array("offset", published_at, topic)) FROM'
        ' (SELECT * FROM trimmed ORDER BY "offset" LIMIT ?)',
        (log.records - MAX_TRIMMED,),
    )
    connection.execute(
        "DELETE FROM trimmed WHERE topic IN (SELECT value FROM json_each(?))", (texts(row[2] for row in oldest),)
    )
    log.records -= len(oldest)
    log.floor, log.floor_at = max((log.floor, log.floor_at), *((row[0], row[1]) for row in oldest))
