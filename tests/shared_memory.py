"""A log and a store in memory that several hubs share: what is simplest and right, and what faults are put into.

`sseal` has no such engine, as hubs of one process need no broker between them. The conformance suite is proven
with it: that the checks for several hubs can be passed, and that each of them can fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from sseal.clock import Clock
from sseal.errors import Unavailable
from sseal.position import Lineage
from sseal.storage import Entry, LogListener, MemoryBroker, MemoryStore, Page, Publication, Retention, StoreListener
from sseal.storage.leases import Changes, Held
from sseal.subscription import TopicSet


class SharedLog:
    """The log itself, and which hubs have it open."""

    def __init__(self, clock: Clock, retention: Retention) -> None:
        self.log = MemoryBroker(clock, retention)
        self.hubs: list[SharedBroker] = []
        self.epochs = 0

    async def restart(self) -> None:
        """Close all hubs and start a new epoch, as a log does that cannot prove that it continues."""
        for hub in [*self.hubs]:
            await hub.close()
        self.epochs += 1
        old = self.log.lineage
        self.log._lineage = Lineage(f"epoch{self.epochs:03}", ((old.epoch, self.log.head), *old.older))

    def on_entries(self, entries: Sequence[Entry]) -> None:
        """Hand new entries to every hub."""
        for hub in self.hubs:
            hub.hear(entries)


class SharedBroker:
    """One hub's `Broker`."""

    def __init__(self, shared: SharedLog) -> None:
        self.shared = shared
        self.listener: LogListener | None = None
        self.names: set[str] = set()
        self._head = 0
        self._open = False

    async def open(self, listener: LogListener | None) -> None:
        """Be one of the hubs."""
        await self.shared.log.open(self.shared)
        self.listener, self._head, self._open = listener, self.shared.log.head, True
        self.shared.hubs.append(self)

    async def close(self) -> None:
        """Be none any more."""
        self._open = False
        if self in self.shared.hubs:
            self.shared.hubs.remove(self)

    @property
    def lineage(self) -> Lineage:
        """The log's."""
        return self.shared.log.lineage

    @property
    def head(self) -> int:
        """What was handed out here."""
        return self._head

    @property
    def lost_since(self) -> float | None:
        """Never lost."""
        return None

    async def newest(self) -> int:
        """The log's head."""
        return self.shared.log.head

    def now(self) -> float:
        """The log's time."""
        return self.shared.log.now()

    async def publish(self, publications: Sequence[Publication]) -> list[int]:
        """Append, a moment later than called."""
        await asyncio.sleep(0)
        if not self._open:
            raise Unavailable("the log is closed", code="broker_closed")
        return await self.shared.log.publish(publications)

    def hear(self, entries: Sequence[Entry]) -> None:
        """Hand out what is listened to, a moment later."""
        if self.listener is not None:
            wanted = TopicSet.of(*self.names).matcher()
            asyncio.get_running_loop().call_soon(self.hand_out, [e for e in entries if wanted(e.topics)], entries[-1])

    def hand_out(self, entries: list[Entry], last: Entry) -> None:
        """Hand out."""
        if self._open and self.listener is not None:
            self._head = last.offset
            if entries:
                self.listener.on_entries(entries)

    async def history(
        self, topics: TopicSet, after: int, upto: int | None = None, *, limit: int, since: Mapping[str, float]
    ) -> Page:
        """Read the log."""
        await asyncio.sleep(0)
        return await self.shared.log.history(topics, after, upto, limit=limit, since=since)

    async def listen(self, names: Iterable[str]) -> int:
        """Listen from the log's head on."""
        names = list(names)
        await asyncio.sleep(0)
        self.names.update(names)
        return self.shared.log.head

    async def forget(self, names: Iterable[str]) -> None:
        """Listen no more."""
        self.names.difference_update(names)
        await asyncio.sleep(0)


class SharedRecords(MemoryStore):
    """The records of all nodes, and the nodes."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.heard: dict[str, StoreListener] = {}


class SharedStore:
    """One node's `Store`."""

    def __init__(self, records: SharedRecords) -> None:
        self.records = records
        self.name = ""

    async def open(self, node: str, heard: StoreListener) -> None:
        """Be that node."""
        self.name = node
        self.records.heard[node] = heard

    async def close(self) -> None:
        """Be none any more."""
        if self.name:
            self.records.heard.pop(self.name, None)
            self.name = ""

    @property
    def lost_since(self) -> float | None:
        """Never lost."""
        return None

    async def put(self, key: str, value: bytes, expires_at: float) -> None:
        """Write."""
        await asyncio.sleep(0)
        await self.records.put(key, value, expires_at)

    async def get(self, key: str) -> bytes | None:
        """Read."""
        await asyncio.sleep(0)
        return await self.records.get(key)

    async def take(self, key: str) -> bytes | None:
        """Read and delete."""
        await asyncio.sleep(0)
        return await self.records.take(key)

    async def swap(self, key: str, old: bytes | None, new: bytes | None, expires_at: float) -> bool:
        """Compare and write."""
        await asyncio.sleep(0)
        return await self.records.swap(key, old, new, expires_at)

    async def count(self, key: str, seconds: float, by: int = 1) -> int:
        """Count."""
        await asyncio.sleep(0)
        return await self.records.count(key, seconds, by)

    async def renew(self, owner: str, seconds: float) -> bool:
        """Hold a lease."""
        await asyncio.sleep(0)
        return await self.records.renew(owner, seconds)

    async def release(self, owner: str) -> None:
        """Give it back."""
        await asyncio.sleep(0)
        await self.records.release(owner)

    async def enter(self, owner: str, changes: Changes) -> dict[str, int]:
        """Put into sets."""
        await asyncio.sleep(0)
        return await self.records.enter(owner, changes)

    async def held(self, sets: Sequence[str]) -> dict[str, list[Held]]:
        """Look into sets."""
        await asyncio.sleep(0)
        return await self.records.held(sets)

    async def revoke(self, record: bytes, expires_at: float) -> int:
        """Append, and tell all."""
        await asyncio.sleep(0)
        number = await self.records.revoke(record, expires_at)
        for heard in self.records.heard.values():
            heard.on_revocations()
        return number

    async def revocations(self, after: int) -> list[tuple[int, bytes]]:
        """Read on, or from the start when the log has fewer."""
        await asyncio.sleep(0)
        return await self.records.revocations(0 if after > self.records._last else after)

    async def send(self, node: str, body: bytes) -> bool:
        """Hand to a node."""
        heard = self.records.heard.get(node)
        if heard is None:
            return False
        asyncio.get_running_loop().call_soon(heard.on_message, body)
        return True

    async def broadcast(self, body: bytes) -> None:
        """Hand to all other nodes."""
        for name, heard in self.records.heard.items():
            if name != self.name:
                asyncio.get_running_loop().call_soon(heard.on_message, body)

    async def nodes(self) -> list[str]:
        """All that are open."""
        return list(self.records.heard)
