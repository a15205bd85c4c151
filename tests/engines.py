"""The engines of brokers and stores, as worlds that the conformance suite runs in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared_memory import Hub, Node, Shelf, Trunk
from sseal.backends.sqlite import Database
from sseal.brokers import Broker, MemoryBroker, Retention
from sseal.brokers.sqlite import SqliteBroker
from sseal.identity_sources.sqlite_store import SqliteStore
from sseal.identity_sources.store import MemoryStore, Store
from sseal.testing import Check, ConformanceError, ManualClock, Promise, World


@dataclass(frozen=True)
class Engine:
    """How to make a world of an engine.

    :param make: given the retention and an empty directory.
    """

    make: Callable[[Retention, Path], AbstractAsyncContextManager[World]]
    promises: frozenset[Promise]


class MemoryWorld:
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


class SharedWorld(MemoryWorld):
    """What the suite itself is proven with.

    :param hub: makes a hub's broker, one with a fault perhaps.
    :param node: makes a node's store.
    """

    promises: frozenset[Promise] = frozenset({"shared", "durable", "our_clock"})

    def __init__(
        self, retention: Retention, hub: Callable[[Trunk], Broker] = Hub, node: Callable[[Shelf], Store] = Node
    ) -> None:
        super().__init__(retention)
        self.trunk = Trunk(self.clock, retention)
        self.shelf = Shelf(self.clock)
        self._hub, self._node = hub, node

    async def broker(self) -> Broker:
        """Return one more hub's broker."""
        return self._hub(self.trunk)

    async def store(self) -> Store:
        """Return one more node's store."""
        return self._node(self.shelf)

    async def restart(self) -> None:
        """Close all; the log is in a new epoch."""
        await self.trunk.restart()
        self.shelf.heard.clear()


class SqliteWorld:
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


@asynccontextmanager
async def _sqlite(retention: Retention, directory: Path) -> AsyncIterator[World]:
    world = SqliteWorld(retention, directory / "hub.db")
    try:
        yield world
    finally:
        await world.restart()


@asynccontextmanager
async def _memory(retention: Retention, directory: Path) -> AsyncIterator[World]:
    del directory
    yield MemoryWorld(retention)


@asynccontextmanager
async def _shared(retention: Retention, directory: Path) -> AsyncIterator[World]:
    del directory
    yield SharedWorld(retention)


WORLDS: dict[str, Engine] = {
    "memory": Engine(_memory, MemoryWorld.promises),
    "shared": Engine(_shared, SharedWorld.promises),
    "sqlite": Engine(_sqlite, SqliteWorld.promises),
}


KNOWN = {
    ("memory", "who_knows_more_than_the_log_is_given_all"): "MemoryStore gives nothing after a number it never gave",
}
"""Promises that an engine is known to break. Once it keeps them the test fails until they are taken out here."""


def combinations(checks: dict[str, Check]) -> list[object]:
    """Return every check on every engine that promises what the check needs, as parameters of a test."""
    return [
        pytest.param(engine, check, id=f"{title}-{name}", marks=_known(title, name))
        for title, engine in WORLDS.items()
        for name, check in checks.items()
        if check.needs <= engine.promises
    ]


def _known(title: str, name: str) -> tuple[pytest.MarkDecorator, ...]:
    reason = KNOWN.get((title, name))
    return () if reason is None else (pytest.mark.xfail(raises=ConformanceError, reason=reason),)
