"""The store of one process: a dictionary, a heap of ends and a list of revocations."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Sequence

from ...clock import Clock
from ..errors import store_full
from ..leases import Changes, Held
from ..store import MAX_RECORDS, StoreListener
from .leases import Leases

__all__ = ["MemoryStore"]


class MemoryStore:
    """The store of one process."""

    def __init__(self, clock: Clock, *, max_records: int = MAX_RECORDS) -> None:
        self._clock = clock
        self._max = max_records
        self._records: dict[str, tuple[bytes, float]] = {}  # key to value and when it expires
        self._leases = Leases(max_records)
        self._expiry: list[tuple[float, str]] = []  # a heap of (when, key), with entries for records long replaced
        self._log: list[tuple[int, bytes, float]] = []  # number, revocation, when it expires
        self._last = 0  # number of the newest revocation
        self._node = ""
        self._listener: StoreListener | None = None  # None while closed

    def __len__(self) -> int:
        """Count the records that have not expired."""
        self._sweep()
        return len(self._records)

    async def open(self, node: str, listener: StoreListener) -> None:
        """Be the only node."""
        self._node, self._listener = node, listener

    async def close(self) -> None:
        """Be no node any more; the records stay."""
        self._listener = None

    @property
    def lost_since(self) -> float | None:
        """Memory is always in reach."""
        return None

    async def put(self, key: str, value: bytes, expires_at: float) -> None:
        """Write a record; see `Store.put`."""
        self._write(key, value, expires_at)

    async def get(self, key: str) -> bytes | None:
        """Read a record."""
        return self._read(key)

    async def take(self, key: str) -> bytes | None:
        """Read and delete in one step."""
        value = self._read(key)
        self._records.pop(key, None)
        return value

    async def swap(self, key: str, old: bytes | None, new: bytes | None, expires_at: float) -> bool:
        """Compare and write in one step; see `Store.swap`."""
        if self._read(key) != old:
            return False
        if new is None:
            self._records.pop(key, None)
        else:
            self._write(key, new, expires_at)
        return True

    async def revoke(self, record: bytes, expires_at: float) -> int:
        """Append to the revocation log."""
        now = self._clock.wall()
        self._log = [entry for entry in self._log if entry[2] > now]
        if len(self._log) >= self._max:
            raise store_full()
        self._last += 1
        self._log.append((self._last, record, expires_at))
        if self._listener is not None:
            self._listener.on_revocations()
        return self._last

    async def revocations(self, after: int) -> list[tuple[int, bytes]]:
        """Read the revocation log after a number."""
        now = self._clock.wall()
        start = 0 if after > self._last else after
        return [(number, record) for number, record, ends in self._log if number > start and ends > now]

    async def count(self, key: str, seconds: float, by: int = 1) -> int:
        """Count; see `Store.count`."""
        key = f"count/{key}"
        known = self._records.get(key)
        now = self._clock.wall()
        if known is None or known[1] <= now:
            if by > 0:
                self._write(key, b"%d" % by, now + seconds)
            return max(0, by)
        number = max(0, int(known[0]) + by)
        self._records[key] = (b"%d" % number, known[1])
        return number

    async def renew(self, owner: str, seconds: float) -> bool:
        """Hold a lease; see `Store.renew`."""
        return self._leases.renew(owner, seconds, self._clock.wall())

    async def release(self, owner: str) -> None:
        """Give back a lease."""
        self._leases.release(owner)

    async def enter(self, owner: str, changes: Changes) -> dict[str, int]:
        """Put into sets, and count; see `Store.enter`."""
        return self._leases.enter(owner, changes, self._clock.wall())

    async def held(self, sets: Sequence[str]) -> dict[str, list[Held]]:
        """Return what is in sets."""
        return self._leases.held(sets, self._clock.wall())

    async def send(self, node: str, body: bytes) -> bool:
        """Hand a message to this node, the only one there is."""
        if self._listener is None or node != self._node:
            return False
        asyncio.get_running_loop().call_soon(self._listener.on_message, body)
        return True

    async def broadcast(self, body: bytes) -> None:
        """Hand a message to nobody: there are no others."""

    async def nodes(self) -> list[str]:
        """Return this node."""
        return [self._node] if self._listener is not None else []

    def _read(self, key: str) -> bytes | None:
        record = self._records.get(key)
        if record is None or record[1] <= self._clock.wall():
            return None
        return record[0]

    def _write(self, key: str, value: bytes, expires_at: float) -> None:
        self._sweep()
        if key not in self._records and len(self._records) >= self._max:
            raise store_full()
        self._records[key] = (value, expires_at)
        heapq.heappush(self._expiry, (expires_at, key))
        if len(self._expiry) > 2 * len(self._records) + 1024:
            self._expiry = [(end, key) for key, (_, end) in self._records.items()]
            heapq.heapify(self._expiry)

    def _sweep(self) -> None:
        now = self._clock.wall()
        while self._expiry and self._expiry[0][0] <= now:
            _, key = heapq.heappop(self._expiry)
            record = self._records.get(key)
            if record is not None and record[1] <= now:
                del self._records[key]
