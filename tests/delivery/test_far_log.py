"""The node on a log that others write to, that turns, misses, and goes out of reach."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import pytest

from sseal.delivery.deadlines import TICK_INTERVAL
from sseal.delivery.replay import HISTORY_TIMEOUT
from sseal.errors import Unavailable
from sseal.position import Lineage, Position
from sseal.storage import Entry, MemoryBroker, Page, Publication
from sseal.stream.states import State
from sseal.subscription import TopicSet

from .harness import NodeHarness, Reader


class FarBroker(MemoryBroker):
    """A log out of process: what comes when, and what cannot be had, is decided by the test."""

    held: list[Entry] | None = None
    gone_at: float | None = None
    fault: Unavailable | None = None
    reads = 0
    asked: list[str]
    gate: asyncio.Event | None = None

    @property
    def lost_since(self) -> float | None:
        """When the test cut it off."""
        return self.gone_at

    async def publish(self, publications: Sequence[Publication]) -> list[int]:
        """Append; deliver at once, or when the test says so."""
        if self.gone_at is not None:
            raise Unavailable("the log is out of reach", code="broker_lost")
        if self.held is None:
            return await super().publish(publications)
        intake, self._intake = self._intake, None
        try:
            offsets = await super().publish(publications)
        finally:
            self._intake = intake
        self.held += [entry for entry in self._entries if entry.offset in offsets]
        return offsets

    def flow(self) -> None:
        """Deliver what was held, and hold no more."""
        held, self.held = self.held or [], None
        assert self._intake is not None
        self._intake.on_entries(held)

    async def history(
        self, topics: TopicSet, after: int, upto: int | None = None, *, limit: int, since: Mapping[str, float]
    ) -> Page:
        """Read, unless the log cannot be read."""
        self.reads += 1
        await asyncio.sleep(0)
        if self.gone_at is not None:
            raise Unavailable("the log is out of reach", code="broker_lost")
        if self.fault is not None:
            raise self.fault
        return await super().history(topics, after, upto, limit=limit, since=since)

    async def listen(self, names: Iterable[str]) -> int:
        """Confirm at the head, as soon as the test lets it."""
        del names
        if self.gate is not None:
            await self.gate.wait()
        return self._head

    def turn(self, last: int, epoch: str = "newepoch") -> None:
        """Begin another epoch after ``last``; what was published later never was."""
        old = self._lineage
        self._entries = [entry for entry in self._entries if entry.offset <= last]
        for topic, index in list(self._by_topic.items()):
            self._by_topic[topic] = [entry for entry in index if entry.offset <= last]
        self._head = last
        self._lineage = Lineage(epoch, ((old.epoch, last), *old.older))
        assert self._intake is not None
        self._intake.on_epoch_change()


def far(world: NodeHarness) -> FarBroker:
    """Return the log of a world."""
    assert isinstance(world.broker, FarBroker)
    return world.broker


async def until(world: NodeHarness, seconds: float) -> None:
    """Let time pass as the timers see it."""
    end = world.clock.monotonic() + seconds
    while world.clock.monotonic() < end:
        world.clock.advance(TICK_INTERVAL)
        world.node.tick()
        await world.settle()


def gap(reader: Reader) -> tuple[str, str, str]:
    """Return from, to and reason of the only gap."""
    (event,) = reader.gaps
    import json

    body = json.loads(event.data)
    return body["from"], body["to"], body["reason"]


async def test_what_an_epoch_lost_is_a_gap_and_the_new_events_arrive() -> None:
    """A log that comes back without its newest events reuses their offsets; nobody takes the new for the old (W10)."""
    async with NodeHarness(kind=FarBroker) as world:
        reader = await world.read("a")
        await world.publish("a", "1", "2", "3")
        await world.settle()
        old = world.node.position.epoch
        far(world).turn(1)
        await world.publish("a", "2'", "3'")
        await world.settle()
        assert reader.data == ["1", "2", "3", "2'", "3'"]
        assert gap(reader) == (f"{old}-3", "newepoch-1", "other_epoch")
        assert reader.last_id == "newepoch-3"
        assert reader.connection.state is State.LIVE


async def test_an_epoch_that_lost_nothing_disturbs_nobody() -> None:
    """A log restarted with all its events is only called by another name: no gap, and nothing is read again (W10)."""
    async with NodeHarness(kind=FarBroker) as world:
        reader = await world.read("a")
        await world.publish("a", "1", "2")
        await world.settle()
        far(world).turn(2)
        assert reader.connection.state is State.LIVE
        await world.publish("a", "3")
        await world.settle()
        assert reader.data == ["1", "2", "3"]
        assert reader.gaps == []
        assert far(world).reads == 0


async def test_an_epoch_whose_rest_is_handed_out_disturbs_nobody() -> None:
    """Streams that have all up to where both epochs agree stay live, and get what came after like anything new."""
    async with NodeHarness(kind=FarBroker) as world:
        reader = await world.read("a")
        await world.publish("a", "1")
        far(world).held = []
        await world.publish("a", "2", "3")
        far(world)._head, head = 1, far(world)._head
        far(world)._lineage = Lineage("newepoch", ((world.node.position.epoch, head),))
        await world.settle()
        world.node.on_epoch_change()
        far(world)._head = head
        far(world).flow()
        await world.settle()
        assert reader.data == ["1", "2", "3"]
        assert reader.gaps == []
        assert reader.last_id == "newepoch-3"
        assert far(world).reads == 0


async def test_a_live_stream_is_given_what_others_published_into_the_new_epoch_before_it_was_noticed() -> None:
    """A backup put back under open hubs goes on with new events at old offsets: they are read from the log (W10)."""
    async with NodeHarness(kind=FarBroker) as world:
        quiet, reader = await world.read("quiet"), await world.read("a")
        await world.publish("a", "1", "2")
        await world.publish("b", "3", "4")
        await world.settle()
        broker, intake = far(world), far(world)._intake
        broker._intake = None
        broker._entries = [entry for entry in broker._entries if entry.offset <= 2]
        broker._by_topic["b"] = []
        broker._head = 2
        broker._lineage = Lineage("newepoch", ((broker._lineage.epoch, 2),))
        await MemoryBroker.publish(
            broker, [Publication(topics=("a",), type="message", data=text) for text in ("3'", "4'")]
        )
        broker._intake = intake
        world.node.on_epoch_change()
        await world.publish("a", "5")
        await world.settle()
        assert reader.data == ["1", "2", "3'", "4'", "5"]
        assert reader.gaps == []
        assert quiet.connection.state is State.LIVE


async def test_an_epoch_that_turns_during_a_fan_out_loses_and_doubles_nothing() -> None:
    """Streams that were not written yet read what the new epoch still has."""
    async with NodeHarness(kind=FarBroker) as world:
        readers = [await world.read("a") for _ in range(5)]
        await world.publish("a", "1", "2", "3")
        far(world).turn(2)  # before the fan-out had its turn
        await world.publish("a", "3'")
        await world.settle()
        for reader in readers:
            assert reader.data == ["1", "2", "3'"]
            assert reader.gaps == []


async def test_a_stalled_stream_crosses_an_epoch() -> None:
    """A reader that slept through the turn gets what it had not read, and a gap only for what it had too much."""
    async with NodeHarness(kind=FarBroker) as world:
        reader = await world.read("a")
        await world.publish("a", "x" * 20_000)
        reader.stick()
        await world.publish("a", "y" * 20_000)
        await world.settle()
        await world.publish("a", "2", "3")
        await world.settle()
        assert reader.connection.state is State.CATCHING_UP
        far(world).turn(3)
        await world.publish("a", "4'")
        reader.drain()
        await world.settle()
        assert [text[:2] for text in reader.data] == ["xx", "yy", "2", "4'"]
        assert reader.gaps == []


async def test_what_was_missed_is_read_from_the_history_by_its_readers_only() -> None:
    """A hole the log could not fill for the hub is no gap as long as the history has it (W24)."""
    async with NodeHarness(kind=FarBroker) as world:
        one, other = await world.read("a"), await world.read("b")
        far(world).held = []
        await world.publish("a", "1")
        await world.publish("b", "2")
        held, far(world).held = far(world).held, None
        world.node.on_gap(["a"], 1)
        world.node.on_entries([entry for entry in held if entry.topics == ("b",)])
        await world.settle()
        assert (one.data, other.data) == (["1"], ["2"])
        assert one.gaps == other.gaps == []
        await world.publish("a", "3")
        await world.settle()
        assert one.data == ["1", "3"]


async def test_a_stream_begins_where_its_topics_are_confirmed_not_where_the_hub_has_got_to() -> None:
    """What others published before a stream came is not new to it, though this hub had not heard of it (W6)."""
    async with NodeHarness(kind=FarBroker) as world:
        far(world).held = []
        await world.publish("b", "before")
        reader = await world.read("b")
        far(world).held = None
        await world.publish("b", "after")
        await world.settle()
        assert reader.data == ["after"]


async def test_the_second_stream_of_a_topic_waits_for_the_confirmation_of_the_first() -> None:
    """Nobody reads a topic before the log has said from where on it is delivered (W6)."""
    async with NodeHarness(kind=FarBroker) as world:
        far(world).gate = asyncio.Event()
        first = asyncio.create_task(world.read("a"))
        second = asyncio.create_task(world.read("a"))
        await world.settle()
        assert not first.done()
        assert not second.done()
        far(world).gate.set()
        for reader in (await first, await second):
            assert reader.connection.state is State.LIVE
        assert far(world).reads == 0


async def test_a_topic_whose_confirmation_was_given_up_is_asked_for_again() -> None:
    """Who comes while others still hold a topic that nobody vouches for asks anew, instead of reading for ever."""
    async with NodeHarness(kind=FarBroker) as world:
        far(world).gate = asyncio.Event()
        first = asyncio.create_task(world.read("a"))
        await world.settle()
        second = asyncio.create_task(world.read("a"))
        await world.settle()
        first.cancel()
        third = asyncio.create_task(world.read("a"))
        far(world).gate.set()
        results = await asyncio.gather(first, second, third, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert isinstance(results[2], Reader)
        assert results[2].connection.state is State.LIVE
        assert far(world).reads == 0


async def test_a_failed_confirmation_fails_all_who_waited_and_is_asked_for_again() -> None:
    """A topic whose subscription failed has no readers afterwards."""

    class Failing(FarBroker):
        async def listen(self, names: Iterable[str]) -> int:
            if "a" in names and self.fault is not None:
                await asyncio.sleep(0)
                raise self.fault
            return await super().listen(names)

    async with NodeHarness(kind=Failing) as world:
        far(world).fault = Unavailable("no", code="busy")
        results = await asyncio.gather(world.read("a"), world.read("a"), return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable, Unavailable]
        far(world).fault = None
        assert (await world.read("a")).connection.state is State.LIVE


async def test_a_position_ahead_of_this_hub_is_looked_up_in_the_log() -> None:
    """A stream that another hub served further than this one has got is no stream from the future."""
    async with NodeHarness(kind=FarBroker) as world:
        await world.publish("a", "1")
        far(world).held = []
        await world.publish("a", "2", "3")
        epoch = world.node.position.epoch
        reader = await world.read("a", last=f"{epoch}-2")
        far(world).flow()
        await world.settle()
        assert reader.data == ["3"]
        assert reader.gaps == []
        ahead = await world.read("a", last=f"{epoch}-9")
        await world.settle()
        assert gap(ahead) == (f"{epoch}-9", f"{epoch}-3", "ahead")


async def test_streams_that_ask_for_the_same_share_one_read() -> None:
    """A reconnect storm on one topic is one read of the log."""
    async with NodeHarness(kind=FarBroker, window_count=1) as world:
        await world.publish("a", "1", "2", "3")
        await world.publish("b", "4")
        await world.settle()
        start = str(Position(world.node.position.epoch, 0))
        readers = await asyncio.gather(*(world.read("a", last=start) for _ in range(30)))
        await world.settle()
        assert all(reader.data == ["1", "2", "3"] for reader in readers)
        assert far(world).reads == 1


async def test_a_long_replay_is_read_once_for_all_who_come_a_little_later_too() -> None:
    """Pages that were just read are kept for a moment, with their bytes: a storm costs the log one replay."""
    async with NodeHarness(kind=FarBroker, window_count=1) as world:
        texts = [str(number) for number in range(1200)]
        for start in range(0, len(texts), 100):
            await world.publish("a", *texts[start : start + 100])
        await world.publish("b", "last")
        await world.settle()
        start = f"{world.node.position.epoch}-0"
        first = await world.read("a", last=start)
        await world.settle()
        pages = far(world).reads
        assert pages >= 3
        middle = first.events[700].last_event_id
        readers = [await world.read("a", last=start) for _ in range(5)]
        late = await world.read("a", last=middle)
        await world.settle()
        assert first.data == texts
        assert all(reader.data == texts for reader in readers)
        assert late.data == texts[700:]
        assert far(world).reads <= pages + 2  # the end of the log is asked for anew
        await until(world, 6.0)
        assert not world.node.replay._cache._pages


async def test_what_was_kept_is_forgotten_when_the_log_says_that_something_was_missed() -> None:
    """A page of the window may have a hole that nobody knew of; whoever comes later reads the log (W8)."""
    async with NodeHarness(kind=FarBroker) as world:
        await world.read("a", "b")
        (start,) = await world.publish("b", "start")
        await world.settle()
        far(world).held = []
        await world.publish("a", "late")
        far(world).held = None
        for number in range(700):
            await world.publish("b", str(number))
        await world.settle()
        early = await world.read("a", "b", last=str(start))
        await world.settle()
        assert early.data == [*map(str, range(700))]
        world.node.on_gap(["a"], world.node.window.head)
        await world.settle()
        late = await world.read("a", "b", last=str(start))
        await world.settle()
        assert late.data == ["late", *map(str, range(700))]
        assert late.gaps == []


async def test_what_is_kept_of_a_replay_is_for_those_with_the_same_rights() -> None:
    """A page read for somebody who may see all is not given to one who may see only what came later (W21)."""
    async with NodeHarness(kind=FarBroker, window_count=1) as world:
        for number in range(6):
            await world.publish("a", *(f"{number}-{n}" for n in range(100)))
            world.clock.advance(10.0)
        await world.settle()
        await world.publish("b", "last")
        start = f"{world.node.position.epoch}-0"
        moment = world.clock.wall() - 15.0
        everything = await world.read("a", last=start)
        await world.settle()
        later = await world.read("a", last=start, since={"a": moment})
        await world.settle()
        assert len(everything.data) == 600
        assert later.data == [f"5-{n}" for n in range(100)]


async def test_an_open_stream_waits_for_a_history_that_cannot_be_read() -> None:
    """While the log is out of reach an open stream stays open, and reads on when it returns."""
    async with NodeHarness(kind=FarBroker, window_count=1) as world:
        reader = await world.read("a")
        await world.publish("a", "x" * 20_000)
        reader.stick()
        await world.publish("a", "y" * 20_000)
        await world.settle()
        await world.publish("a", "2", "3")
        await world.settle()
        far(world).gone_at = world.clock.monotonic()
        reader.drain()
        await until(world, 2 * HISTORY_TIMEOUT)
        assert reader.connection.state is State.CATCHING_UP
        assert not reader.sink.closed
        far(world).gone_at = None
        await until(world, 1.0)
        assert [text[:2] for text in reader.data] == ["xx", "yy", "2", "3"]
        assert reader.connection.state is State.LIVE


async def test_a_history_that_fails_though_the_log_is_there_ends_the_stream_in_the_end() -> None:
    """A stream that cannot be given what it missed is sent away, and may come back."""
    async with NodeHarness(kind=FarBroker, window_count=1) as world:
        await world.publish("a", "1", "2")
        await world.settle()
        far(world).fault = Unavailable("cannot be read", code="broker_failed")
        reader = await world.read("a", last=f"{world.node.position.epoch}-0")
        await until(world, HISTORY_TIMEOUT)
        assert not reader.sink.closed
        await until(world, 2.0)
        assert reader.sink.closed
        assert reader.events[-1].type == "bye"
        assert '"reason":"unavailable"' in reader.events[-1].data


async def test_a_history_that_breaks_ends_only_that_stream() -> None:
    """An unexpected fault while reading is logged and costs one stream."""

    class Breaking(FarBroker):
        async def history(self, *args: object, **options: object) -> Page:
            raise RuntimeError("broken")

    async with NodeHarness(kind=Breaking, window_count=1) as world:
        await world.publish("a", "1", "2")
        await world.settle()
        fine = await world.read("a")
        reader = await world.read("a", last=f"{world.node.position.epoch}-0")
        await world.settle()
        assert reader.sink.closed
        assert not fine.sink.closed


async def test_a_hub_that_is_cut_off_sends_its_streams_away() -> None:
    """Who hears of no revocation for too long may let nobody read; they may come back (W17)."""
    async with NodeHarness(kind=FarBroker) as world:
        reader = await world.read("a")
        far(world).gone_at = world.clock.monotonic()
        await until(world, 30.0)
        assert not reader.sink.closed
        assert not world.node.isolated
        await until(world, 0.5)
        assert world.node.isolated
        assert reader.sink.closed
        assert reader.events[-1].data == '{"reason":"cut_off","reconnect":true}'


async def test_what_needs_no_history_goes_through_while_the_log_is_out_of_reach() -> None:
    """A stream that can be served by the window is, others are told to come back."""
    async with NodeHarness(kind=FarBroker, window_count=2) as world:
        hold = await world.read("a")
        await world.publish("a", "1", "2", "3", "4")
        await world.settle()
        epoch = world.node.position.epoch
        far(world).gone_at = world.clock.monotonic()
        fine = await world.read("a", last=f"{epoch}-3")
        await world.settle()
        assert fine.data == ["4"]
        with pytest.raises(Unavailable) as refused:
            await world.read("a", last=f"{epoch}-0")
        assert refused.value.code == "broker_lost"
        assert hold.data == ["1", "2", "3", "4"]


async def test_readiness_says_since_when_no_canary_has_come_back() -> None:
    """An operator reads how long the log has been out of reach."""
    async with NodeHarness(kind=FarBroker) as world:
        await world.node.canary()
        world.clock.advance(5.0)
        far(world).gone_at = world.clock.monotonic()
        for _ in range(2):
            with pytest.raises(Unavailable, match="no canary has come back since 2023-11-14T22:13:25"):
                await world.node.canary()
            world.clock.advance(10.0)
        far(world).gone_at = None
        assert await world.node.canary() >= 0.0
