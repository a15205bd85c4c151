"""The log on Redis and Valkey when a script fails half-way, and what bounds its size and that of its messages."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from itertools import takewhile
from typing import BinaryIO

import pytest

from redis_logs import RedisHubs, publication, until
from redis_servers import ENGINES, redis_server
from sseal.errors import InvalidInput, Unavailable
from sseal.storage import Retention
from sseal.subscription import TopicSet

NOTHING: dict[str, float] = {}
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module", params=ENGINES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisHubs]:
    """One server for the tests of this module."""
    with redis_server(tmp_path_factory.mktemp("redis"), request.param) as running:
        yield RedisHubs(running)


@pytest.fixture
async def redis_hubs(server: RedisHubs) -> AsyncIterator[RedisHubs]:
    """The server, empty, and whatever a test opened on it closed afterwards."""
    server.server.command("FLUSHALL")
    yield server
    await server.close()


@pytest.mark.parametrize("rights", [("resetchannels",), ("resetchannels", "&other:*"), ("&sseal:*", "-publish")])
async def test_a_user_who_may_not_publish_is_refused_at_once(redis_hubs: RedisHubs, rights: tuple[str, ...]) -> None:
    """The error names what the user lacks, and nothing has been written by then."""
    redis_hubs.server.command("ACL", "SETUSER", "ann", "reset", "on", ">secret", "~sseal:*", "+@all", *rights)
    with pytest.raises(InvalidInput, match=r"\+publish and &sseal:\*"):
        await redis_hubs.hub(url=f"redis://ann:secret@127.0.0.1:{redis_hubs.server.port}/0", listening=False)
    assert redis_hubs.server.command("KEYS", "*") == ""


async def test_a_right_withdrawn_later_does_not_break_the_log(redis_hubs: RedisHubs) -> None:
    """What cannot be told is appended all the same, and everybody else publishes on."""
    redis_hubs.server.command("ACL", "SETUSER", "ann", "reset", "on", ">secret", "~sseal:*", "&sseal:*", "+@all")
    poor = await redis_hubs.hub(url=f"redis://ann:secret@127.0.0.1:{redis_hubs.server.port}/0", listening=False)
    rich = await redis_hubs.hub()
    redis_hubs.server.command("ACL", "SETUSER", "ann", "-publish")
    assert await poor.broker.publish([publication("a"), publication("b")]) == [1, 2]
    assert await rich.broker.publish([publication("a")]) == [3]
    page = await rich.broker.history(TopicSet.of("a", "b"), 0, limit=10, since=NOTHING)
    assert [entry.offset for entry in page.entries] == [1, 2, 3]


@pytest.mark.parametrize("kind", ["topic", "head"])
async def test_a_key_of_the_wrong_type_costs_its_own_topic_only(redis_hubs: RedisHubs, kind: str) -> None:
    """A call that fails half-way appends nothing, and the next one goes on behind it."""
    hub = await redis_hubs.hub()
    await hub.broker.listen(["a", "**"])
    redis_hubs.server.command("HSET", f"sseal:{kind}:bad", "not", "ours")
    with pytest.raises(Unavailable, match="refuses"):
        await hub.broker.publish([publication("a", "one"), publication("bad")])
    (offset,) = await hub.broker.publish([publication("a", "two")])
    await hub.until(offset)
    assert [entry.data for entry in hub.entries] == ["two"]
    page = await hub.broker.history(TopicSet.of("a"), 0, limit=10, since=NOTHING)
    assert [entry.data for entry in page.entries] == ["two"]
    assert redis_hubs.server.command("ZCARD", "sseal:topic:a") == "1"


async def test_a_head_behind_its_log_is_set_right(redis_hubs: RedisHubs) -> None:
    """A hub that opens a log whose record is behind what was appended goes on after that."""
    hub = await redis_hubs.hub()
    await hub.broker.publish([publication("a")] * 3)
    await redis_hubs.close()
    redis_hubs.server.command("HSET", "sseal:meta", "head", "1")
    hub = await redis_hubs.hub()
    assert hub.broker.head == 3
    assert await hub.broker.publish([publication("a")]) == [4]


async def test_no_topic_leaves_anything_but_what_it_has_lost(redis_hubs: RedisHubs) -> None:
    """When its last event is trimmed a topic has no key left, and a later event still names its predecessor."""
    hub = await redis_hubs.hub(retention=Retention(count=5))
    for index in range(30):
        await hub.broker.publish([publication(f"t/{index}"), publication(f"$sseal/canary/{index}", ttl=1.0)])
    for kind in ("topic", "head"):
        assert len(redis_hubs.server.command("KEYS", f"sseal:{kind}:*").split()) <= 5
    await hub.broker.listen(["t/0"])
    assert hub.broker._delivery is not None
    hub.broker._delivery._last["t:t/0"] = 0  # as if its first event had been missed
    await hub.broker.publish([publication("t/0")])
    await until(lambda: [told for told in hub.told if told[0] == "gap"])
    await hub.until(61)


async def test_a_topic_trimmed_to_nothing_is_compared_with_what_was_trimmed(redis_hubs: RedisHubs) -> None:
    """The last message of a topic was lost, and its event is gone: its readers are told (W24)."""
    hub = await redis_hubs.hub(retention=Retention(count=2), check_interval=3600.0)
    publisher = await redis_hubs.hub(listening=False)
    await hub.broker.listen(["a", "b"])
    delivery = hub.broker._delivery
    assert delivery is not None
    take = delivery.on_message
    delivery.on_message = lambda channel, data: None if channel == "t:a" else take(channel, data)  # type: ignore[method-assign]
    await publisher.broker.publish([publication("a")])
    await publisher.broker.publish([publication("b")] * 4)
    await hub.until(5)
    await hub.broker._check()
    await until(lambda: ("gap", ["a"], 5) in hub.told)


async def test_idempotency_keys_are_bounded_by_number(redis_hubs: RedisHubs) -> None:
    """Beyond 100,000 the oldest goes, and the newest still counts (W20)."""
    hub = await redis_hubs.hub()
    await hub.broker.publish([publication("a", key="first")])
    fill = (
        "local till = redis.call('TIME')[1] + 60;"
        "for row = 1, 100 do "
        "  local some = {};"
        "  for i = 1, 1000 do some[2*i-1] = till; some[2*i] = 'x' .. row .. '-' .. i end;"
        "  redis.call('ZADD', 'sseal:keys', unpack(some)) "
        "end"
    )
    redis_hubs.server.command("EVAL", fill, "0")
    assert await hub.broker.publish([publication("a", key="second")]) == [2]
    assert redis_hubs.server.command("ZCARD", "sseal:keys") == "100000"
    assert await hub.broker.publish([publication("a", key="second")]) == [3]  # older than all others, in this test
    assert len(redis_hubs.server.command("KEYS", "sseal:key:*").split()) <= 1


async def test_keys_whose_time_is_over_are_forgotten(redis_hubs: RedisHubs) -> None:
    """Looking at the log drops the keys of yesterday."""
    hub = await redis_hubs.hub()
    redis_hubs.server.command("ZADD", "sseal:keys", "1", "old")
    await hub.broker.newest()
    assert redis_hubs.server.command("EXISTS", "sseal:keys") == "0"


async def test_a_long_event_of_many_topics_is_told_in_a_few_bytes(redis_hubs: RedisHubs) -> None:
    """A mebibyte for 16 topics and a pattern arrives in order, and is not sent once for each of them."""
    hub, publisher = await redis_hubs.hub(), await redis_hubs.hub(listening=False)
    topics = [f"t/{n}" for n in range(16)]
    await hub.broker.listen([*topics, "t/*"])
    told = 0
    delivery = hub.broker._delivery
    assert delivery is not None
    take = delivery.on_message

    def count(channel: str, data: bytes) -> None:
        nonlocal told
        told += len(data)
        take(channel, data)

    delivery.on_message = count  # type: ignore[method-assign]
    for text in ("short", "x" * MEBIBYTE, "short", "y" * MEBIBYTE, "z" * (17 * 1024), "short"):
        await publisher.broker.publish([publication(" ".join(topics), text)])
    await publisher.broker.publish([publication("other", "x" * MEBIBYTE), publication("t/1")])
    await hub.until(8)
    assert hub.offsets == [1, 2, 3, 4, 5, 6, 8]
    assert [len(entry.data) for entry in hub.entries][:5] == [5, MEBIBYTE, 5, MEBIBYTE, 17 * 1024]
    assert told < 64 * 1024
    assert {name for name, *_ in hub.told} == {"entry"}


@contextlib.contextmanager
def monitored(redis_hubs: RedisHubs) -> Iterator[BinaryIO]:
    """Yield what the server is asked from now on, a line for each command."""
    with socket.create_connection(("127.0.0.1", redis_hubs.server.port), timeout=5.0) as connection:
        connection.sendall(b"MONITOR\r\n")
        with connection.makefile("rb") as lines:
            assert lines.readline() == b"+OK\r\n"
            yield lines


@pytest.mark.parametrize("busy", [1, 64])
async def test_a_page_of_many_topics_looks_at_little_more_than_it_gives(redis_hubs: RedisHubs, busy: int) -> None:
    """A page of 64 topics is full whether one of them has all events or each has many, and no place is left out."""
    hub = await redis_hubs.hub()
    topics = [f"t/{n}" for n in range(64)]
    for _ in range(40):
        await hub.broker.publish([publication(topics[n % busy]) for n in range(64)])
    seen: list[int] = []
    after, more, pages = 0, True, 0
    with monitored(redis_hubs) as watching:
        while more:
            page = await hub.broker.history(TopicSet.of(*topics), after, 2560, limit=500, since=NOTHING)
            seen += [entry.offset for entry in page.entries]
            after, more, pages = page.upto, page.more, pages + 1
        redis_hubs.server.command("ECHO", "the end")
        lines = list(takewhile(lambda line: b'"ECHO"' not in line, watching))
    looked_at = [int(line.split(b'"')[-2]) for line in lines if b'"ZRANGE" "sseal:topic:' in line]
    assert sum(looked_at) <= pages * 4 * 500
    assert seen == list(range(1, 2561))
    assert pages <= 7
