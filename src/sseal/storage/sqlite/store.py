"""The store as a hub sees it: a `Store` in the event loop, the file behind it in threads."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ...clock import Clock
from ...errors import TooLarge, Unavailable
from ..leases import Changes, Held
from ..store import MAX_RECORDS, StoreListener
from . import leases, messages
from .database import Database
from .records import Call, Count, Put, Shelf, Swap, Take, apply, records, sweep
from .rows import micros
from .watcher import Watcher

__all__ = ["SqliteStore"]

logger = logging.getLogger("sseal.sqlite")


class SqliteStore:
    """Records of one file, shared by the processes of one machine.

    :param database: the file; a broker may share it.
    :param clock: what expiry goes by.
    :param max_records: records and revocations at once, each.
    """

    def __init__(self, database: Database, clock: Clock, *, max_records: int = MAX_RECORDS) -> None:
        self._database = database
        self._clock = clock
        self._max = max_records
        self._node = ""
        self._listener: StoreListener | None = None
        self._open = False
        self._revoked = -1
        self._collecting = False

    async def open(self, node: str, listener: StoreListener) -> None:
        """Open the file and be a node; see `Store.open`."""
        await self.close()
        await self._database.open("store")
        self._node, self._listener, self._open, self._revoked = node, listener, True, -1
        self._collecting = False
        try:
            await self._database.listen(self)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Be no node any more and let go of the file."""
        if not self._open:
            return
        self._open, self._listener = False, None
        await self._database.unlisten(self)
        with suppress(Unavailable):  # without it the node is gone when its heartbeat is old
            await self._database.write(messages.leave, self._node)
        await self._database.close()

    @property
    def lost_since(self) -> float | None:
        """Since when the file cannot be read."""
        return self._database.lost_since if self._open else None

    async def put(self, key: str, value: bytes, expires_at: float) -> None:
        """Write a record; see `Store.put`."""
        await self._change(Put(key, value, expires_at), len(value))

    async def get(self, key: str) -> bytes | None:
        """Read a record."""
        value: bytes | None = await self._database.read(self._read, key)
        return value

    async def take(self, key: str) -> bytes | None:
        """Read and delete in one step."""
        value: bytes | None = await self._change(Take(key))
        return value

    async def swap(self, key: str, old: bytes | None, new: bytes | None, expires_at: float) -> bool:
        """Compare and write in one step; see `Store.swap`."""
        swapped: bool = await self._change(Swap(key, old, new, expires_at), len(new or b""))
        return swapped

    async def count(self, key: str, seconds: float, by: int = 1) -> int:
        """Count; see `Store.count`."""
        number: int = await self._change(Count(f"count/{key}", seconds, by))
        return number

    async def renew(self, owner: str, seconds: float) -> bool:
        """Hold a lease; see `Store.renew`."""
        held: bool = await self._database.write(self._renew, (owner, micros(seconds)))
        return held

    async def release(self, owner: str) -> None:
        """Give back a lease."""
        await self._database.write(leases.release, owner)

    async def enter(self, owner: str, changes: Changes) -> dict[str, int]:
        """Put into sets, and count; see `Store.enter`."""
        size = sum(len(value or b"") for value in changes.values())
        counts: dict[str, int] = await self._database.write(self._enter, (owner, changes), size=size)
        return counts

    async def held(self, sets: Sequence[str]) -> dict[str, list[Held]]:
        """Return what is in sets."""
        found: dict[str, list[Held]] = await self._database.read(self._held, sets)
        return found

    async def revoke(self, record: bytes, expires_at: float) -> int:
        """Append to the revocation log, and tell all nodes."""
        number: int = await self._database.write(self._revoke, (record, expires_at), size=len(record), wake=True)
        return number

    async def revocations(self, after: int) -> list[tuple[int, bytes]]:
        """Read the revocation log after a number; see `Store.revocations`."""
        found: list[tuple[int, bytes]] = []
        while True:
            page: list[tuple[int, bytes]] = await self._database.read(self._revocations, after)
            found += page
            if len(page) < messages.PAGE:
                return found
            after = page[-1][0]

    async def send(self, node: str, body: bytes) -> bool:
        """Hand a message to a node; see `Store.send`.

        :raises TooLarge: it is over 1 MiB.
        """
        if len(body) > messages.MAX_BODY:
            raise TooLarge("body", f"is {len(body)} bytes, at most {messages.MAX_BODY} are allowed")
        if self._open and node == self._node:
            asyncio.get_running_loop().call_soon(self._hand_out, body)
            return True
        known: bool = await self._database.write(self._send, (node, body), size=len(body), wake=True)
        return known

    async def broadcast(self, body: bytes) -> None:
        """Hand a message to the other processes of this machine, as datagrams; see `Store.broadcast`."""
        await self._database.broadcast(body)

    async def nodes(self) -> list[str]:
        """Return the nodes whose heartbeat is younger than 15 s, and this one."""
        names: list[str] = await self._database.read(self._nodes, None)
        return sorted({*names, self._node} if self._open else names)

    def look(self, connection: sqlite3.Connection, watcher: Watcher) -> None:
        """Pass on what other nodes said; in the watching thread."""
        last, mail = messages.news(connection, self._node)
        if last != self._revoked and watcher.call(self._tell):
            self._revoked = last
        if mail and not self._collecting:
            self._collecting = True
            watcher.write_later(self._collect, self._node, lambda bodies: self._collected(bodies, watcher))

    def told(self, body: bytes, watcher: Watcher) -> None:
        """Take a broadcast; in the watching thread."""
        watcher.call(lambda: self._hand_out(body))

    def on_reconnect(self, watcher: Watcher) -> None:
        """Have the revocations read again; in the watching thread."""
        del watcher
        self._revoked = -1

    def beat(self, connection: sqlite3.Connection) -> None:
        """Say that this node lives, and remove what is over; in the writing thread."""
        messages.beat(connection, self._node, self._now())
        sweep(connection, self._now())

    async def _change(self, call: Call, size: int = 0) -> Any:
        return await self._database.write(self._apply, call, size=size)

    def _now(self) -> int:
        return micros(self._clock.wall())

    def _tell(self) -> None:
        if self._listener is not None:
            self._listener.on_revocations()

    def _collected(self, bodies: list[bytes] | None, watcher: Watcher) -> None:
        """Hand out mail. What could not be taken out of the file is tried again when something was written."""
        self._collecting = False
        if bodies is None:
            return
        watcher.look_again()  # for what came after these
        for body in bodies:
            self._hand_out(body)

    def _hand_out(self, body: bytes) -> None:
        if self._listener is None:
            return
        try:
            self._listener.on_message(body)
        except Exception:
            logger.exception("a message of another hub was not understood")

    # What follows runs in the threads of the database, for several callers at once.

    def _apply(self, connection: sqlite3.Connection, calls: Sequence[Call]) -> list[Any]:
        return apply(connection, calls, self._now(), self._max)

    def _read(self, connection: sqlite3.Connection, keys: Sequence[str]) -> list[bytes | None]:
        shelf = Shelf(records(connection, keys), self._now())
        return [None if (known := shelf.get(key)) is None else known[0] for key in keys]

    def _renew(self, connection: sqlite3.Connection, items: Sequence[tuple[str, int]]) -> list[bool]:
        return [leases.renew(connection, owner, length, self._now()) for owner, length in items]

    def _enter(self, connection: sqlite3.Connection, items: Sequence[tuple[str, Changes]]) -> list[Any]:
        return [leases.enter(connection, owner, changes, self._now(), self._max) for owner, changes in items]

    def _held(self, connection: sqlite3.Connection, items: Sequence[Sequence[str]]) -> list[dict[str, list[Held]]]:
        return [leases.held(connection, sets, self._now()) for sets in items]

    def _revoke(self, connection: sqlite3.Connection, items: Sequence[tuple[bytes, float]]) -> Sequence[Any]:
        return messages.revoke(connection, items, self._now(), self._max)

    def _revocations(self, connection: sqlite3.Connection, afters: Sequence[int]) -> list[list[tuple[int, bytes]]]:
        return [messages.revocations(connection, after, self._now()) for after in afters]

    def _send(self, connection: sqlite3.Connection, letters: Sequence[messages.Letter]) -> list[bool | Unavailable]:
        return messages.send(connection, letters, self._now())

    def _collect(self, connection: sqlite3.Connection, nodes: Sequence[str]) -> list[list[bytes]]:
        return [messages.collect(connection, node, self._now()) for node in nodes]

    def _nodes(self, connection: sqlite3.Connection, items: Sequence[None]) -> list[list[str]]:
        return [messages.alive(connection, self._now())] * len(items)
