"""The log on Redis and Valkey: order, idempotency, snapshots, retention, delivery."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from redis_logs import World, draft
from redis_servers import ENGINES, redis_server
from sseal.errors import Conflict
from sseal.subscription import TopicSet

NOTHING: dict[str, float] = {}


@pytest.fixture(scope="module", params=ENGINES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One server for the tests of this module."""
    folder: Path = tmp_path_factory.mktemp("redis")
    with redis_server(folder, request.param) as running:
        yield World(running)


@pytest.fixture
async def world(server: World) -> AsyncIterator[World]:
    """The server, empty, and whatever a test opened on it closed afterwards."""
    server.server.command("FLUSHALL")
    yield server
    await server.close()


async def test_what_is_published_is_delivered_once_and_in_order(world: World) -> None:
    """Offsets are contiguous, and a hub is handed what it listens to."""
    hub = await world.hub()
    assert await hub.broker.listen(["a", "b"]) == 0
    assert await hub.broker.publish([draft("a"), draft("b")]) == [1, 2]
    assert await hub.broker.publish([draft("c")]) == [3]
    assert await hub.broker.publish([draft("a")]) == [4]
    await hub.until(4)
    assert hub.offsets == [1, 2, 4]


async def test_history_pages_are_one_snapshot(world: World) -> None:
    """Pages run across topics by offset, so that none is passed over (W7)."""
    hub = await world.hub()
    for index in range(10):
        await hub.broker.publish([draft("a" if index % 2 else "b", str(index))])
    seen: list[int] = []
    after, more = 0, True
    while more:
        page = await hub.broker.history(TopicSet.of("a", "b"), after, 10, limit=3, since=NOTHING)
        seen += [entry.offset for entry in page.entries]
        await hub.broker.publish([draft("a", "late")])
        after, more = page.upto, page.more
    assert seen == list(range(1, 11))


async def test_a_conflicting_key_appends_nothing_of_its_call(world: World) -> None:
    """A batch with one conflicting key is refused whole (W20)."""
    hub = await world.hub()
    assert await hub.broker.publish([draft("a", key="k")]) == [1]
    assert await hub.broker.publish([draft("a", key="k"), draft("b")]) == [1, 2]
    with pytest.raises(Conflict):
        await hub.broker.publish([draft("b"), draft("a", key="k", digest=b"other")])
    with pytest.raises(Conflict):
        await hub.broker.publish([draft("b", key="n"), draft("a", key="n", digest=b"other")])
    assert await hub.broker.publish([draft("b", key="n"), draft("b", key="n")]) == [3, 3]


async def test_calls_at_once_are_each_all_or_nothing(world: World) -> None:
    """Calls that go as one script succeed and fail by themselves."""
    hub = await world.hub()
    await hub.broker.publish([draft("a", key="k")])
    calls = [hub.broker.publish([draft("a", str(n)), draft("b", str(n))]) for n in range(20)]
    bad = [hub.broker.publish([draft("a"), draft("a", key="k", digest=b"other")]) for _ in range(5)]
    results = await asyncio.gather(*calls, *bad, return_exceptions=True)
    offsets = [offset for result in results[:20] for offset in result]  # type: ignore[union-attr]
    assert sorted(offsets) == list(range(2, 42))
    assert all(isinstance(result, Conflict) for result in results[20:])
