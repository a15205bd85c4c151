"""The store of many machines, on Redis or Valkey."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Final

from redis.exceptions import ReadOnlyError, ResponseError

from ...clock import Clock
from ..leases import Changes, Held
from ..store import StoreListener
from . import revocations
from .commands import Commands
from .errors import Lost
from .leases import Leases
from .link import Link
from .messages import Messages
from .records import Records
from .revocations import RevocationLog

__all__ = ["RedisStore"]

logger = logging.getLogger(__name__)

HEARTBEAT_INTERVAL: Final = 5.0
"""Seconds between heartbeats; a node without one for three times as long is none any more."""


class RedisStore:
    """Records shared by all hubs on a server. What expires is measured by the server from when it was written.

    See `Store` for all that has no word of its own.

    :param link: the connections, shared with the broker of the same server.
    """

    def __init__(self, link: Link, clock: Clock, *, heartbeat_interval: float = HEARTBEAT_INTERVAL) -> None:
        self._link = link
        self._interval = heartbeat_interval
        self._commands = Commands(link, clock)
        self._records = Records(self._commands)
        self._leases = Leases(self._commands)
        self._revocations = RevocationLog(self._commands)
        self._messages = Messages(self._commands, 3 * heartbeat_interval)
        self._listener: StoreListener | None = None  # None while closed
        self._heartbeat: asyncio.Task[None] | None = None

    async def open(self, node: str, listener: StoreListener) -> None:
        """Connect, and be that node."""
        if self._listener is not None:
            return
        self._messages.node, self._listener, self._commands.open = node, listener, True
        try:
            await self._link.open(self, "store")
        except BaseException:
            self._listener, self._commands.open = None, False
            raise
        self._heartbeat = asyncio.create_task(self._send_heartbeats(), name="sseal-redis-heartbeat")

    async def close(self) -> None:
        """Be no node any more; idempotent."""
        if self._listener is None:
            return
        self._listener, self._commands.open = None, False
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            await asyncio.gather(self._heartbeat, return_exceptions=True)
        with contextlib.suppress(Lost, ResponseError):
            self._link.subscriptions.unsubscribe([revocations.CHANNEL, *self._messages.channels])
            await self._messages.leave()
        await self._link.close(self)

    @property
    def lost_since(self) -> float | None:
        """Since when the server cannot be reached."""
        return self._link.lost_since

    # -- what the link tells, see `ConnectionClient` ----------------------------------------------------

    async def on_connect(self) -> None:
        """Subscribe and show that this node is alive."""
        await self._link.subscriptions.subscribe([revocations.CHANNEL, *self._messages.channels], self)
        await self._messages.show_alive()

    async def on_reconnect(self) -> None:
        """Have the revocations read that came meanwhile (W17)."""
        if self._listener is not None:
            self._listener.on_revocations()

    def on_disconnect(self) -> None:
        """Trust no number of a revocation read so far."""
        self._revocations.distrust()

    def on_message(self, channel: str, data: bytes) -> None:
        """Pass on what was published on a channel; see `ChannelListener`."""
        if self._listener is None:
            return
        if channel == revocations.CHANNEL:
            self._listener.on_revocations()
        else:
            self._listener.on_message(data)

    # -- what a hub asks, see `Store` -------------------------------------------------------------------

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
        """Publish a message to all nodes, which a server does that takes no writes."""
        await self._messages.broadcast(body)

    async def nodes(self) -> list[str]:
        """Return the nodes that are alive."""
        return await self._messages.nodes()

    # -- heartbeat --------------------------------------------------------------------------------------

    async def _send_heartbeats(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            with contextlib.suppress(Lost):  # the link knows, and everybody is told when it is back
                await self._send_heartbeat()

    async def _send_heartbeat(self) -> None:
        """Show that this node is alive, see whether messages still come, and read on in case one did not (W17).

        :raises Lost: the connection is gone.
        """
        try:
            await self._messages.show_alive()
        except ReadOnlyError:
            self._link.lose("the server has become a replica")
        except ResponseError as error:
            logger.warning("no sign of life could be given", extra={"why": str(error)})
        await self._link.subscriptions.barrier()
        if self._listener is not None:
            self._listener.on_revocations()
