"""What nodes tell one another: revocations to all, mail to one, and heartbeats."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from ...errors import Unavailable
from .rows import fetch, insert, micros
from .watcher import ALIVE

__all__ = ["MAX_BODY", "alive", "beat", "collect", "leave", "news", "revocations", "revoke", "send"]

STEP: Final = 1_000
"""Revocations that are over which go with one new one."""
PAGE: Final = 5_000
"""Revocations of one read, so that no number of them takes longer than a read may."""
MAIL_LIFETIME: Final = 10.0
"""Seconds unread mail is kept: whoever sent it has given up long before (W42)."""
MAX_MAIL: Final = 256
"""Messages that wait for one node at once: a node that was killed a moment ago must not keep mail from the others."""
MAX_BODY: Final = 1024 * 1024

Letter = tuple[str, bytes]


def revoke(
    connection: sqlite3.Connection, records: Sequence[tuple[bytes, float]], now: int, limit: int
) -> list[int] | list[Unavailable]:
    """Append to the revocation log and return the numbers; all are refused when it is full."""
    connection.execute(
        "DELETE FROM revocation WHERE number IN"
        " (SELECT number FROM revocation WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
        (now, STEP),
    )
    last, held = connection.execute("SELECT revoked, (SELECT count(*) FROM revocation) FROM store").fetchone()
    if held + len(records) > limit:
        return [Unavailable("the store is full", code="store_full", retry_after=5.0) for _ in records]
    rows = [(last + 1 + index, record, micros(ends)) for index, (record, ends) in enumerate(records)]
    insert(connection, "INSERT INTO revocation VALUES", rows)
    connection.execute("UPDATE store SET revoked = ?", (last + len(rows),))
    return [number for number, _, _ in rows]


def revocations(connection: sqlite3.Connection, after: int, now: int) -> list[tuple[int, bytes]]:
    """Return at most `PAGE` of what is in force after a number; from the start when the log never came that far."""
    (last,) = connection.execute("SELECT revoked FROM store").fetchone()
    rows = fetch(
        connection,
        "SELECT json_group_array(json_array(number, hex(record))) FROM (SELECT number, record FROM revocation"
        " WHERE number > ? AND expires_at > ? ORDER BY number LIMIT ?)",
        (after if after <= last else 0, now, PAGE),
    )
    return [(number, bytes.fromhex(record)) for number, record in sorted(rows)]


def news(connection: sqlite3.Connection, node: str) -> tuple[int, bool]:
    """Return the number of the last revocation, and whether there is mail for a node."""
    last, mail = connection.execute(
        "SELECT revoked, EXISTS (SELECT 1 FROM mail WHERE node = ?) FROM store", (node,)
    ).fetchone()
    return last, bool(mail)


def alive(connection: sqlite3.Connection, now: int) -> list[str]:
    """Return the nodes that were heard of lately."""
    return [
        name for (name,) in connection.execute("SELECT name FROM node WHERE abs(beat - ?) < ?", (now, micros(ALIVE)))
    ]


def beat(connection: sqlite3.Connection, node: str, now: int) -> None:
    """Say that a node lives, and remove nodes and mail that are over."""
    connection.execute(
        "INSERT INTO node VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET beat = excluded.beat", (node, now)
    )
    connection.execute("DELETE FROM node WHERE abs(beat - ?) > ?", (now, 4 * micros(ALIVE)))
    connection.execute("DELETE FROM mail WHERE expires_at <= ?", (now,))


def leave(connection: sqlite3.Connection, nodes: Sequence[str]) -> list[None]:
    """Remove nodes that end."""
    connection.executemany("DELETE FROM node WHERE name = ?", [(node,) for node in nodes])
    return [None] * len(nodes)


def send(connection: sqlite3.Connection, letters: Sequence[Letter], now: int) -> list[bool | Unavailable]:
    """Put mail into the file for nodes that are alive; tell of each whether it is."""
    names = alive(connection, now)
    waiting = dict(connection.execute("SELECT node, count(*) FROM mail WHERE expires_at > ? GROUP BY node", (now,)))
    results: list[bool | Unavailable] = []
    for node, body in letters:
        if node not in names:
            results.append(False)
        elif waiting.get(node, 0) >= MAX_MAIL:
            results.append(Unavailable("too much mail waits for that hub", code="mail_full"))
        else:
            ends = now + micros(MAIL_LIFETIME)
            connection.execute("INSERT INTO mail (node, body, expires_at) VALUES (?, ?, ?)", (node, body, ends))
            waiting[node] = waiting.get(node, 0) + 1
            results.append(True)
    return results


def collect(connection: sqlite3.Connection, node: str, now: int) -> list[bytes]:
    """Take the mail of a node out of the file: at most once, even when nobody acts upon it."""
    unread = connection.execute("SELECT body FROM mail WHERE node = ? AND expires_at > ? ORDER BY id", (node, now))
    bodies = [body for (body,) in unread]
    connection.execute("DELETE FROM mail WHERE node = ?", (node,))
    return bodies
