"""Messages between nodes: which nodes are alive, a mailbox for each in the file, and broadcasts beside it (W42)."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from ...clock import Clock
from ...errors import SsealError, TooLarge, Unavailable
from ..store import StoreListener
from .database import Database
from .rows import micros
from .watcher import NODE_TIMEOUT, Watcher

__all__ = ["Messages"]

MESSAGE_TIMEOUT: Final = 10.0
"""Seconds an unread message is kept: whoever sent it has given up long before (W42)."""
MAX_WAITING: Final = 256
"""Messages that wait for one node at once: a node that was killed a moment ago must not keep them from the others."""
MAX_BODY: Final = 1024 * 1024
"""Bytes of a message to a node."""

_Message = tuple[str, bytes]
"""Node and body."""

logger = logging.getLogger("sseal.sqlite")


class Messages:
    """What this node tells others, and what it is told; see the methods of `sseal.storage.store.Store`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.node = ""  # the name of this node, or the last one it had
        self._database = database
        self._clock = clock
        self._listener: StoreListener | None = None  # None while this process is no node
        self._collecting = False  # whether messages are being taken out of the file; set in the watching thread

    def join(self, node: str, listener: StoreListener) -> None:
        """Be a node from now on, whose messages go to ``listener``."""
        self.node, self._listener, self._collecting = node, listener, False

    def mute(self) -> None:
        """Drop messages that are still on their way."""
        self._listener = None

    async def leave(self) -> None:
        """Be no node any more. Once no heartbeat comes: it would make this process one again."""
        with suppress(Unavailable):  # without it the node is gone when its heartbeat is old
            await self._database.write(_delete_nodes, self.node)

    async def send(self, node: str, body: bytes) -> bool:
        """Hand a message to a node.

        :raises TooLarge: it is over 1 MiB.
        """
        if len(body) > MAX_BODY:
            raise TooLarge("body", f"is {len(body)} bytes, at most {MAX_BODY} are allowed")
        if self._listener is not None and node == self.node:
            asyncio.get_running_loop().call_soon(self.hand_out, body)
            return True
        return await self._database.write(self._insert, (node, body), size=len(body), wake=True)

    async def nodes(self) -> list[str]:
        """Return the nodes whose heartbeat is younger than 15 s, and this one."""
        names = await self._database.read(self._alive, None)
        return sorted({*names, self.node} if self._listener is not None else names)

    def hand_out(self, body: bytes) -> None:
        """Give a message to the listener; in the event loop."""
        if self._listener is None:
            return
        try:
            self._listener.on_message(body)
        except Exception:
            logger.exception("a message of another hub was not understood")

    def collect(self, watcher: Watcher) -> None:
        """Take the messages to this node out of the file and hand them out, unless that is being done.

        Called in the watching thread.
        """
        if self._collecting:
            return
        self._collecting = True
        watcher.write_later(self._take_all, self.node, lambda bodies: self._on_collected(bodies, watcher))

    def _on_collected(self, bodies: list[bytes] | None, watcher: Watcher) -> None:
        """Hand messages out. What could not be taken out of the file is tried again when something was written."""
        self._collecting = False
        if bodies is None:
            return
        watcher.look_again()  # for what came after these
        for body in bodies:
            self.hand_out(body)

    def show_alive(self, connection: sqlite3.Connection) -> None:
        """Write the heartbeat of this node, and remove nodes and messages that are over; in the writing thread."""
        now = micros(self._clock.wall())
        connection.execute(
            "INSERT INTO node VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET beat = excluded.beat", (self.node, now)
        )
        connection.execute("DELETE FROM node WHERE abs(beat - ?) > ?", (now, 4 * micros(NODE_TIMEOUT)))
        connection.execute("DELETE FROM mail WHERE expires_at <= ?", (now,))

    def _alive(self, connection: sqlite3.Connection, items: Sequence[None]) -> list[list[str]]:
        return [_alive(connection, micros(self._clock.wall()))] * len(items)

    def _insert(self, connection: sqlite3.Connection, messages: Sequence[_Message]) -> list[bool | SsealError]:
        return _insert(connection, messages, micros(self._clock.wall()))

    def _take_all(self, connection: sqlite3.Connection, nodes: Sequence[str]) -> list[list[bytes]]:
        return [_take_all(connection, node, micros(self._clock.wall())) for node in nodes]


def _alive(connection: sqlite3.Connection, now: int) -> list[str]:
    """Return the nodes that were heard of lately."""
    select = "SELECT name FROM node WHERE abs(beat - ?) < ?"
    return [name for (name,) in connection.execute(select, (now, micros(NODE_TIMEOUT)))]


def _insert(connection: sqlite3.Connection, messages: Sequence[_Message], now: int) -> list[bool | SsealError]:
    """Put messages into the file for nodes that are alive; tell of each whether it is."""
    names = _alive(connection, now)
    waiting = dict(connection.execute("SELECT node, count(*) FROM mail WHERE expires_at > ? GROUP BY node", (now,)))
    results: list[bool | SsealError] = []
    for node, body in messages:
        if node not in names:
            results.append(False)
        elif waiting.get(node, 0) >= MAX_WAITING:
            results.append(Unavailable("too much mail waits for that hub", code="mail_full"))
        else:
            ends = now + micros(MESSAGE_TIMEOUT)
            connection.execute("INSERT INTO mail (node, body, expires_at) VALUES (?, ?, ?)", (node, body, ends))
            waiting[node] = waiting.get(node, 0) + 1
            results.append(True)
    return results


def _take_all(connection: sqlite3.Connection, node: str, now: int) -> list[bytes]:
    """Take the messages of a node out of the file: at most once, even when nobody acts upon them."""
    unread = connection.execute("SELECT body FROM mail WHERE node = ? AND expires_at > ? ORDER BY id", (node, now))
    bodies = [body for (body,) in unread]
    connection.execute("DELETE FROM mail WHERE node = ?", (node,))
    return bodies


def _delete_nodes(connection: sqlite3.Connection, nodes: Sequence[str]) -> list[None]:
    connection.executemany("DELETE FROM node WHERE name = ?", [(node,) for node in nodes])
    return [None] * len(nodes)
