"""The store of many machines, on Redis or Valkey."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from ...clock import Clock
from ...errors import TooLarge, Unavailable
from ..errors import lease_lapsed
from ..leases import Changes, Held
from ..store import StoreListener
from .connection import Argument
from .errors import Lost
from .link import Link
from .script import Script

__all__ = ["RedisStore"]

logger = logging.getLogger(__name__)

HEARTBEAT: Final = 5.0
"""Seconds between signs of life; a node without one for three times as long is none any more."""
MAX_MAIL: Final = 1024 * 1024
"""Bytes in a message to a node."""
_LONGEST: Final = 10 * 365 * 86400
"""Seconds a record is kept at most: what is to live longer has a mistaken time."""
_REVOKED: Final = "revoked"
_ALL: Final = "all"

_FOLDER: Final = Path(__file__).with_name("lua") / "store"
_SWAP: Final = Script.load(_FOLDER, "swap")
_COUNT: Final = Script.load(_FOLDER, "count")
_LEASE: Final = ("lease",)
_RENEW: Final = Script.load(_FOLDER, "renew", flags="allow-oom", common=_LEASE)
_RELEASE: Final = Script.load(_FOLDER, "release", flags="allow-oom", common=_LEASE)
_ENTER: Final = Script.load(_FOLDER, "enter", common=_LEASE)
_HELD: Final = Script.load(_FOLDER, "held", flags="no-writes", common=_LEASE)
# A revocation is small, and the server being full is no reason to let anybody in.
_REVOKE: Final = Script.load(_FOLDER, "revoke", flags="allow-oom")
_REVOCATIONS: Final = Script.load(_FOLDER, "revocations", flags="no-writes")
_BEAT: Final = Script.load(_FOLDER, "beat", flags="allow-oom")
_NODES: Final = Script.load(_FOLDER, "nodes", flags="no-writes")
_SEND: Final = Script.load(_FOLDER, "send", flags="allow-oom")


class RedisStore:
    """Records shared by all hubs on a server. What expires is measured by the server from when it was written.

    :param link: the connections, shared with the broker of the same server.
    """

    def __init__(self, link: Link, clock: Clock, *, heartbeat: float = HEARTBEAT) -> None:
        self._link = link
        self._clock = clock
        self._every = heartbeat
        self._node = ""
        self._listener: StoreListener | None = None
        self._beating: asyncio.Task[None] | None = None
        self._read_log: bytes | None = None

    async def open(self, node: str, listener: StoreListener) -> None:
        """Connect, and be that node; see `Store.open`."""
        if self._listener is not None:
            return
        self._node, self._listener = node, listener
        try:
            await self._link.open(self, "store")
        except BaseException:
            self._listener = None
            raise
        self._beating = asyncio.create_task(self._beat_forever(), name="sseal-redis-heartbeat")

    async def close(self) -> None:
        """Be no node any more; idempotent."""
        if self._listener is None:
            return
        self._listener = None
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        with contextlib.suppress(Lost, ResponseError):
            self._link.unsubscribe(self._channels())
            await self._link.call("ZREM", self._key("nodes"), self._node)
        await self._link.close(self)

    @property
    def lost_since(self) -> float | None:
        """Since when the server cannot be reached."""
        return self._link.lost_since

    # -- what the link asks -----------------------------------------------------------------------------

    async def attach(self) -> None:
        """Subscribe and show that this node is alive; see `User`."""
        await self._link.subscribe(self._channels(), self._take)
        await self._link.run(_BEAT, self._node, self._alive())

    async def resume(self) -> None:
        """Hear of revocations that came meanwhile (W17); see `User`."""
        if self._listener is not None:
            self._listener.on_revocations()

    def detach(self) -> None:
        """Trust no number read so far: behind the next connection the log may be an older one; see `User`."""
        if self._read_log is not None:
            self._read_log = b""

    def _channels(self) -> tuple[str, ...]:
        return _REVOKED, _ALL, f"node:{self._node}"

    def _take(self, channel: str, data: bytes) -> None:
        if self._listener is None:
            return
        if channel == _REVOKED:
            self._listener.on_revocations()
        else:
            self._listener.on_message(data)

    # -- records ----------------------------------------------------------------------------------------

    async def put(self, key: str, value: bytes, expires_at: float) -> None:
        """Write a record; see `Store.put`."""
        if (lifetime := self._lifetime(expires_at)) <= 0:
            await self._call("DEL", self._record(key))
        else:
            await self._call("SET", self._record(key), value, "PX", lifetime)

    async def get(self, key: str) -> bytes | None:
        """Read a record."""
        value: bytes | None = await self._call("GET", self._record(key))
        return value

    async def take(self, key: str) -> bytes | None:
        """Read and delete in one step; see `Store.take`."""
        value: bytes | None = await self._call("GETDEL", self._record(key))
        return value

    async def swap(self, key: str, old: bytes | None, new: bytes | None, expires_at: float) -> bool:
        """Compare and write in one step; see `Store.swap`."""
        lifetime = 0 if new is None else self._lifetime(expires_at)
        before, was = (b"", 0) if old is None else (old, 1)
        return bool(await self._run(_SWAP, f"record:{key}", was, before, new or b"", lifetime))

    async def count(self, key: str, seconds: float, by: int = 1) -> int:
        """Count; see `Store.count`."""
        return int(await self._run(_COUNT, f"count:{key}", max(1, int(seconds * 1000)), by))

    # -- leases -----------------------------------------------------------------------------------------

    async def renew(self, owner: str, seconds: float) -> bool:
        """Hold a lease; see `Store.renew`."""
        return bool(await self._run(_RENEW, owner, f"{seconds:.6f}"))

    async def release(self, owner: str) -> None:
        """Give back a lease."""
        await self._run(_RELEASE, owner)

    async def enter(self, owner: str, changes: Changes) -> dict[str, int]:
        """Put into sets, and count; see `Store.enter`."""
        flat: list[Argument] = []
        for (name, key), value in changes.items():
            flat += (name, key, int(value is not None), value or b"")
        counts = await self._run(_ENTER, owner, *flat)
        if counts is None:
            raise lease_lapsed()
        return {name.decode(): int(number) for name, number in counts}

    async def held(self, sets: Sequence[str]) -> dict[str, list[Held]]:
        """Return what is in sets."""
        found = await self._run(_HELD, *sets)
        return {
            name: sorted(Held(owner.decode(), key.decode(), value) for owner, key, value in entries)
            for name, entries in zip(sets, found, strict=True)
        }

    # -- revocations ------------------------------------------------------------------------------------

    async def revoke(self, record: bytes, expires_at: float) -> int:
        """Append to the revocation log, and tell all nodes; see `Store.revoke`."""
        channel = f"{self._link.channels}{_REVOKED}"
        fresh = secrets.token_hex(8)
        return int(await self._run(_REVOKE, record, self._lifetime(expires_at), channel, fresh))

    async def revocations(self, after: int) -> list[tuple[int, bytes]]:
        """Read the revocation log after a number; see `Store.revocations`.

        A log that began anew may already have a number as high as ``after``, so it is known by a name of its own.
        """
        found: list[tuple[int, bytes]] = []
        log = self._read_log
        while True:
            known = (1, log) if log is not None else (0, b"")
            last, more, items, log = await self._run(_REVOCATIONS, after, *known)
            found += [(int(number), record) for number, record in items]
            if not more:
                self._read_log = log
                return found
            after = int(last)

    # -- nodes ------------------------------------------------------------------------------------------

    async def send(self, node: str, body: bytes) -> bool:
        """Hand a message to a node; see `Store.send`."""
        if len(body) > MAX_MAIL:
            raise TooLarge("body", f"has {len(body)} bytes, at most {MAX_MAIL} go to a node")
        return bool(await self._run(_SEND, node, self._alive(), f"{self._link.channels}node:{node}", body))

    async def broadcast(self, body: bytes) -> None:
        """Publish to all nodes, which a server does that takes no writes; see `Store.broadcast`."""
        await self._call("PUBLISH", f"{self._link.channels}{_ALL}", body)

    async def nodes(self) -> list[str]:
        """Return the nodes that are alive; see `Store.nodes`."""
        return [node.decode() for node in await self._run(_NODES, self._alive())]

    def _alive(self) -> float:
        return 3 * self._every

    async def _beat_forever(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            with contextlib.suppress(Lost):  # the link knows, and everybody is told when it is back
                await self._beat()

    async def _beat(self) -> None:
        """Show that this node is alive, see whether messages still come, and read on in case one did not (W17).

        :raises Lost: the connection is gone.
        """
        try:
            await self._link.run(_BEAT, self._node, self._alive())
        except ReadOnlyError:
            self._link.lose("the server has become a replica")
        except ResponseError as error:
            logger.warning("no sign of life could be given", extra={"why": str(error)})
        await self._link.barrier()
        if self._listener is not None:
            self._listener.on_revocations()

    # -- talking ----------------------------------------------------------------------------------------

    def _lifetime(self, expires_at: float) -> int:
        """Return in how many milliseconds something expires, not rounded up."""
        return int(min(expires_at - self._clock.wall(), _LONGEST) * 1000)

    def _key(self, name: str) -> str:
        return f"{self._link.prefix}{name}"

    def _record(self, key: str) -> str:
        return self._key(f"record:{key}")

    async def _call(self, *command: Argument) -> Any:
        return await self._guarded(None, command)

    async def _run(self, script: Script, *arguments: Argument) -> Any:
        return await self._guarded(script, arguments)

    async def _guarded(self, script: Script | None, arguments: tuple[Argument, ...]) -> Any:
        """Send, and translate what goes wrong into what a caller of the store may be told."""
        if self._listener is None:
            raise Unavailable("the store is closed", code="store_closed")
        try:
            await self._link.ready()
            return await (self._link.call(*arguments) if script is None else self._link.run(script, *arguments))
        except Lost:  # the link has logged why, which may name the server
            raise Unavailable("the store cannot be reached", code="store_lost") from None
        except ReadOnlyError as error:
            self._link.lose("the server has become a replica")
            raise Unavailable(f"the store cannot be written: {error}", code="store_lost") from None
        except OutOfMemoryError:
            raise Unavailable("the store is full", code="store_full", retry_after=5.0) from None
        except ResponseError as error:
            code = "store_full" if "OOM" in str(error) else "store_refused"
            raise Unavailable(f"the store refuses: {error}", code=code, retry_after=5.0) from None
