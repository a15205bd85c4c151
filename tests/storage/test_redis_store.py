"""The store on Redis and Valkey: records, revocations, nodes and mail between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest

from redis_logs import until
from redis_servers import ENGINES, RedisServer, redis_server
from sseal.clock import SystemClock
from sseal.errors import TooLarge, Unavailable
from sseal.storage.redis import Link
from sseal.storage.redis.store import HEARTBEAT_INTERVAL, RedisStore


@dataclass
class Node:
    """A store and what it was told."""

    link: Link
    store: RedisStore
    messages: list[bytes] = field(default_factory=list)
    revocation_signals: int = 0

    def on_revocations(self) -> None:
        """Count."""
        self.revocation_signals += 1

    def on_message(self, body: bytes) -> None:
        """Keep the message."""
        self.messages.append(body)


@dataclass
class Nodes:
    """A server and the nodes on it."""

    server: RedisServer
    open: list[Node] = field(default_factory=list)

    async def node(self, name: str, **options: float) -> Node:
        """Open one."""
        link = Link(self.server.url, SystemClock(), "store")
        node = Node(link, RedisStore(link, SystemClock(), **options))
        await node.store.open(name, node)
        self.open.append(node)
        return node


def later(seconds: float = 60.0) -> float:
    """Return a time to expire at."""
    return SystemClock().wall() + seconds


@pytest.fixture(scope="module", params=ENGINES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for the tests of this module."""
    with redis_server(tmp_path_factory.mktemp("redis"), request.param) as running:
        yield running


@pytest.fixture
async def nodes(server: RedisServer) -> AsyncIterator[Nodes]:
    """The server, empty, and whatever a test opened on it closed afterwards."""
    server.command("FLUSHALL")
    nodes = Nodes(server)
    yield nodes
    for node in nodes.open:
        await node.store.close()


async def test_a_record_is_read_until_it_is_taken_by_one(nodes: Nodes) -> None:
    """Of all who take a record one gets it."""
    one, two = await nodes.node("one"), await nodes.node("two")
    await one.store.put("k", b"v", later())
    assert await two.store.get("k") == b"v"
    taken = await asyncio.gather(*[node.store.take("k") for node in (one, two) * 10])
    assert [value for value in taken if value is not None] == [b"v"]


async def test_a_record_expires(nodes: Nodes, time_unit: float) -> None:
    """What is over is not there, and what is over already is not written."""
    one = await nodes.node("one")
    await one.store.put("k", b"v", later(time_unit))
    await one.store.put("gone", b"v", later(60))
    await one.store.put("gone", b"v", later(-1))
    assert await one.store.get("gone") is None
    while await one.store.get("k") is not None:
        await asyncio.sleep(0.01)


async def test_swap_writes_only_what_has_not_changed(nodes: Nodes) -> None:
    """Compare and write are one step, also for absence and deletion."""
    store = (await nodes.node("one")).store
    assert not await store.swap("k", b"old", b"new", later())
    assert await store.swap("k", None, b"new", later())
    assert not await store.swap("k", None, b"other", later())
    assert await store.swap("k", b"new", b"", later())
    assert await store.swap("k", b"", None, later())
    assert await store.get("k") is None


async def test_count_starts_anew_when_its_time_is_over(nodes: Nodes, time_unit: float) -> None:
    """A count holds across nodes, for its seconds."""
    one, two = await nodes.node("one"), await nodes.node("two")
    assert [await node.store.count("k", 60) for node in (one, two, one)] == [1, 2, 3]
    assert await one.store.count("short", time_unit) == 1
    while await one.store.count("short", time_unit) > 1:
        await asyncio.sleep(time_unit * 1.1)


async def test_a_revocation_is_heard_of_by_all_nodes(nodes: Nodes) -> None:
    """Revocations are numbered, read in order, and all nodes are told (W17)."""
    one, two = await nodes.node("one"), await nodes.node("two")
    assert [await one.store.revoke(b"%d" % n, later()) for n in range(3)] == [1, 2, 3]
    await until(lambda: one.revocation_signals == two.revocation_signals == 3)
    assert await two.store.revocations(0) == [(1, b"0"), (2, b"1"), (3, b"2")]
    assert await two.store.revocations(2) == [(3, b"2")]
    assert await two.store.revocations(3) == []
    assert await two.store.revocations(99) == [(1, b"0"), (2, b"1"), (3, b"2")]  # of a log that was lost


async def test_expired_revocations_are_not_given(nodes: Nodes, time_unit: float) -> None:
    """What is over is left out and trimmed; more than a page is read in pages."""
    store = (await nodes.node("one")).store
    await asyncio.gather(*[store.revoke(b"short", later(time_unit)) for _ in range(1500)])
    await store.revoke(b"long", later())
    while len(found := await store.revocations(0)) > 1:
        await asyncio.sleep(0.01)
    assert found == [(1501, b"long")]
    for _ in range(15):
        await store.revoke(b"long", later())
    assert int(nodes.server.command("XLEN", "sseal:revocations")) == 16


