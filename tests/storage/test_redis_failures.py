"""The log on Redis and Valkey when something breaks: connections, messages, answers, the server itself."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from redis_logs import Hub, RedisHubs, open_redis_hubs, publication, until
from redis_servers import ENGINES, Proxy, RedisServer, redis_server
from sseal.errors import SsealError, Unavailable
from sseal.position import Lineage, Position
from sseal.storage import Retention
from sseal.storage.redis import delivery
from sseal.subscription import TopicSet

NOTHING: dict[str, float] = {}


@pytest.fixture(params=ENGINES)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, which it may kill."""
    with redis_server(tmp_path / "redis", request.param) as running:
        yield running


@pytest.fixture
async def redis_hubs(server: RedisServer) -> AsyncIterator[RedisHubs]:
    """The server, and whatever a test opened on it closed afterwards."""
    async with open_redis_hubs(server) as redis_hubs:
        yield redis_hubs


def positions(hub: Hub) -> list[int]:
    """Return what was delivered, after checking that it is in order and nothing twice."""
    assert hub.offsets == sorted(set(hub.offsets))
    return hub.offsets


async def back(hub: Hub) -> None:
    """Wait until a hub has its log again."""
    await until(lambda: hub.broker.lost_since is None)


async def test_a_killed_subscriber_connection_loses_nothing(redis_hubs: RedisHubs) -> None:
    """What was published while the connection was gone is delivered once and in order (W8)."""
    hub, publisher = await redis_hubs.hub(), await redis_hubs.hub(listening=False)
    await hub.broker.listen(["a", "b/*"])
    for round_ in range(3):
        await publisher.broker.publish([publication("a"), publication("b/1"), publication("c")])
        redis_hubs.server.command("CLIENT", "KILL", "TYPE", "pubsub")
        await publisher.broker.publish([publication("a"), publication("b/2"), publication("c")])
        await until(lambda: hub.broker.lost_since is not None or len(hub.entries) == 4 * (round_ + 1))  # noqa: B023
        await publisher.broker.publish([publication("b/3"), publication("a"), publication("c")])
        await back(hub)
        await publisher.broker.publish([publication("a")])
        await hub.until(10 * round_ + 10)
    assert positions(hub) == [n for n in range(1, 31) if n % 10 not in (3, 6, 9)]
    assert [told for told in hub.told if told[0] != "entry"] == [("reconnect",)] * 3
    assert hub.broker.lineage.older == ()


async def test_nothing_is_delivered_before_the_hub_has_returned(redis_hubs: RedisHubs) -> None:
    """Revocations come before events on the way back (W17)."""
    hub, publisher = await redis_hubs.hub(), await redis_hubs.hub(listening=False)
    await hub.broker.listen(["a"])
    hub.on_reconnecting = lambda: None
    redis_hubs.server.command("CLIENT", "KILL", "TYPE", "pubsub")
    await publisher.broker.publish([publication("a")])
    await hub.until(1)
    assert hub.told == [("reconnect",), ("entry", 1)]


async def test_a_topic_asked_for_while_the_log_is_away_is_complete(redis_hubs: RedisHubs) -> None:
    """Listening while the log is out of reach gives the head, and everything after it is delivered."""
    hub, publisher = await redis_hubs.hub(), await redis_hubs.hub(listening=False)
    await hub.broker.listen(["a"])
    await publisher.broker.publish([publication("a")])
    await hub.until(1)
    hub.link.lose("for the test")
    assert hub.broker.lost_since is not None
    assert await hub.broker.listen(["b"]) == 1
    await publisher.broker.publish([publication("b"), publication("a")])
    await hub.until(3)
    assert positions(hub) == [1, 2, 3]


async def test_the_last_message_of_a_topic_that_was_lost_is_found(redis_hubs: RedisHubs, time_unit: float) -> None:
    """The comparison with the heads finds what no later message tells of (W8)."""
    hub, publisher = await redis_hubs.hub(check_interval=time_unit), await redis_hubs.hub(listening=False)
    await hub.broker.listen(["a"])
    deaf(hub, 1)
    await publisher.broker.publish([publication("a")])
    await hub.until(1)
    deaf(hub, 1)
    await hub.broker.listen(["**"])
    deaf(hub, 1)
    await publisher.broker.publish([publication("b")])
    await hub.until(2)
    assert positions(hub) == [1, 2]


