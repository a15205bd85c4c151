"""Appending what several callers published in one transaction: offsets, keys, canaries (W20, W28)."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from ...errors import Conflict, SsealError
from ...position import MAX_OFFSET
from ..broker import IdempotencyKey, Publication
from .log import EventRow, Log, is_canary, row
from .retention import trim
from .rows import fetch, insert, micros, texts

__all__ = ["MAX_KEYS", "append"]

KEY_LIFETIME: Final = 24 * 3600.0
"""Seconds an idempotency key is remembered (W20)."""
MAX_KEYS: Final = 100_000
"""Keys remembered at once: about 15 MiB; the oldest goes first."""
KEYS_STEP: Final = 1_000
"""Expired keys one commit looks for."""
CANARIES: Final = 8
"""Canaries kept of each topic: a hub reads its own back even when it has sent the next."""

Claims = dict[str, tuple[bytes, int]]


def append(
    connection: sqlite3.Connection, log: Log, calls: Sequence[Sequence[Publication]], now: int
) -> list[list[int] | SsealError]:
    """Append what each caller brought, all or nothing for each; return offsets or `Conflict` for each.

    :param now: Unix microseconds.
    """
    plan = _Plan(log.head, now, _known(connection, calls, now))
    answers: list[list[int] | SsealError] = [plan.take(publications) for publications in calls]
    if plan.events:
        plan.write(connection)
        log.head = plan.head
        log.events += sum(not is_canary(event[1]) for event in plan.events)
        log.bytes += sum(event[2] for event in plan.events)
        trim(connection, log, now)
        log.save(connection)
    return answers


class _Plan:
    """What a transaction is going to append."""

    def __init__(self, head: int, now: int, known: Claims) -> None:
        self.head = head  # with what was taken so far
        self.events: list[EventRow] = []
        self._now = now  # Unix microseconds
        self._known = known  # keys of earlier transactions, and those claimed in this one
        self._claimed: Claims = {}  # keys claimed in this one

    def take(self, publications: Sequence[Publication]) -> list[int] | Conflict:
        """Give the publications of one caller their offsets, unless one of their keys was used for something else."""
        claimed: Claims = {}
        offsets: list[int] = []
        fresh: list[EventRow] = []
        for publication in publications:
            name = None if publication.key is None else _name(publication.key)
            if publication.key is not None and name is not None:
                first = claimed.get(name) or self._known.get(name)
                if first is not None and first[0] != publication.key.digest:
                    return _conflict(publication.key, twice=name in claimed)
                if first is not None:
                    offsets.append(first[1])
                    continue
                claimed[name] = (publication.key.digest, self.head + len(fresh) + 1)
            offsets.append(self.head + len(fresh) + 1)
            fresh.append(row(offsets[-1], publication, self._now))
        if self.head + len(fresh) > MAX_OFFSET:
            raise OverflowError("the log has given all its offsets")
        self.head += len(fresh)
        self.events += fresh
        self._known |= claimed
        self._claimed |= claimed
        return offsets

    def write(self, connection: sqlite3.Connection) -> None:
        """Write events, their places under their topics, and keys."""
        insert(connection, "INSERT INTO event VALUES", self.events)
        listed = [(topic, event[0]) for event in self.events for topic in dict.fromkeys(event[1].split("\n"))]
        insert(connection, "INSERT INTO listed VALUES", listed)
        _replace_canaries(connection, (event[1] for event in self.events if is_canary(event[1])))
        if self._claimed:
            ends = self._now + micros(KEY_LIFETIME)
            rows = [(name, digest, offset, ends) for name, (digest, offset) in self._claimed.items()]
            insert(connection, 'INSERT OR REPLACE INTO claim (key, digest, "offset", expires_at) VALUES', rows)
            _forget_keys(connection, self._now)


def _known(connection: sqlite3.Connection, calls: Sequence[Sequence[Publication]], now: int) -> Claims:
    names = [
        _name(publication.key) for publications in calls for publication in publications if publication.key is not None
    ]
    if not names:
        return {}
    rows = fetch(
        connection,
        'SELECT json_group_array(json_array(key, hex(digest), "offset")) FROM claim'
        " WHERE key IN (SELECT value FROM json_each(?)) AND expires_at > ?",
        (texts(names), now),
    )
    return {name: (bytes.fromhex(digest), offset) for name, digest, offset in rows}


def _forget_keys(connection: sqlite3.Connection, now: int) -> None:
    connection.execute("DELETE FROM claim WHERE id <= (SELECT max(id) FROM claim) - ?", (MAX_KEYS,))
    connection.execute(
        "DELETE FROM claim WHERE id IN (SELECT id FROM claim ORDER BY id LIMIT ?) AND expires_at <= ?", (KEYS_STEP, now)
    )


def _replace_canaries(connection: sqlite3.Connection, topics: Iterable[str]) -> None:
    for topic in dict.fromkeys(topics):
        older = 'SELECT "offset" FROM listed WHERE topic = ? ORDER BY "offset" DESC LIMIT -1 OFFSET ?'
        offsets = [(offset,) for (offset,) in connection.execute(older, (topic, CANARIES))]
        connection.executemany('DELETE FROM event WHERE "offset" = ?', offsets)
        connection.executemany(
            'DELETE FROM listed WHERE topic = ? AND "offset" = ?', [(topic, *row) for row in offsets]
        )


def _name(key: IdempotencyKey) -> str:
    """Return one short text for scope and key, however long these are."""
    return hashlib.sha256(json.dumps([*key.scope, key.key]).encode()).hexdigest()


def _conflict(key: IdempotencyKey, *, twice: bool) -> Conflict:
    if twice:
        return Conflict(f"key: {key.key!r} stands twice in this request with different content")
    return Conflict(f"key: {key.key!r} was used before with other content")