async def test_mail_reaches_the_node_it_is_for(nodes: Nodes) -> None:
    """Only the node addressed gets it, and an unknown one is said to be so (W42)."""
    one, two = await nodes.node("one"), await nodes.node("two")
    assert await one.store.send("two", b"hello\x00\xff")
    assert await one.store.send("one", b"self")
    assert not await one.store.send("three", b"hello")
    await until(lambda: one.messages and two.messages)
    assert (one.messages, two.messages) == ([b"self"], [b"hello\x00\xff"])
    with pytest.raises(TooLarge):
        await one.store.send("two", b"x" * (1024 * 1024 + 1))


async def test_nodes_are_those_that_show_signs_of_life(nodes: Nodes) -> None:
    """A node that is closed leaves at once, one that was killed when it has been silent for three beats."""
    one, two, three = [await nodes.node(name) for name in ("one", "two", "three")]
    assert set(await one.store.nodes()) == {"one", "two", "three"}
    await three.store.close()
    assert set(await one.store.nodes()) == {"one", "two"}
    assert two.store._heartbeat is not None
    two.store._heartbeat.cancel()  # as if it had been killed
    beat = float(nodes.server.command("ZSCORE", "sseal:nodes", "two"))
    for silent, alive in ((2.0, {"one", "two"}), (3.0, {"one"})):
        nodes.server.command("ZADD", "sseal:nodes", f"{beat - silent * HEARTBEAT_INTERVAL:.3f}", "two")
        assert set(await one.store.nodes()) == alive
    assert not await one.store.send("two", b"hello")


async def test_a_closed_store_refuses(nodes: Nodes) -> None:
    """Using it after the end is an error, never silence; closing again is none."""
    one = await nodes.node("one")
    await one.store.close()
    await one.store.close()
    with pytest.raises(Unavailable):
        await one.store.get("k")


async def test_a_log_that_began_anew_is_read_from_its_start(nodes: Nodes) -> None:
    """After a loss under a living connection no node takes new revocations for old ones of the same number (W17)."""
    one, two = await nodes.node("one"), await nodes.node("two")
    for name in (b"a", b"b", b"c"):
        await one.store.revoke(name, later())
    assert [number for number, _ in await two.store.revocations(0)] == [1, 2, 3]
    nodes.server.command("FLUSHALL")
    for name in (b"d", b"e", b"f", b"g"):
        await one.store.revoke(name, later())
    assert [record for _, record in await two.store.revocations(3)] == [b"d", b"e", b"f", b"g"]
    assert [record for _, record in await two.store.revocations(3)] == [b"g"]
    two.link.lose("for the test")  # behind the next connection may be an older log that has grown since
    assert [record for _, record in await two.store.revocations(4)] == [b"d", b"e", b"f", b"g"]


async def test_every_beat_reads_the_revocations(nodes: Nodes, time_unit: float) -> None:
    """A signal that was lost is made up for by the next sign of life (W17)."""
    one = await nodes.node("one", heartbeat_interval=time_unit)
    await until(lambda: one.revocation_signals >= 2)


async def test_a_dead_connection_for_messages_is_noticed(nodes: Nodes, time_unit: float) -> None:
    """A store alone on its server sees that nothing comes any more, though nobody has hung up."""
    one = await nodes.node("one", heartbeat_interval=time_unit)
    assert one.link._connections is not None
    messages = one.link._connections.messages
    messages._tasks[0].cancel()  # nothing that arrives is read
    await until(lambda: one.link._connections is not None and one.link._connections.messages is not messages)
    await until(lambda: one.store.lost_since is None)
    while not await one.store.send("one", b"hello"):  # its own signs of life may have come late
        await asyncio.sleep(0.01)
    await until(lambda: one.messages == [b"hello"])


async def test_a_server_that_became_a_replica_is_lost(nodes: Nodes, time_unit: float) -> None:
    """A store alone on its server sees at its next sign of life that it can write no more."""
    one = await nodes.node("one", heartbeat_interval=time_unit)
    nodes.server.command("REPLICAOF", "127.0.0.1", "1")
    try:
        await until(lambda: one.store.lost_since is not None)
    finally:
        nodes.server.command("REPLICAOF", "NO", "ONE")
    await until(lambda: one.store.lost_since is None)


async def test_what_has_expired_goes_from_behind_what_has_not(nodes: Nodes, time_unit: float) -> None:
    """One revocation for a year does not keep all the logouts after it in the server for so long."""
    store = (await nodes.node("one")).store
    await store.revoke(b"long", later())
    await asyncio.gather(*[store.revoke(b"short", later(time_unit)) for _ in range(150)])
    while len(await store.revocations(0)) > 1:
        await asyncio.sleep(0.01)
    for _ in range(2):
        await store.revoke(b"long", later())
    assert int(nodes.server.command("XLEN", "sseal:revocations")) == 3
    assert int(nodes.server.command("ZCARD", "sseal:revocations:ends")) == 3
    assert [record for _, record in await store.revocations(0)] == [b"long"] * 3