async def test_a_canary_makes_the_hub_look(redis_hubs: RedisHubs) -> None:
    """Without waiting for the next comparison, a canary that passed starts one (W8)."""
    hub, publisher = await redis_hubs.hub(), await redis_hubs.hub(listening=False)
    await hub.broker.listen(["a", "$sseal/canary/x"])
    deaf(hub, 1)
    await publisher.broker.publish([publication("a")])
    await publisher.broker.publish([publication("$sseal/canary/x", ttl=1.0)])
    await until(lambda: ("gap", ["a"], 2) in hub.told, patience=4.0)


def deaf(hub: Hub, messages: int) -> None:
    """Let a hub lose the next messages."""
    delivery = hub.broker._delivery
    assert delivery is not None
    take, left = delivery.on_message, messages

    def lose_some(channel: str, data: bytes) -> None:
        nonlocal left
        if left > 0:
            left -= 1
        else:
            take(channel, data)

    delivery.on_message = lose_some  # type: ignore[method-assign]


async def test_a_hole_is_read_once_and_later_messages_wait(redis_hubs: RedisHubs) -> None:
    """A message whose predecessor is unknown waits until the log has been read (W24)."""
    hub, publisher = await redis_hubs.hub(), await redis_hubs.hub(listening=False)
    await hub.broker.listen(["a", "b"])
    await publisher.broker.publish([publication("a"), publication("b")])
    await hub.until(2)
    deaf(hub, 3)
    for topic in ("a", "b", "a", "c", "a", "b", "a"):
        await publisher.broker.publish([publication(topic)])
    await hub.until(9)
    assert positions(hub) == [1, 2, 3, 4, 5, 7, 8, 9]
    assert not [told for told in hub.told if told[0] != "entry"]


async def test_what_is_found_too_late_is_said_to_be_missed(redis_hubs: RedisHubs) -> None:
    """A hole behind what was already handed out cannot be filled in order: the readers are told (W24)."""
    hub, publisher = await redis_hubs.hub(), await redis_hubs.hub(listening=False)
    await hub.broker.listen(["a", "b"])
    deaf(hub, 1)
    await publisher.broker.publish([publication("a")])
    await publisher.broker.publish([publication("b")])
    await publisher.broker.publish([publication("a")])
    await hub.until(3)
    assert hub.told == [("entry", 2), ("gap", ["a"], 2), ("entry", 3)]


async def test_a_hole_that_was_trimmed_meanwhile_is_told(redis_hubs: RedisHubs) -> None:
    """What the log no longer has is missed, and the rest is delivered (W24)."""
    hub = await redis_hubs.hub(retention=Retention(count=3))
    publisher = await redis_hubs.hub(listening=False)
    await hub.broker.listen(["a"])
    await publisher.broker.publish([publication("a")])
    await hub.until(1)
    hub.link.lose("for the test")
    await publisher.broker.publish([publication("a")] * 10)
    await hub.until(11)
    assert hub.told == [("entry", 1), ("reconnect",), ("gap", None, 8), *(("entry", n) for n in (9, 10, 11))]


