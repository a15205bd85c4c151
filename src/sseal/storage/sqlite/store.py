"""The store as a hub sees it: a `Store` in the event loop, the file behind it in threads."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from ...clock import Clock
from ..leases import Changes, Held
from ..store import MAX_RECORDS, StoreListener
from .database import Database
from .leases import Leases
from .messages import Messages
from .records import Records
from .revocations import RevocationLog
from .watcher import Watcher

__all__ = ["SqliteStore"]


class SqliteStore:
    """Records of one file, shared by the processes of one machine; see `Store` for all that has no word of its own.

    :param database: the file; a broker may share it.
    :param clock: what expiry goes by.
    :param max_records: records, revocations and entries at once, each.
    """

    def __init__(self, database: Database, clock: Clock, *, max_records: int = MAX_RECORDS) -> None:
        self._database = database
        self._records = Records(database, clock, max_records)
        self._leases = Leases(database, clock, max_records)
        self._revocations = RevocationLog(database, clock, max_records)
        self._messages = Messages(database, clock)
        self._listener: StoreListener | None = None  # None while closed
        self._last_revocation = -1  # number the listener was last told of; set in the watching thread

    async def open(self, node: str, listener: StoreListener) -> None:
        """Open the file and be a node."""
        await self.close()
        await self._database.open("store")
        self._messages.join(node, listener)
        self._listener, self._last_revocation = listener, -1
        try:
            await self._database.listen(self)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Be no node any more and let go of the file."""
        if self._listener is None:
            return
        self._listener = None
        self._messages.mute()
        await self._database.unlisten(self)
        await self._messages.leave()
        await self._database.close()

    @property
    def lost_since(self) -> float | None:
        """Since when the file cannot be read."""
        return None if self._listener is None else self._database.lost_since

    async def put(self, key: str, value: bytes, expires_at: float) -> None:
        """Write a record."""
        await self._records.put(key, value, expires_at)

    async def get(self, key: str) -> bytes | None:
        """Read a record."""
        return await self._records.get(key)

    async def take(self, key: str) -> bytes | None:
        """Read and delete in one step."""
        return await self._records.take(key)

    async def swap(self, key: str, old: bytes | None, new: bytes | None, expires_at: float) -> bool:
        """Compare and write in one step."""
        return await self._records.swap(key, old, new, expires_at)

    async def count(self, key: str, seconds: float, by: int = 1) -> int:
        """Count."""
        return await self._records.count(key, seconds, by)

    async def renew(self, owner: str, seconds: float) -> bool:
        """Hold a lease."""
        return await self._leases.renew(owner, seconds)

    async def release(self, owner: str) -> None:
        """Give back a lease."""
        await self._leases.release(owner)

    async def enter(self, owner: str, changes: Changes) -> dict[str, int]:
        """Put into sets, and count."""
        return await self._leases.enter(owner, changes)

    async def held(self, sets: Sequence[str]) -> dict[str, list[Held]]:
        """Return what is in sets."""
        return await self._leases.held(sets)

    async def revoke(self, record: bytes, expires_at: float) -> int:
        """Append to the revocation log, and tell all nodes."""
        return await self._revocations.revoke(record, expires_at)

    async def revocations(self, after: int) -> list[tuple[int, bytes]]:
        """Read the revocation log after a number."""
        return await self._revocations.read(after)

    async def send(self, node: str, body: bytes) -> bool:
        """Hand a message to a node.

        :raises TooLarge: it is over 1 MiB.
        """
        return await self._messages.send(node, body)

    async def broadcast(self, body: bytes) -> None:
        """Hand a message to the other processes of this machine, as datagrams."""
        await self._database.broadcast(body)

    async def nodes(self) -> list[str]:
        """Return the nodes whose heartbeat is younger than 15 s, and this one."""
        return await self._messages.nodes()

    # What the watcher tells, see `FileListener`.

    def on_change(self, connection: sqlite3.Connection, watcher: Watcher) -> None:
        """Pass on what other nodes wrote; in the watching thread."""
        last, has_messages = connection.execute(
            "SELECT revoked, EXISTS (SELECT 1 FROM mail WHERE node = ?) FROM store", (self._messages.node,)
        ).fetchone()
        if last != self._last_revocation and watcher.call(self._tell_of_revocations):
            self._last_revocation = last
        if has_messages:
            self._messages.collect(watcher)

    def on_broadcast(self, body: bytes, watcher: Watcher) -> None:
        """Take a broadcast; in the watching thread."""
        watcher.call(lambda: self._messages.hand_out(body))

    def on_reconnect(self, watcher: Watcher) -> None:
        """Have the revocations read again; in the watching thread."""
        del watcher
        self._last_revocation = -1

    def on_heartbeat(self, connection: sqlite3.Connection) -> None:
        """Show that this node lives, and remove what is over; in the writing thread."""
        self._messages.show_alive(connection)
        self._records.sweep(connection)

    def _tell_of_revocations(self) -> None:
        if self._listener is not None:
            self._listener.on_revocations()
