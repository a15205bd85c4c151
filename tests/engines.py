"""The engines of brokers and stores, as fixtures that the conformance suite runs in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from redis_servers import RedisServer, redis_server
from shared_memory import SharedBroker, SharedLog, SharedRecords, SharedStore
from sseal.clock import SystemClock
from sseal.storage import Broker, MemoryBroker, MemoryStore, Retention, Store
from sseal.storage.redis import Link, RedisBroker
from sseal.storage.redis.store import RedisStore
from sseal.storage.sqlite import Database, SqliteBroker, SqliteStore
from sseal.testing import Check, ConformanceFixture, ManualClock, Promise


class Servers:
    """Servers that many checks use one after the other, each empty."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: dict[str, RedisServer] = {}
        self._stack = ExitStack()

    def empty(self, engine: str) -> RedisServer:
        """Return a server of an engine, without data; it writes down what it does, and keeps it when restarted."""
        server = self._running.get(engine)
        if server is None:
            run = redis_server(self._directory / engine, engine, "--save", "", "--appendonly", "yes")
            server = self._running[engine] = self._stack.enter_context(run)
        server.command("FLUSHALL")
        return server

    def end(self) -> None:
        """End them all."""
        self._stack.close()


@dataclass(frozen=True)
class Place:
    """Where a fixture may put things: an empty directory, and servers."""

    directory: Path
    servers: Servers


@dataclass(frozen=True)
class Engine:
    """How to make a fixture of an engine."""

    make: Callable[[Retention, Place], AbstractAsyncContextManager[ConformanceFixture]]
    promises: frozenset[Promise]


class MemoryFixture:
    """One log of one process, which is gone when the process is."""

    promises: frozenset[Promise] = frozenset({"our_clock"})

    def __init__(self, retention: Retention) -> None:
        self.clock = ManualClock()
        self._retention = retention

    async def broker(self) -> Broker:
        """Return the log."""
        return MemoryBroker(self.clock, self._retention)

    async def store(self) -> Store:
        """Return the store."""
        return MemoryStore(self.clock)

    async def elapse(self, seconds: float) -> None:
        """Turn the clock."""
        self.clock.advance(seconds)

    async def restart(self) -> None:
        """Never asked for."""
        raise NotImplementedError


class SharedFixture(MemoryFixture):
    """What the suite itself is proven with.

    :param hub: makes a hub's broker, one with a fault perhaps.
    :param node: makes a node's store.
    """

    promises: frozenset[Promise] = frozenset({"shared", "durable", "our_clock"})

    def __init__(
        self,
        retention: Retention,
        hub: Callable[[SharedLog], Broker] = SharedBroker,
        node: Callable[[SharedRecords], Store] = SharedStore,
    ) -> None:
        super().__init__(retention)
        self.shared = SharedLog(self.clock, retention)
        self.records = SharedRecords(self.clock)
        self._hub, self._node = hub, node

    async def broker(self) -> Broker:
        """Return one more hub's broker."""
        return self._hub(self.shared)

    async def store(self) -> Store:
        """Return one more node's store."""
        return self._node(self.records)

    async def restart(self) -> None:
        """Close all; the log is in a new epoch."""
        await self.shared.restart()
        self.records.heard.clear()


class SqliteFixture:
    """One file, which every hub opens for itself, as if it were a process of its own."""

    promises: frozenset[Promise] = frozenset({"shared", "durable", "our_clock"})

    def __init__(self, retention: Retention, path: Path) -> None:
        self.clock = ManualClock()
        self._retention = retention
        self._path = path
        self._given: list[Broker | Store] = []

    async def broker(self) -> Broker:
        """Return one more process's broker."""
        broker = SqliteBroker(Database(self._path, self.clock), self.clock, self._retention)
        self._given.append(broker)
        return broker

    async def store(self) -> Store:
        """Return one more process's store."""
        store = SqliteStore(Database(self._path, self.clock), self.clock)
        self._given.append(store)
        return store

    async def elapse(self, seconds: float) -> None:
        """Turn the clock."""
        self.clock.advance(seconds)

    async def restart(self) -> None:
        """Close all handles; whoever comes next is the first."""
        while self._given:
            await self._given.pop().close()


class RedisFixture:
    """A server, to which every hub has connections of its own; it has its own time, and writes down what it does."""

    promises: frozenset[Promise] = frozenset({"shared", "durable"})

    def __init__(self, retention: Retention, server: RedisServer) -> None:
        self.clock = SystemClock()
        self._retention = retention
        self._server = server
        self._given: list[Broker | Store] = []

    async def broker(self) -> Broker:
        """Return one more hub's broker."""
        broker = RedisBroker(Link(self._server.url, self.clock), self.clock, self._retention)
        self._given.append(broker)
        return broker

    async def store(self) -> Store:
        """Return one more hub's store."""
        store = RedisStore(Link(self._server.url, self.clock), self.clock)
        self._given.append(store)
        return store

    async def elapse(self, seconds: float) -> None:
        """Wait, since the time is the server's."""
        await asyncio.sleep(seconds)

    async def restart(self) -> None:
        """Close all connections, and stop and start the server."""
        await self.close()
        await asyncio.to_thread(self._server.end)
        await asyncio.to_thread(self._server.start)
        await asyncio.to_thread(_await_loaded, self._server)

    async def close(self) -> None:
        """Close all connections."""
        while self._given:
            await self._given.pop().close()


def _await_loaded(server: RedisServer) -> None:
    """Wait until a server that was started has read what it had written down."""
    deadline = time.monotonic() + 20.0
    while "loading:1" in server.command("INFO", "persistence"):
        assert time.monotonic() < deadline, "the server does not come to an end with loading its data"
        time.sleep(0.005)


@asynccontextmanager
async def _redis(engine: str, retention: Retention, place: Place) -> AsyncIterator[ConformanceFixture]:
    fixture = RedisFixture(retention, await asyncio.to_thread(place.servers.empty, engine))
    try:
        yield fixture
    finally:
        await fixture.close()


@asynccontextmanager
async def _sqlite(retention: Retention, place: Place) -> AsyncIterator[ConformanceFixture]:
    fixture = SqliteFixture(retention, place.directory / "hub.db")
    try:
        yield fixture
    finally:
        await fixture.restart()


@asynccontextmanager
async def _memory(retention: Retention, place: Place) -> AsyncIterator[ConformanceFixture]:
    del place
    yield MemoryFixture(retention)


@asynccontextmanager
async def _shared(retention: Retention, place: Place) -> AsyncIterator[ConformanceFixture]:
    del place
    yield SharedFixture(retention)


ENGINES: dict[str, Engine] = {
    "memory": Engine(_memory, MemoryFixture.promises),
    "shared": Engine(_shared, SharedFixture.promises),
    "sqlite": Engine(_sqlite, SqliteFixture.promises),
    "redis": Engine(partial(_redis, "redis"), RedisFixture.promises),
    "valkey": Engine(partial(_redis, "valkey"), RedisFixture.promises),
}


@contextmanager
def running_servers(directory: Path) -> Iterator[Servers]:
    """Give servers that are started when they are first needed, and ended afterwards."""
    servers = Servers(directory)
    try:
        yield servers
    finally:
        servers.end()


def combinations(checks: dict[str, Check]) -> list[object]:
    """Return every check on every engine that promises what the check needs, as parameters of a test."""
    return [
        pytest.param(engine, check, id=f"{title}-{name}")
        for title, engine in ENGINES.items()
        for name, check in checks.items()
        if check.needs <= engine.promises
    ]