async def test_more_messages_than_can_be_held_are_read_from_the_log(
    redis_hubs: RedisHubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a hole is filled the memory is bounded, and nothing is lost by it."""
    monkeypatch.setattr(delivery, "MAX_HELD", 5)
    monkeypatch.setattr(delivery, "PAGE", 2)
    hub, publisher = await redis_hubs.hub(), await redis_hubs.hub(listening=False)
    await hub.broker.listen(["a"])
    await publisher.broker.publish([publication("a")])
    await hub.until(1)
    deaf(hub, 1)
    for _ in range(5):
        await asyncio.gather(*[publisher.broker.publish([publication("a")] * 10) for _ in range(5)])
    await hub.until(251)
    assert positions(hub) == list(range(1, 252))


async def test_an_answer_lost_on_its_way_is_one_event(redis_hubs: RedisHubs) -> None:
    """The hub repeats a publish whose answer did not come, and the log knows it (W9)."""
    async with Proxy(redis_hubs.server.port) as proxy:
        hub = await redis_hubs.hub(url=f"redis://127.0.0.1:{proxy.port}/0", listening=False)
        await hub.broker.publish([publication("a")])
        proxy.swallow_next_answer()
        assert await hub.broker.publish([publication("a", "once"), publication("a", "twice")]) == [2, 3]
        assert proxy.swallowed == 1
        assert await hub.broker.publish([publication("a")]) == [4]


async def test_a_frozen_server_is_an_unknown_outcome_in_two_seconds(redis_hubs: RedisHubs) -> None:
    """A publish that may have come through says so, in time, and the hub finds its way back (W9)."""
    hub = await redis_hubs.hub(check_interval=0.5)
    await hub.broker.listen(["a"])
    await hub.broker.publish([publication("a")])
    redis_hubs.server.freeze()
    start = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        await hub.broker.publish([publication("a", key="k")])
    assert time.monotonic() - start < 4.0
    assert caught.value.code == "outcome_unknown"
    await until(lambda: hub.broker.lost_since is not None)
    start = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        await hub.broker.publish([publication("a", key="other")])
    assert time.monotonic() - start < 4.0
    assert caught.value.code in ("broker_lost", "outcome_unknown")
    redis_hubs.server.thaw()
    await back(hub)
    (offset,) = await hub.broker.publish([publication("a", key="k")])
    await hub.until(offset)
    await hub.broker.publish([publication("a", key="k")])
    assert len([entry for entry in hub.entries if entry.offset <= offset]) == offset
    assert offset in (2, 3)


async def test_a_frozen_server_is_noticed_without_publishing(redis_hubs: RedisHubs, time_unit: float) -> None:
    """A connection that does not answer is lost, though nobody closed it."""
    hub = await redis_hubs.hub(check_interval=time_unit)
    redis_hubs.server.freeze()
    await until(lambda: hub.broker.lost_since is not None, patience=5.0)
    redis_hubs.server.thaw()
    await back(hub)


async def test_a_server_that_is_down_refuses_and_loses_nothing(redis_hubs: RedisHubs) -> None:
    """A publish that surely was not sent says so; while the server is away for longer it does at once (W9)."""
    hub = await redis_hubs.hub()
    redis_hubs.server.end()
    await until(lambda: hub.broker.lost_since is not None)
    with pytest.raises(Unavailable) as caught:
        await hub.broker.publish([publication("a")])
    assert caught.value.code == "broker_lost"
    start = time.monotonic()
    for work in (hub.broker.publish([publication("a")]), hub.broker.newest()):
        with pytest.raises(Unavailable):
            await work
    assert time.monotonic() - start < 1.5
    redis_hubs.server.start()
    await back(hub)
    assert await hub.broker.publish([publication("a")]) == [1]


async def test_a_log_that_vanished_is_a_new_one(redis_hubs: RedisHubs) -> None:
    """FLUSHALL under a running hub starts a new epoch with the next publish (W10)."""
    hub = await redis_hubs.hub()
    await hub.broker.listen(["a"])
    await hub.broker.publish([publication("a")] * 3)
    await hub.until(3)
    old = hub.broker.lineage.epoch
    redis_hubs.server.command("FLUSHALL")
    assert await hub.broker.publish([publication("a")]) == [1]
    await until(lambda: len(hub.entries) == 4)
    assert hub.broker.lineage.epoch != old
    assert hub.broker.lineage.older == ()
    assert hub.told[3:] == [("epoch_change", hub.broker.lineage, 0), ("entry", 1)]


async def test_another_hub_s_new_epoch_is_noticed(redis_hubs: RedisHubs, time_unit: float) -> None:
    """A hub follows into an epoch that another one opened, by a message, a question or the comparison (W10)."""
    listener, asking = await redis_hubs.hub(), await redis_hubs.hub()
    looking, opening = await redis_hubs.hub(check_interval=time_unit), await redis_hubs.hub(listening=False)
    await listener.broker.listen(["a"])
    await opening.broker.publish([publication("a")] * 3)
    await listener.until(3)
    redis_hubs.server.command("FLUSHALL")
    await opening.broker.publish([publication("a")])
    epoch = opening.broker.lineage.epoch
    await until(lambda: listener.broker.lineage.epoch == epoch)
    await until(lambda: ("entry", 1) in listener.told[3:] or listener.told[-1][0] == "epoch_change")
    assert listener.told[3][0] == "epoch_change"
    assert await asking.broker.newest() == 1
    assert asking.broker.lineage.epoch == epoch
    assert asking.told[0][0] == "epoch_change"
    await until(lambda: looking.broker.lineage.epoch == epoch)


async def test_a_restart_without_data_is_a_new_log(redis_hubs: RedisHubs) -> None:
    """Nothing of the old epoch is true any more (W10)."""
    hub = await redis_hubs.hub()
    await hub.broker.listen(["a"])
    await hub.broker.publish([publication("a")] * 3)
    await hub.until(3)
    old = hub.broker.lineage.epoch
    redis_hubs.server.restart(data=False)
    await until(lambda: hub.broker.lineage.epoch != old)
    await back(hub)
    assert hub.broker.lineage.older == ()
    assert [told[0] for told in hub.told[3:]] == ["reconnect", "epoch_change"]
    assert await hub.broker.publish([publication("a")]) == [1]
    await until(lambda: hub.told[-1] == ("entry", 1))


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_restart_with_all_data_continues_positions(tmp_path: Path, engine: str) -> None:
    """The new epoch continues the old one up to the stored head (W10)."""
    options = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
    with redis_server(tmp_path / "aof", engine, *options) as server:
        async with open_redis_hubs(server) as redis_hubs:
            hub = await redis_hubs.hub()
            await hub.broker.listen(["a"])
            await hub.broker.publish([publication("a", key="k")] * 3)
            await hub.broker.publish([publication("a")])
            await hub.until(2)
            old = hub.broker.lineage.epoch
            server.restart(data=True)
            await until(lambda: hub.broker.lineage.epoch != old)
            await back(hub)
            assert hub.broker.lineage.older == ((old, 2),)
            assert hub.broker.lineage.resolve(Position(old, 2), 2).reason is None
            assert await hub.broker.publish([publication("a", key="k")]) == [1]
            assert await hub.broker.publish([publication("a")]) == [3]
            await hub.until(3)
            assert positions(hub) == [1, 2, 3]
            page = await hub.broker.history(TopicSet.of("a"), 0, limit=10, since=NOTHING)
            assert [entry.offset for entry in page.entries] == [1, 2, 3]


async def test_a_restored_backup_is_another_epoch(redis_hubs: RedisHubs) -> None:
    """Offsets used again after a backup never pass for the ones that are gone (W10)."""
    hub = await redis_hubs.hub()
    await hub.broker.listen(["a"])
    await hub.broker.publish([publication("a")] * 3)
    redis_hubs.server.command("SAVE")
    backup = shutil.copy(redis_hubs.server.folder / "dump.rdb", redis_hubs.server.folder.parent / "backup.rdb")
    await hub.broker.publish([publication("a")] * 2)
    await hub.until(5)
    old = hub.broker.lineage.epoch
    redis_hubs.server.end()
    shutil.copy(backup, redis_hubs.server.folder / "dump.rdb")
    redis_hubs.server.start()
    await until(lambda: hub.broker.lineage.epoch != old)
    await back(hub)
    assert hub.broker.lineage.older == ((old, 3),)
    assert hub.told[5:] == [("reconnect",), ("epoch_change", hub.broker.lineage, 3)]
    assert hub.broker.lineage.resolve(Position(old, 5), 3).reason == "other_epoch"
    assert await hub.broker.publish([publication("a")]) == [4]


async def test_a_backup_from_before_an_epoch_loses_no_position_of_it(redis_hubs: RedisHubs) -> None:
    """The server never heard of the epoch; the hubs have, and say up to where its positions are still true (W10)."""
    hub = await redis_hubs.hub()
    await hub.broker.listen(["a"])
    await hub.broker.publish([publication("a")] * 3)
    redis_hubs.server.command("SAVE")
    backup = shutil.copy(redis_hubs.server.folder / "dump.rdb", redis_hubs.server.folder.parent / "backup.rdb")
    await hub.broker.publish([publication("a")])
    first = hub.broker.lineage.epoch
    redis_hubs.server.command("SAVE")
    redis_hubs.server.restart(data=True)
    await until(lambda: hub.broker.lineage.epoch != first)
    await back(hub)
    second = hub.broker.lineage.epoch
    await hub.broker.publish([publication("a")] * 2)
    await hub.until(6)
    told = len(hub.told)
    redis_hubs.server.end()
    shutil.copy(backup, redis_hubs.server.folder / "dump.rdb")
    redis_hubs.server.start()
    await until(lambda: hub.broker.lineage.epoch != second)
    await back(hub)
    assert hub.broker.lineage.older == ((second, 3), (first, 3))
    assert hub.told[told:] == [("reconnect",), ("epoch_change", hub.broker.lineage, 3)]
    assert await hub.broker.publish([publication("a")]) == [4]
    other = await redis_hubs.hub()
    assert other.broker.lineage.resolve(Position(second, 3), 4).reason is None
    assert other.broker.lineage.resolve(Position(second, 6), 4).offset == 3


async def test_a_hub_that_comes_later_tells_what_it_knows_of_an_epoch(redis_hubs: RedisHubs) -> None:
    """Another hub may have begun the next epoch before; positions are true up to where the two histories part."""
    early, late = await redis_hubs.hub(), await redis_hubs.hub()
    await early.broker.publish([publication("a")] * 2)
    shared = early.broker.lineage.epoch
    known = Lineage("e" * 8, ((shared, 1),))
    late.broker._lineage = known  # as if it had seen another server continue the log after its first event
    await late.broker._open_epoch()
    assert late.broker.lineage == Lineage(shared, (("e" * 8, 1),))
    assert (await redis_hubs.hub()).broker.lineage == late.broker.lineage


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_promoted_replica_that_lacks_writes_is_another_epoch(tmp_path: Path, engine: str) -> None:
    """A failover loses what was not replicated, and says so (W10)."""
    with redis_server(tmp_path / "one", engine) as primary, redis_server(tmp_path / "two", engine) as replica:
        replica.command("REPLICAOF", "127.0.0.1", str(primary.port))
        async with Proxy(primary.port) as proxy, open_redis_hubs(primary) as redis_hubs:
            hub = await redis_hubs.hub(url=f"redis://127.0.0.1:{proxy.port}/0")
            await hub.broker.listen(["a"])
            await hub.broker.publish([publication("a")] * 3)
            await until(lambda: replica.command("HGET", "sseal:meta", "head") == "3")
            replica.command("REPLICAOF", "NO", "ONE")
            await hub.broker.publish([publication("a")] * 2)
            await hub.until(5)
            old = hub.broker.lineage.epoch
            proxy.target = replica.port
            primary.end(signal.SIGKILL)
            await until(lambda: hub.broker.lineage.epoch != old)
            await back(hub)
            assert hub.broker.lineage.older[0] == (old, 3)
            assert hub.told[5:] == [("reconnect",), ("epoch_change", hub.broker.lineage, 3)]
            assert (await hub.broker.publish([publication("a", "other")])) == [4]
            await until(lambda: hub.told[-1] == ("entry", 4))


async def test_a_demoted_primary_is_lost(redis_hubs: RedisHubs, time_unit: float) -> None:
    """A server that has become a replica is no log; when it is a primary again the epoch is another (W10)."""
    hub = await redis_hubs.hub(check_interval=time_unit)
    old = hub.broker.lineage.epoch
    redis_hubs.server.command("REPLICAOF", "127.0.0.1", "1")
    await until(lambda: hub.broker.lost_since is not None)
    with pytest.raises(Unavailable):
        await hub.broker.publish([publication("a")])
    redis_hubs.server.command("REPLICAOF", "NO", "ONE")
    await back(hub)
    assert hub.broker.lineage.older[0] == (old, 0)
    assert await hub.broker.publish([publication("a")]) == [1]


async def test_a_full_server_refuses_and_appends_nothing(redis_hubs: RedisHubs) -> None:
    """Out of memory is an error for the publisher; what is there stays readable, and there is a way out."""
    hub = await redis_hubs.hub()
    await hub.broker.publish([publication("a")])
    redis_hubs.server.command("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(Unavailable) as caught:
        await hub.broker.publish([publication("a")])
    assert caught.value.code == "broker_full"
    page = await hub.broker.history(TopicSet.of("a"), 0, limit=10, since=NOTHING)
    assert [entry.offset for entry in page.entries] == [1]
    redis_hubs.server.command("CONFIG", "SET", "maxmemory", "0")
    assert await hub.broker.publish([publication("a")]) == [2]


async def test_scripts_the_server_forgot_are_sent_again(redis_hubs: RedisHubs) -> None:
    """A server that was told to forget its scripts is nothing special."""
    hub = await redis_hubs.hub()
    await hub.broker.publish([publication("a")])
    redis_hubs.server.command("SCRIPT", "FLUSH")
    assert await hub.broker.publish([publication("a")]) == [2]


async def test_too_many_waiting_publishes_are_refused(redis_hubs: RedisHubs) -> None:
    """The queue of publishes is bounded, and whoever is in it has an answer in time."""
    hub = await redis_hubs.hub()
    redis_hubs.server.freeze()
    results = await asyncio.gather(
        *[hub.broker.publish([publication("a")]) for _ in range(1200)], return_exceptions=True
    )
    codes = {result.code for result in results if isinstance(result, SsealError)}
    assert len(results) == 1200
    assert codes == {"busy", "outcome_unknown", "broker_lost"}
    redis_hubs.server.thaw()
    await back(hub)


async def test_closing_refuses_what_waits(redis_hubs: RedisHubs) -> None:
    """After the end publishing is refused; opening again works."""
    hub = await redis_hubs.hub()
    await hub.broker.close()
    await hub.broker.close()
    with pytest.raises(Unavailable) as caught:
        await hub.broker.publish([publication("a")])
    assert caught.value.code == "broker_closed"
    await hub.broker.open(hub)
    assert await hub.broker.publish([publication("a")]) == [1]


async def test_a_topic_asked_for_on_the_way_back_is_complete(redis_hubs: RedisHubs) -> None:
    """Listening while the hub hears of revocations, before anything is delivered, counts as any other time (W17)."""
    hub, publisher = await redis_hubs.hub(), await redis_hubs.hub(listening=False)
    await hub.broker.listen(["a"])
    confirmed: list[int] = []

    async def on_reconnect() -> None:
        confirmed.append(await hub.broker.listen(["b"]))
        await publisher.broker.publish([publication("b"), publication("a")])

    hub.on_reconnect = on_reconnect  # type: ignore[method-assign]
    await publisher.broker.publish([publication("a"), publication("b")])
    await hub.until(1)
    hub.link.lose("for the test")
    await back(hub)
    await publisher.broker.publish([publication("b")])
    await hub.until(5)
    assert confirmed[0] <= 2
    assert [offset for offset in positions(hub) if offset != 2] == [1, 3, 4, 5]


async def test_a_return_that_fails_is_tried_again(redis_hubs: RedisHubs) -> None:
    """A hub that cannot hear of revocations gets no events before it has (W17)."""
    hub, publisher = await redis_hubs.hub(), await redis_hubs.hub(listening=False)
    await hub.broker.listen(["a"])
    tries: list[int] = []

    def on_reconnecting() -> None:
        tries.append(len(hub.entries))
        if len(tries) < 3:
            raise Unavailable("the store is away")

    hub.on_reconnecting = on_reconnecting
    hub.link.lose("for the test")
    await publisher.broker.publish([publication("a")])
    await hub.until(1)
    assert tries == [0, 0, 0]
    await back(hub)


async def test_messages_of_strangers_do_no_harm(redis_hubs: RedisHubs) -> None:
    """What is no message makes the hub connect again; one of an unknown epoch makes it look."""
    hub = await redis_hubs.hub()
    await hub.broker.listen(["a"])
    epoch = hub.broker.lineage.epoch
    for text in ("rubbish", "otherone 7 0 1.0  1 abc", f"{epoch} 7 6 nothing"):
        redis_hubs.server.command("PUBLISH", "sseal:0:t:a", text)
        (offset,) = await hub.broker.publish([publication("a")])
        await hub.until(offset)
    assert positions(hub) == [1, 2, 3]
    assert hub.broker.lineage.epoch == epoch
    assert "epoch_change" not in [told[0] for told in hub.told]
