"""Small expiring records shared by all nodes: tickets, sessions, families, revocations."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final, Protocol

from ..clock import Clock
from ..errors import Unavailable

__all__ = ["MAX_RECORDS", "MemoryStore", "Store"]

MAX_RECORDS: Final = 1_000_000
"""Records at once; at about 500 bytes each half a gigabyte, far beyond what one process serves."""


class Store(Protocol):
    """What every store can do. Keys are text, values bytes, times Unix seconds."""

    async def open(self, signal: Callable[[], None]) -> None:
        """Connect; ``signal`` is called in the event loop whenever the revocation log grew."""
        ...

    async def close(self) -> None:
        """Let go of everything; idempotent."""
        ...

    async def put(self, key: str, value: bytes, expires_at: float) -> None:
        """Write a record.

        :raises Unavailable: the store is full or cannot be reached.
        """
        ...

    async def get(self, key: str) -> bytes | None:
        """Read a record that has not expired."""
        ...

    async def take(self, key: str) -> bytes | None:
        """Read and delete in one step: of all callers on all nodes one gets it."""
        ...

    async def swap(self, key: str, old: bytes | None, new: bytes | None, expires_at: float) -> bool:
        """Write ``new`` (None deletes) if the record is still ``old`` (None: absent); tell whether it was."""
        ...

    async def revoke(self, record: bytes, expires_at: float) -> int:
        """Append to the revocation log; return its number."""
        ...

    async def revocations(self, after: int) -> list[tuple[int, bytes]]:
        """Read the revocation log after a number, in order."""
        ...


class MemoryStore:
    """The store of one process."""

    def __init__(self, clock: Clock, *, max_records: int = MAX_RECORDS) -> None:
        self._clock = clock
        self._max = max_records
        self._records: dict[str, tuple[bytes, float]] = {}
        self._expiry: list[tuple[float, str]] = []
        self._log: list[tuple[int, bytes, float]] = []
        self._last = 0
        self._signal: Callable[[], None] | None = None

    def __len__(self) -> int:
        """Count the records that have not expired."""
        self._sweep()
        return len(self._records)

    async def open(self, signal: Callable[[], None]) -> None:
        """Call ``signal`` whenever the revocation log grew."""
        self._signal = signal

    async def close(self) -> None:
        """Stop signalling."""
        self._signal = None

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
        self._last += 1
        self._log.append((self._last, record, expires_at))
        if self._signal is not None:
            self._signal()
        return self._last

    async def revocations(self, after: int) -> list[tuple[int, bytes]]:
        """Read the revocation log after a number."""
        return [(number, record) for number, record, _ in self._log if number > after]

    def _read(self, key: str) -> bytes | None:
        record = self._records.get(key)
        if record is None or record[1] <= self._clock.wall():
            return None
        return record[0]

    def _write(self, key: str, value: bytes, expires_at: float) -> None:
        self._sweep()
        if key not in self._records and len(self._records) >= self._max:
            raise Unavailable("the store is full", code="store_full", retry_after=5.0)
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
