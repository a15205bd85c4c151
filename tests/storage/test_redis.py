"""The log on Redis and Valkey: order, idempotency, snapshots, retention, delivery."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from redis_logs import RedisHubs, publication, until
from redis_servers import ENGINES, redis_server
from sseal.errors import Conflict
from sseal.storage import Retention
from sseal.storage.redis import RedisBroker
from sseal.subscription import TopicSet

NOTHING: dict[str, float] = {}


@pytest.fixture(scope="module", params=ENGINES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisHubs]:
    """One server for the tests of this module."""
    folder: Path = tmp_path_factory.mktemp("redis")
    with redis_server(folder, request.param) as running:
        yield RedisHubs(running)


@pytest.fixture
async def redis_hubs(server: RedisHubs) -> AsyncIterator[RedisHubs]:
    """The server, empty, and whatever a test opened on it closed afterwards."""
    server.server.command("FLUSHALL")
    yield server
    await server.close()


async def test_what_is_published_is_delivered_once_and_in_order(redis_hubs: RedisHubs) -> None:
    """Offsets are contiguous, and a hub is handed what it listens to."""
    hub = await redis_hubs.hub()
    assert await hub.broker.listen(["a", "b"]) == 0
    assert await hub.broker.publish([publication("a"), publication("b")]) == [1, 2]
    assert await hub.broker.publish([publication("c")]) == [3]
    assert await hub.broker.publish([publication("a")]) == [4]
    await hub.until(4)
    assert hub.offsets == [1, 2, 4]


async def test_history_pages_are_one_snapshot(redis_hubs: RedisHubs) -> None:
    """Pages run across topics by offset, so that none is passed over (W7)."""
    hub = await redis_hubs.hub()
    for index in range(10):
        await hub.broker.publish([publication("a" if index % 2 else "b", str(index))])
    seen: list[int] = []
    after, more = 0, True
    while more:
        page = await hub.broker.history(TopicSet.of("a", "b"), after, 10, limit=3, since=NOTHING)
        seen += [entry.offset for entry in page.entries]
        await hub.broker.publish([publication("a", "late")])
        after, more = page.upto, page.more
    assert seen == list(range(1, 11))


async def test_a_conflicting_key_appends_nothing_of_its_call(redis_hubs: RedisHubs) -> None:
    """A batch with one conflicting key is refused whole (W20)."""
    hub = await redis_hubs.hub()
    assert await hub.broker.publish([publication("a", key="k")]) == [1]
    assert await hub.broker.publish([publication("a", key="k"), publication("b")]) == [1, 2]
    with pytest.raises(Conflict):
        await hub.broker.publish([publication("b"), publication("a", key="k", digest=b"other")])
    with pytest.raises(Conflict):
        await hub.broker.publish([publication("b", key="n"), publication("a", key="n", digest=b"other")])
    assert await hub.broker.publish([publication("b", key="n"), publication("b", key="n")]) == [3, 3]


async def test_calls_at_once_are_each_all_or_nothing(redis_hubs: RedisHubs) -> None:
    """Calls that go as one script succeed and fail by themselves."""
    hub = await redis_hubs.hub()
    await hub.broker.publish([publication("a", key="k")])
    calls = [hub.broker.publish([publication("a", str(n)), publication("b", str(n))]) for n in range(20)]
    bad = [hub.broker.publish([publication("a"), publication("a", key="k", digest=b"other")]) for _ in range(5)]
    results = await asyncio.gather(*calls, *bad, return_exceptions=True)
    offsets = [offset for result in results[:20] for offset in result]  # type: ignore[union-attr]
    assert sorted(offsets) == list(range(2, 42))
    assert all(isinstance(result, Conflict) for result in results[20:])


async def test_a_pattern_is_delivered_and_replayed(redis_hubs: RedisHubs) -> None:
    """Patterns are handed out from the channel of all events and read back from the log."""
    hub = await redis_hubs.hub()
    await hub.broker.listen(["a/**", "x/*"])
    for topic in ("a/1", "b", "a/2/3", "x/y", "x/y/z", "a", "a-1/x"):
        await hub.broker.publish([publication(topic)])
    await hub.until(4)
    assert hub.offsets == [1, 3, 4]
    page = await hub.broker.history(TopicSet.of("a/**", "x/*"), 0, limit=10, since=NOTHING)
    assert [entry.offset for entry in page.entries] == [1, 3, 4]
    assert (page.upto, page.more, page.lost) == (7, False, 0)


@pytest.mark.parametrize("segment", ["100%25", "a.b", "ä-ö(x)", "^$[x]+?", "%2A"])
async def test_no_character_of_a_topic_is_special(redis_hubs: RedisHubs, segment: str) -> None:
    """A pattern matches its literal segments literally, whatever stands in them."""
    hub = await redis_hubs.hub()
    await hub.broker.listen([f"{segment}/*"])
    await hub.broker.publish([publication(f"{segment}/1"), publication("axb/1"), publication("a/1")])
    await hub.broker.publish([publication(f"{segment}/2")])
    await hub.until(4)
    assert hub.offsets == [1, 4]
    page = await hub.broker.history(TopicSet.of(f"{segment}/*"), 0, limit=10, since=NOTHING)
    assert [entry.offset for entry in page.entries] == [1, 4]


async def test_an_event_of_several_topics_is_one(redis_hubs: RedisHubs) -> None:
    """One event, one offset, one delivery, listed under each topic (W27)."""
    hub = await redis_hubs.hub()
    await hub.broker.listen(["a", "b", "*"])
    await hub.broker.publish([publication("a b c", "one")])
    await hub.broker.publish([publication("b")])
    await hub.until(2)
    assert hub.offsets == [1, 2]
    assert hub.entries[0].topics == ("a", "b", "c")
    for topic in "abc":
        page = await hub.broker.history(TopicSet.of(topic), 0, 1, limit=10, since=NOTHING)
        assert [entry.offset for entry in page.entries] == [1]
    page = await hub.broker.history(TopicSet.of("a", "b", "c"), 0, limit=10, since=NOTHING)
    assert [entry.offset for entry in page.entries] == [1, 2]


async def test_an_event_comes_back_as_it_was_published(redis_hubs: RedisHubs) -> None:
    """Type, data, time to live and retry survive, whatever characters they hold."""
    hub = await redis_hubs.hub()
    await hub.broker.listen(["ä/€"])
    text = "line\nsecond\r\nnull? no \x01 é € 😀 " * 50
    await hub.broker.publish([publication("ä/€", text, ttl=60.0, retry=700)])
    await hub.until(1)
    page = await hub.broker.history(TopicSet.of("ä/€"), 0, limit=10, since=NOTHING)
    (entry,) = page.entries
    assert entry == hub.entries[0]
    assert (entry.data, entry.type, entry.retry) == (text, "message", 700)
    assert entry.expires_at == pytest.approx(entry.published_at + 60.0, abs=1e-3)
    assert entry.published_at == pytest.approx(hub.broker.now(), abs=5.0)


async def test_forgotten_topics_are_not_delivered_and_a_later_listen_counts(redis_hubs: RedisHubs) -> None:
    """What is forgotten ends at once, and listening again is not undone by it."""
    hub = await redis_hubs.hub()
    await hub.broker.listen(["a", "b", "a/*"])
    await hub.broker.forget(["a", "a/*"])
    await hub.broker.publish([publication("a"), publication("a/1"), publication("b")])
    await hub.until(3)
    forgetting = hub.broker.forget(["b"])
    await asyncio.gather(forgetting, hub.broker.listen(["b"]))
    await hub.broker.publish([publication("b")])
    await hub.until(4)
    assert hub.offsets == [3, 4]


async def test_history_leaves_out_what_is_over_and_does_not_call_it_lost(
    redis_hubs: RedisHubs, time_unit: float
) -> None:
    """An event whose time to live is over is no loss, also when it is trimmed (W25)."""
    hub = await redis_hubs.hub(retention=Retention(count=2))
    await hub.broker.publish([publication("a", ttl=time_unit / 10), publication("a")])
    while True:
        page = await hub.broker.history(TopicSet.of("a"), 0, limit=10, since=NOTHING)
        if [entry.offset for entry in page.entries] == [2]:
            break
    await hub.broker.publish([publication("b")])
    page = await hub.broker.history(TopicSet.of("a"), 0, limit=10, since=NOTHING)
    assert ([entry.offset for entry in page.entries], page.lost) == ([2], 0)
    await hub.broker.publish([publication("b")])
    page = await hub.broker.history(TopicSet.of("a"), 0, limit=10, since=NOTHING)
    assert ([entry.offset for entry in page.entries], page.lost) == ([], 2)


@pytest.mark.parametrize("limits", [{"count": 2}, {"size": 1000}, {"age": 0.3}])
async def test_retention_trims_the_oldest_and_remembers_what_was_lost(
    redis_hubs: RedisHubs, limits: dict[str, Any]
) -> None:
    """Whatever limit is hit, the newest trimmed offset of each topic is known (W25)."""
    hub = await redis_hubs.hub(retention=Retention(**limits))
    history = hub.broker.history
    await hub.broker.publish([publication("a", "x" * 100), publication("b", "x" * 100)])
    first = (await history(TopicSet.of("a"), 0, limit=10, since=NOTHING)).entries
    if "age" in limits:
        while (await history(TopicSet.of("**"), 0, limit=10, since=NOTHING)).entries:
            await asyncio.sleep(0.01)
        redis_hubs.server.command(
            "HSET", "sseal:meta", "age", "3600"
        )  # so that what follows does not grow too old as well
    await hub.broker.publish([publication("c", "x" * 100), publication("c", "x" * 100)])
    assert (await history(TopicSet.of("a"), 0, limit=10, since=NOTHING)).lost == 1
    assert (await history(TopicSet.of("b"), 0, limit=10, since=NOTHING)).lost == 2
    assert (await history(TopicSet.of("b"), 2, limit=10, since=NOTHING)).lost == 0
    assert (await history(TopicSet.of("c"), 0, limit=10, since=NOTHING)).lost == 0
    assert (await history(TopicSet.of("*"), 0, limit=10, since=NOTHING)).lost == 2
    assert (await history(TopicSet.of("b/*"), 0, limit=10, since=NOTHING)).lost == 0
    after = first[0].published_at + 1.0 if first else 1e12
    assert (await history(TopicSet.of("b"), 0, limit=10, since={"b": after})).lost == 0
    assert (await history(TopicSet.of("*"), 0, limit=10, since={"*": after})).lost == 0


async def test_nothing_of_a_trimmed_log_stays_behind(redis_hubs: RedisHubs) -> None:
    """The memory a log takes is bounded by its retention, however many topics there were."""
    hub = await redis_hubs.hub(retention=Retention(count=10))
    for index in range(60):
        await hub.broker.publish([publication(f"t/{index} all")])
    keys = redis_hubs.server.command("KEYS", "sseal:topic:*").split("\n")
    assert len(keys) == 11
    assert redis_hubs.server.command("ZCARD", "sseal:topic:all") == "10"
    assert redis_hubs.server.command("XLEN", "sseal:log") == "10"
    await asyncio.gather(*[hub.broker.publish([publication("z")] * 10) for _ in range(5)])
    assert int(redis_hubs.server.command("HGET", "sseal:meta", "bytes")) < 10 * 450


async def test_only_the_newest_canary_stays_and_none_is_read_back(redis_hubs: RedisHubs) -> None:
    """Canaries are delivered like all others, and are in no history."""
    hub = await redis_hubs.hub()
    await hub.broker.listen(["$sseal/canary/x"])
    for _ in range(5):
        await hub.broker.publish([publication("$sseal/canary/x", ttl=1.0)])
    await hub.until(5)
    assert hub.offsets == [1, 2, 3, 4, 5]
    assert redis_hubs.server.command("XLEN", "sseal:log") == "1"
    page = await hub.broker.history(TopicSet.of("**", "$sseal/canary/x"), 0, limit=10, since=NOTHING)
    assert (page.entries, page.lost) == ([], 0)


async def test_the_last_hub_says_what_is_kept_and_publishers_go_by_it(redis_hubs: RedisHubs) -> None:
    """A publisher without a hub trims as the hubs do."""
    publisher = await redis_hubs.hub(listening=False)
    assert redis_hubs.server.command("HGET", "sseal:meta", "count") == "10000"
    await redis_hubs.hub(retention=Retention(count=3))
    await publisher.broker.publish([publication("a")] * 5)
    another = await redis_hubs.hub(listening=False)
    assert redis_hubs.server.command("HGET", "sseal:meta", "count") == "3"
    assert redis_hubs.server.command("XLEN", "sseal:log") == "3"
    assert another.broker.head == 5


async def test_newest_knows_more_than_what_was_handed_out(redis_hubs: RedisHubs) -> None:
    """The log itself is asked, so an event no reader here wants counts too."""
    one, two = await redis_hubs.hub(), await redis_hubs.hub()
    await one.broker.publish([publication("a")] * 3)
    assert await two.broker.newest() == 3
    assert two.broker.head == 0


async def test_two_thousand_topics_are_listened_to_at_once(redis_hubs: RedisHubs) -> None:
    """Requests that come together are confirmed together, and all of them count."""
    hub = await redis_hubs.hub()
    topics = [f"user/{n}" for n in range(2000)]
    await asyncio.gather(*[hub.broker.listen([topic]) for topic in topics])
    publisher = await redis_hubs.hub(listening=False)
    for n in range(20):  # one after the other, as each has two seconds
        await publisher.broker.publish([publication(topic) for topic in topics[n::20]])
    await until(lambda: len(hub.entries) == 2000)
    assert hub.offsets == list(range(1, 2001))


async def test_many_patterns_are_one_subscription(redis_hubs: RedisHubs) -> None:
    """However many patterns there are, each is delivered, until the last of them is forgotten."""
    hub = await redis_hubs.hub()
    names = [f"user/{n}/*" for n in range(500)]
    await asyncio.gather(*[hub.broker.listen([name]) for name in names])
    await hub.broker.publish([publication(f"user/{n}/x") for n in range(500)])
    await hub.until(500)
    await hub.broker.forget(names[:-1])
    await hub.broker.publish([publication("user/1/x"), publication("user/499/x")])
    await hub.until(502)
    await hub.broker.forget(names[-1:])
    await hub.broker.listen(["a"])
    await hub.broker.publish([publication("user/499/x"), publication("a")])
    await hub.until(504)
    assert hub.offsets == [*range(1, 501), 502, 504]


async def test_nothing_after_the_confirmed_offset_is_missed(redis_hubs: RedisHubs) -> None:
    """Topics are listened to and forgotten while two publishers write; each is complete from where it was confirmed."""
    hub, one, two = await redis_hubs.hub(), await redis_hubs.hub(listening=False), await redis_hubs.hub(listening=False)
    rng = random.Random(7)
    topics = [f"t/{n}" for n in range(12)]
    written: list[tuple[int, str]] = []

    async def write(broker: RedisBroker) -> None:
        for _ in range(250):
            some = rng.sample(topics, rng.choice([1, 1, 2]))
            (offset,) = await broker.publish([publication(" ".join(some))])
            written.extend((offset, topic) for topic in some)

    async def read() -> None:
        while not writers.done():
            topic = rng.choice(topics)
            if topic in confirmed:
                del confirmed[topic]
                await hub.broker.forget([topic])
            else:
                confirmed[topic] = await hub.broker.listen([topic])
            await asyncio.sleep(rng.random() / 200)

    confirmed: dict[str, int] = {}
    writers = asyncio.gather(write(one.broker), write(two.broker))
    await read()
    await writers
    expected = {offset for offset, topic in written if offset > confirmed.get(topic, 10**9)}
    await until(lambda: expected <= set(hub.offsets))
    assert hub.offsets == sorted(set(hub.offsets))
    assert not [told for told in hub.told if told[0] != "entry"]
