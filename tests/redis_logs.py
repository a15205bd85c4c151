"""Hubs on a Redis server for tests: a broker, what it was told, and what else a test opened."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis_servers import RedisServer
from sseal.clock import SystemClock
from sseal.storage import Entry, IdempotencyKey, Publication, Retention
from sseal.storage.redis import Link, RedisBroker


def publication(
    topic: str, data: str = "", key: str | None = None, digest: bytes = b"d", **options: Any
) -> Publication:
    """Return a draft; several topics stand with a blank between them."""
    claim = None if key is None else IdempotencyKey(scope=("iss", "sub"), key=key, digest=digest)
    return Publication(topics=tuple(topic.split()), type="message", data=data, key=claim, **options)


async def until(condition: Callable[[], object], patience: float = 10.0) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.005)


@dataclass
class Hub:
    """A broker and everything its intake was told, in order."""

    link: Link
    broker: RedisBroker
    entries: list[Entry] = field(default_factory=list)
    told: list[tuple[Any, ...]] = field(default_factory=list)
    on_reconnecting: Callable[[], None] = lambda: None

    def on_entries(self, entries: Sequence[Entry]) -> None:
        """Keep the entries."""
        self.entries += entries
        self.told += [("entry", entry.offset) for entry in entries]

    def on_epoch_change(self) -> None:
        """Keep where the log stands now."""
        self.told.append(("epoch_change", self.broker.lineage, self.broker.head))

    def on_gap(self, names: Sequence[str] | None, upto: int) -> None:
        """Keep what was missed."""
        self.told.append(("gap", None if names is None else sorted(names), upto))

    async def on_reconnect(self) -> None:
        """Keep that it is back."""
        self.told.append(("reconnect",))
        self.on_reconnecting()

    @property
    def offsets(self) -> list[int]:
        """The offsets delivered, in the order of delivery."""
        return [entry.offset for entry in self.entries]

    async def until(self, offset: int, patience: float = 10.0) -> None:
        """Wait until an offset has been delivered."""
        await until(lambda: offset in self.offsets, patience)


@dataclass
class RedisHubs:
    """A server and the hubs on it."""

    server: RedisServer
    hubs: list[Hub] = field(default_factory=list)

    async def hub(
        self, *, url: str | None = None, retention: Retention | None = None, listening: bool = True, **options: Any
    ) -> Hub:
        """Open a hub, or a publisher that listens to nothing."""
        link = Link(url or self.server.url, SystemClock())
        hub = Hub(link, RedisBroker(link, SystemClock(), retention, **options))
        await hub.broker.open(hub if listening else None)
        self.hubs.append(hub)
        return hub

    async def close(self) -> None:
        """Close every hub."""
        hubs, self.hubs = self.hubs, []
        for hub in hubs:
            await hub.broker.close()


@contextlib.asynccontextmanager
async def open_redis_hubs(server: RedisServer) -> AsyncIterator[RedisHubs]:
    """Close every hub at the end, whatever happened."""
    redis_hubs = RedisHubs(server)
    try:
        yield redis_hubs
    finally:
        await redis_hubs.close()
