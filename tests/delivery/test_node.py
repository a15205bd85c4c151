"""The node: fan-out, catching up, gaps, timers, shutting down."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from unittest import mock

import pytest

from delivery.harness import NodeHarness, Reader
from sseal.auth.identity import Identity
from sseal.auth.revocation import Revocation
from sseal.delivery.topic_index import MAX_LISTED
from sseal.delivery.window import Frame, Framer, Window
from sseal.errors import CredentialInvalid, TooManyRequests, Unavailable
from sseal.publisher import publication
from sseal.storage import Entry, Publication, Retention
from sseal.stream import reasons
from sseal.stream.states import State
from sseal.subscription import TopicSet

EPOCH_OF_ANOTHER_LOG = "zzzzzzzz"


def auth(reader: Reader) -> dict[str, object]:
    """Return the data of the opening event."""
    event = reader.events[0]
    assert event.type == "auth"
    return json.loads(event.data)


async def test_a_live_stream_gets_each_event_of_its_topics_once_and_in_order() -> None:
    """Events of subscribed topics arrive in order, others not at all."""
    async with NodeHarness() as world:
        reader = await world.read("a", "b")
        await world.publish("a", "1", "2")
        await world.publish("c", "other")
        await world.publish("b", "3")
        await world.settle()
        assert reader.data == ["1", "2", "3"]
        assert reader.connection.state is State.LIVE


async def test_opening_auth_carries_the_head_when_no_position_was_presented() -> None:
    """A browser cut on a quiet topic comes back from where it began, and misses nothing (W1)."""
    async with NodeHarness() as world:
        await world.publish("a", "before")
        reader = await world.read("a")
        await world.settle()
        assert reader.last_id == str(world.node.position)
        reader.leave()
        await world.publish("a", "while away")
        back = await world.read("a", last=reader.last_id)
        await world.settle()
        assert back.data == ["while away"]
        assert back.gaps == []


async def test_opening_auth_carries_the_presented_position_when_a_replay_follows() -> None:
    """A cut between auth and the first replayed event repeats the replay instead of skipping it (W1)."""
    async with NodeHarness() as world:
        (first, *_) = await world.publish("a", "1", "2", "3")
        reader = await world.read("a", last=str(first))
        await world.settle()
        assert reader.events[0].id == str(first)
        assert reader.data == ["2", "3"]


async def test_a_gap_carries_the_position_it_continues_after() -> None:
    """A cut right after a gap neither repeats the gap nor skips what the log still holds (W1)."""
    async with NodeHarness(Retention(count=2), window_count=1) as world:
        (first, *_) = await world.publish("a", "1", "2", "3", "4")
        reader = await world.read("a", last=str(first))
        await world.settle()
        (gap,) = reader.gaps
        assert reader.data == ["3", "4"]
        again = await world.read("a", last=gap.id)
        await world.settle()
        assert again.gaps == []
        assert again.data == ["3", "4"]


async def test_gap_names_from_to_and_reason() -> None:
    """The gap says what it covers."""
    async with NodeHarness(Retention(count=1), window_count=1) as world:
        (first, second, _) = await world.publish("a", "1", "2", "3")
        reader = await world.read("a", last=str(first))
        await world.settle()
        (gap,) = reader.gaps
        assert json.loads(gap.data) == {"from": str(first), "to": str(second), "reason": "trimmed"}


async def test_no_gap_when_only_other_topics_were_trimmed() -> None:
    """Alice is silent while others publish past the retention: nothing of hers is missing (W25)."""
    async with NodeHarness(Retention(count=3), window_count=2) as world:
        (position,) = await world.publish("user/alice", "hers")
        for index in range(10):
            await world.publish("noise", str(index))
        (position,) = await world.publish("user/alice", "hers too") and [position]
        reader = await world.read("user/alice", last=str(position))
        await world.settle()
        assert reader.gaps == []
        assert reader.data == ["hers too"]


async def test_gap_only_when_an_event_of_a_subscribed_topic_after_the_position_is_gone() -> None:
    """The trimmed event that was received is no gap, the one that was not is (W25)."""
    async with NodeHarness(Retention(count=2), window_count=1) as world:
        (received,) = await world.publish("a", "received")
        await world.publish("noise", "1", "2", "3")
        fine = await world.read("a", last=str(received))
        await world.settle()
        assert fine.gaps == []
        await world.publish("a", "missed")
        await world.publish("noise", "4", "5", "6")
        late = await world.read("a", last=str(received))
        await world.settle()
        assert [json.loads(gap.data)["reason"] for gap in late.gaps] == ["trimmed"]


async def test_expiry_by_ttl_is_not_a_gap() -> None:
    """An event that was only worth reading for a second is missed by nobody (W25)."""
    async with NodeHarness() as world:
        (first,) = await world.publish("a", "first")
        await world.publish("a", "short", ttl=1.0)
        await world.publish("a", "long")
        world.clock.advance(2.0)
        reader = await world.read("a", last=str(first))
        await world.settle()
        assert reader.data == ["long"]
        assert reader.gaps == []


async def test_ttl_expired_before_trimming_is_not_a_gap() -> None:
    """Trimming what had expired by its own ttl announces nothing (W25)."""
    async with NodeHarness(Retention(age=10.0), window_count=1) as world:
        (first,) = await world.publish("a", "first")
        world.clock.advance(5.0)
        await world.publish("a", "short", ttl=1.0)
        world.clock.advance(20.0)
        await world.publish("b", "now")
        reader = await world.read("a", last=str(first))
        await world.settle()
        assert reader.gaps == []


@pytest.mark.parametrize("last", ["foo_12", "", "42", "zzz-1", "abcdefgh-01"])
async def test_malformed_position_continues_at_the_head_with_a_gap(last: str) -> None:
    """An id that is not ours is an unknown position, said so, and never a replay of everything (W13, W25)."""
    async with NodeHarness() as world:
        await world.publish("a", "old")
        reader = await world.read("a", last=last)
        await world.publish("a", "new")
        await world.settle()
        (gap,) = reader.gaps
        assert json.loads(gap.data)["reason"] == "unknown_position"
        assert json.loads(gap.data)["from"] is None
        assert reader.data == ["new"]


async def test_position_ahead_of_the_head_continues_at_the_head_with_a_gap() -> None:
    """A position from the future is not trusted (W25)."""
    async with NodeHarness() as world:
        (position,) = await world.publish("a", "old")
        reader = await world.read("a", last=f"{position.epoch}-99")
        await world.publish("a", "new")
        await world.settle()
        assert [json.loads(gap.data)["reason"] for gap in reader.gaps] == ["ahead"]
        assert reader.gaps[0].id == str(position)
        assert reader.data == ["new"]


async def test_position_of_another_epoch_replays_what_is_retained_after_a_gap() -> None:
    """After a restart without its log the hub says so and gives all it has (W10, W25)."""
    async with NodeHarness() as world:
        await world.publish("a", "1", "2")
        reader = await world.read("a", last=f"{EPOCH_OF_ANOTHER_LOG}-1")
        await world.settle()
        assert [event.type for event in reader.events] == ["auth", "gap", "message", "message"]
        assert reader.data == ["1", "2"]
        assert reader.events[0].id == f"{EPOCH_OF_ANOTHER_LOG}-1"


async def test_turning_live_between_two_slices_gives_no_event_twice() -> None:
    """A stream that becomes LIVE while its event is still being fanned out gets it once (W5)."""
    async with NodeHarness() as world:
        first = await world.read("a")
        await world.settle()
        await world.publish("a", "1")  # taken in, not yet fanned out
        late = await world.read("a", last=first.last_id)
        assert late.connection.state is State.LIVE
        await world.settle()
        assert first.data == ["1"]
        assert late.data == ["1"]


async def test_live_stalled_and_live_again_within_one_fan_out_gives_no_event_twice() -> None:
    """LIVE → CATCHING_UP → LIVE in one pass neither loses nor doubles (W5)."""
    async with NodeHarness() as world:
        reader = await world.read("a")
        await world.settle()
        reader.stick()
        await world.publish("a", "x" * 20_000)
        await world.settle()
        assert reader.connection.state is State.CATCHING_UP
        await world.publish("a", "2")
        reader.drain()
        assert reader.connection.state is State.LIVE
        await world.settle()
        assert [len(item) for item in reader.data] == [20_000, 1]


async def test_a_slow_reader_costs_no_queue_and_loses_nothing_retained() -> None:
    """A stuck reader holds its high-water mark at most, and reads on from the log (W32)."""
    async with NodeHarness() as world:
        reader = await world.read("a")
        await world.settle()
        reader.stick()
        for index in range(100):
            await world.publish("a", f"{index:04}" + "x" * 1000)
            await world.settle()
        assert reader.sink.held < 40_000
        while len(reader.data) < 100:
            before = len(reader.data)
            reader.sink.held = 0
            world.node.sinks.on_drained(reader.connection)
            await world.settle()
            assert len(reader.data) > before
        assert [item[:4] for item in reader.data] == [f"{index:04}" for index in range(100)]


async def test_streams_that_come_back_together_share_the_bytes_of_what_they_missed() -> None:
    """A storm on one set of topics encodes each page of the window once, wherever in it a stream begins."""
    with mock.patch.object(Framer, "_between", autospec=True, side_effect=Framer._between) as joins:
        async with NodeHarness() as world:
            gone = await world.read("a", "b")
            for number in range(700):
                await world.publish("ab"[number % 2], str(number))
            await world.settle()
            start = gone.events[0].last_event_id
            gone.leave()
            joins.reset_mock()
            readers = [await world.read("a", "b", last=start) for _ in range(20)]
            middle = await world.read("a", "b", last=gone.events[300].last_event_id)
            await world.settle()
            assert all(reader.data == [str(number) for number in range(700)] for reader in readers)
            assert middle.data == [str(number) for number in range(299 + 1, 700)]
            assert joins.call_count < 10


async def test_what_was_kept_for_one_storm_is_let_go_of() -> None:
    """Shared pages live for some seconds; what ends at the head only until the next event."""
    async with NodeHarness() as world:
        gone = await world.read("a")
        for number in range(700):
            await world.publish("a", str(number))
        await world.settle()
        gone.leave()
        await world.read("a", last=gone.events[0].last_event_id)
        await world.settle()
        cache = world.node.replay._cache
        assert cache._pages
        assert cache._tips
        await world.publish("b", "next")
        await world.settle()
        world.node.tick()
        assert not cache._tips
        assert cache._tips_size == 0
        world.clock.advance(6.0)
        world.node.tick()
        assert not cache._pages
        assert cache._size == 0


async def test_what_is_kept_for_a_storm_is_no_older_than_the_log() -> None:
    """What was kept for others is not given once the log retains it no longer; there is a gap instead."""
    async with NodeHarness(Retention(age=3.0), log_age=3.0) as world:
        gone = await world.read("a")
        for number in range(700):
            await world.publish("a", str(number))
        await world.settle()
        start = gone.events[1].last_event_id
        gone.leave()
        early = await world.read("a", last=start)
        await world.settle()
        world.clock.advance(3.5)
        world.node.tick()
        late = await world.read("a", last=start)
        await world.settle()
        assert len(early.data) == 699
        assert late.data == []
        assert len(late.gaps) == 1


async def test_the_window_gives_what_the_log_has_lost() -> None:
    """A page read from the log for somebody else, with a gap, does not hide what the window still holds."""
    async with NodeHarness(Retention(count=600), window_count=700) as world:
        await world.publish("a", *range(1, 4))
        await world.settle()
        await world.read("a")
        await world.publish("a", *range(4, 704))
        await world.settle()
        epoch = world.node.window.epoch
        poor = await world.read("a", last=f"{epoch}-1")
        await world.settle()
        rich = await world.read("a", last=f"{epoch}-50")
        await world.settle()
        assert len(poor.gaps) == 1
        assert rich.gaps == []
        assert rich.data == [str(number) for number in range(51, 704)]


async def test_what_matches_no_pattern_leaves_nothing_on_the_cache() -> None:
    """Thousands of private patterns that come back over a full window must not take the place of what is shared."""
    async with NodeHarness() as world:
        keep, gone = await world.read("news"), await world.read("user/1/*")
        for number in range(2_500):
            await world.publish("news", str(number))
        await world.settle()
        start = keep.events[0].last_event_id
        gone.leave()
        back = await world.read("user/1/*", last=start)
        await world.settle()
        assert back.connection.state is State.LIVE
        assert not world.node.replay._cache._pages
        assert not world.node.replay._cache._tips


async def test_only_what_somebody_reads_is_encoded() -> None:
    """A log may hand out events of topics that nobody here reads; they cost no encoding."""
    async with NodeHarness() as world:
        one, other = await world.read("a"), await world.read("b", envelope=True)
        with mock.patch.object(Frame, "tail", autospec=True, side_effect=Frame.tail) as tail:
            await world.broker.publish(
                [publication(name, name, limits=world.settings.limits) for name in ("a", "b", "c", "c")]
            )
            await world.settle()
        assert (one.data, len(other.data)) == (["a"], 1)
        assert sorted(call.args[0].entry.topics for call in tail.call_args_list) == [("a",), ("b",)]


async def test_a_frame_that_cannot_be_encoded_takes_nothing_from_others() -> None:
    """An entry that no publisher could have made (a damaged log) ends its own readers' streams, nobody else's."""
    async with NodeHarness() as world:
        good, hurt = await world.read("good"), await world.read("bad")
        bad = Publication(topics=("bad",), type="a\nb", data="x")
        good_ones = [publication("good", text, limits=world.settings.limits) for text in ("1", "2")]
        await world.broker.publish([good_ones[0], bad, good_ones[1]])
        await world.settle()
        await world.publish("good", "3")
        await world.settle()
        assert good.data == ["1", "2", "3"]
        assert hurt.data == []
        assert hurt.connection.closed_by is reasons.UNAVAILABLE


async def test_a_kept_page_is_not_shown_after_its_events_outlived_their_time() -> None:
    """An event whose time to live has passed since the page was made is left out, and the others are not."""
    async with NodeHarness() as world:
        gone = await world.read("a")
        await world.publish("a", "short", ttl=2.0)
        await world.publish("a", "long")
        await world.settle()
        start = gone.events[0].last_event_id
        gone.leave()
        early = await world.read("a", last=start)
        world.clock.advance(3.0)
        late = await world.read("a", last=start)
        await world.settle()
        assert early.data == ["short", "long"]
        assert late.data == ["long"]


def test_a_read_for_many_topics_is_bounded_and_leaves_no_hole() -> None:
    """Whoever is far behind on many topics is given a bounded part, in order and without holes, and reads on."""
    window, names = Window(count=5_000, size=10**9), [f"t{number}" for number in range(20)]
    for offset in range(1, 5_001):
        name = names[0] if offset % 2 else names[offset % 20]
        window.append(Frame(Entry(offset, (name,), "message", "x", 0.0), "e" * 8))
    topics, after, reads, found = TopicSet.of(*names), 0, 0, list[int]()
    while after < window.head:
        frames, upto = window.read(topics, after)
        assert upto > after
        assert len(frames) <= 20 * 64
        found += [frame.offset for frame in frames]
        after, reads = upto, reads + 1
    assert found == list(range(1, 5_001))
    assert reads <= 45  # 64 at a time of the busiest topic, which has 2,750


async def test_a_window_that_never_covered_a_topic_is_not_believed() -> None:
    """Events of B published while this hub did not listen to B are read from the broker (W6)."""
    async with NodeHarness(window_count=3) as world:
        (position,) = await world.publish("b", "b1")
        await world.publish("b", "b2")
        await world.publish("a", "1", "2", "3", "4")  # b2 has left the window
        reader = await world.read("b", last=str(position))
        await world.settle()
        assert reader.data == ["b2"]
        assert world.node.stats.history_reads == 1


async def test_coverage_ends_when_the_hub_leaves_a_topic() -> None:
    """After the last reader of B left, the window vouches for nothing of B (W6)."""
    async with NodeHarness() as world:
        window = world.node.window
        reader = await world.read("b")
        await world.settle()
        topics = reader.connection.subscription.topics
        assert window.covers(topics, world.node.position.offset)
        reader.leave()
        assert not window.covers(topics, world.node.position.offset)


async def test_an_event_of_several_topics_is_one_event_and_delivered_once() -> None:
    """A reader of both topics and of a pattern over them gets it once, under the first topic (W27)."""
    async with NodeHarness() as world:
        reader = await world.read("a", "b", "*")
        await world.publish(["a", "b"], "both")
        await world.settle()
        (event,) = [event for event in reader.events if event.type == "message"]
        assert event.topic == "a"
        assert event.id == str(world.node.position)


async def test_pattern_readers_get_what_matches_and_nothing_else() -> None:
    """``news/*`` is one segment, ``log/**`` is the rest."""
    async with NodeHarness() as world:
        reader = await world.read("news/*", "log/**")
        for topic in ("news/a", "news/a/b", "log", "log/x", "log/x/y", "other"):
            await world.publish(topic, topic)
        await world.settle()
        assert reader.data == ["news/a", "log/x", "log/x/y"]
        back = await world.read("news/*", "log/**", last=reader.events[0].id)
        await world.settle()
        assert back.data == reader.data


async def test_sealed_ids_carry_the_token_in_every_id() -> None:
    """On a ticket stream auth, events and gap all carry the resume token before the position (W1, W31)."""
    token = "abcdefghijklmnopqrstuvwx23"
    async with NodeHarness(Retention(count=1), window_count=1) as world:
        (first, *_) = await world.publish("a", "1", "2", "3")
        reader = await world.read("a", last=str(first), token=token)
        await world.publish("a", "4")
        await world.settle()
        ids = [event.id for event in reader.events]
        assert all(event_id is not None and event_id.startswith(f"{token}_") for event_id in ids)
        assert reader.data[-1] == "4"


async def test_envelope_puts_topic_type_and_data_into_one_json() -> None:
    """``?envelope=1`` lets a native page know the topic (W27)."""
    async with NodeHarness() as world:
        reader = await world.read("a", envelope=True)
        await world.publish("a", {"x": 1}, event="tick")
        await world.settle()
        (event,) = [event for event in reader.events if event.type == "message"]
        assert json.loads(event.data) == {"topic": "a", "type": "tick", "data": '{"x":1}'}


async def test_since_hides_older_events_and_makes_no_gap_of_them() -> None:
    """A grant given today replays nothing of yesterday, and misses nothing of it (W21)."""
    async with NodeHarness(Retention(count=3), window_count=1) as world:
        (first, *_) = await world.publish("a", "1", "2")
        world.clock.advance(100.0)
        granted = world.clock.wall()
        world.clock.advance(1.0)
        await world.publish("a", "3")
        await world.publish("b", "x")
        reader = await world.read("a", last=str(first), since={"a": granted})
        await world.settle()
        assert reader.data == ["3"]
        assert reader.gaps == []


async def test_frames_of_one_tick_are_joined_into_one_write() -> None:
    """When publishes outrun writes, one write carries them all, in order."""
    async with NodeHarness() as world:
        readers = [await world.read("a") for _ in range(5)]
        await world.settle()
        before = world.node.stats.writes
        await world.publish("a", *[str(index) for index in range(20)])
        await world.settle()
        assert world.node.stats.writes - before == 5
        assert all(reader.data == [str(index) for index in range(20)] for reader in readers)


async def test_overload_makes_publishers_wait_or_refuses_them() -> None:
    """When fan-out is late, in-process publishers wait and HTTP ones get 429 (W29)."""
    async with NodeHarness(window_count=4) as world:
        reader = await world.read("a")
        await world.settle()
        await world.publish("a", "1", "2", "3")  # more than half the window is not fanned out
        assert world.node.fan_out._handle is not None
        world.node.fan_out._handle.cancel()  # and will not be, until the end of this test
        with pytest.raises(TooManyRequests) as refusal:
            await world.node.publish([], wait=False)
        assert refusal.value.code == "overloaded"
        waiting = asyncio.ensure_future(world.publish("a", "4"))
        await world.settle()
        assert not waiting.done()
        world.node.fan_out.run_slice()
        await world.settle()
        assert waiting.done()
        assert reader.data == ["1", "2", "3", "4"]


async def test_a_fan_out_that_fails_loses_nothing_and_delivery_goes_on() -> None:
    """A fault in the middle of a fan-out: every stream reads on from where it was."""
    async with NodeHarness() as world:
        broken, fine = await world.read("a"), await world.read("a")
        await world.settle()

        def fail(data: bytes) -> None:
            broken.sink.put = broken.sink.write  # type: ignore[method-assign]
            raise RuntimeError("a fault")

        broken.sink.put = fail  # type: ignore[method-assign]
        await world.publish("a", "1")
        await world.settle()
        await world.publish("a", "2")
        await world.settle()
        assert fine.data == ["1", "2"]
        assert broken.data == ["1", "2"]


async def test_who_comes_and_who_leaves_between_two_events_is_seen() -> None:
    """The list of a topic's readers is kept from event to event, and not longer than it is true."""
    async with NodeHarness() as world:
        readers = [await world.read("a")]
        for number in range(20):
            await world.publish("a", str(number))
            await world.settle()
            readers.append(await world.read("a"))
        assert [len(reader.data) for reader in readers] == [20, *range(19, -1, -1)]
        for number in range(2 * MAX_LISTED):
            await world.publish(f"other/{number}", "x")
            await world.settle()
        assert len(world.node.topics._listed) <= MAX_LISTED
        await world.publish("a", "next")
        await world.settle()
        readers[0].leave()
        assert readers[0].connection not in world.node.topics.streams(("a",))
        await world.publish("a", "last")
        await world.settle()
        assert all(reader.data[-2:] == ["next", "last"] for reader in readers[1:])


async def test_a_batch_over_many_topics_arrives_in_order() -> None:
    """Frames of several topics are merged by offset for streams that read more than one of them."""
    async with NodeHarness() as world:
        both, one = await world.read("a", "b"), await world.read("b")
        await world.settle()
        for number in range(6):
            await world.publish("ab"[number % 2], str(number))
        await world.settle()
        assert both.data == ["0", "1", "2", "3", "4", "5"]
        assert one.data == ["1", "3", "5"]


async def test_expiry_announces_itself_then_ends_the_stream() -> None:
    """``auth: expiring`` comes 30 s before, ``auth: expired`` at the end, then the stream closes."""
    async with NodeHarness() as world:
        identity = Identity(subject="alice", expires_at=world.clock.wall() + 100.0, auth_method="bearer")
        reader = await world.read("a", identity=identity)
        for moment, sessions in ((69.0, ["valid"]), (2.0, ["valid", "expiring"])):
            world.clock.advance(moment)
            world.node.tick()
            assert [json.loads(event.data)["session"] for event in reader.events] == sessions
        assert not reader.sink.closed
        world.clock.advance(30.0)
        world.node.tick()
        assert [json.loads(event.data)["session"] for event in reader.events][-1] == "expired"
        assert reader.sink.closed
        assert reader.connection.id not in world.node.connections


async def test_a_stream_that_cannot_be_taken_out_gets_nothing_all_the_same() -> None:
    """Whatever goes wrong while a stream is ended, it has ended: what is revoked reads nothing more (W17)."""
    async with NodeHarness() as world:
        reader = await world.read("a")
        reader.connection.address = "192.0.2.1"  # under which nobody has entered
        with pytest.raises(KeyError):
            world.node.close(reader.connection, reasons.REVOKED)
        await world.publish("a", "secret")
        await world.settle()
        assert reader.data == []


async def test_refresh_extends_a_stream_in_place() -> None:
    """After a refresh the old end passes without effect, and the new one is announced again."""
    async with NodeHarness() as world:
        identity = Identity(subject="alice", expires_at=world.clock.wall() + 60.0, auth_method="bearer")
        reader = await world.read("a", identity=identity)
        fresh = replace(identity, expires_at=world.clock.wall() + 600.0)
        world.node.refresh(reader.connection, replace(reader.connection.subscription, identity=fresh))
        world.clock.advance(120.0)
        world.node.tick()
        assert not reader.sink.closed
        assert [json.loads(event.data)["session"] for event in reader.events] == ["valid", "refreshed"]
        world.clock.advance(460.0)
        world.node.tick()
        assert json.loads(reader.events[-1].data)["session"] == "expiring"


async def test_heartbeat_is_one_line_to_every_quiet_stream() -> None:
    """Each stream gets one ``:`` line per interval, and no more."""
    async with NodeHarness(heartbeat=15.0) as world:
        readers = [await world.read("a") for _ in range(7)]
        await world.settle()
        lengths = [len(reader.sink.data) for reader in readers]
        world.node.tick()
        base = [len(reader.sink.data) for reader in readers]
        for _ in range(60):
            world.clock.advance(0.25)
            world.node.tick()
        grown = [len(reader.sink.data) - length for reader, length in zip(readers, base, strict=True)]
        assert lengths
        assert grown == [2] * 7


async def test_a_reader_that_takes_nothing_for_a_minute_is_closed() -> None:
    """A stalled reader goes after 60 s and may resume (W32)."""
    async with NodeHarness(stall_timeout=60.0) as world:
        reader = await world.read("a")
        await world.settle()
        reader.stick()
        await world.publish("a", "x" * 20_000)
        await world.settle()
        for _ in range(4 * 59):
            world.clock.advance(0.25)
            world.node.tick()
        assert not reader.sink.aborted
        for _ in range(4 * 17):
            world.clock.advance(0.25)
            world.node.tick()
        assert reader.sink.aborted
        assert reader.connection.closed_by is reasons.STALLED


async def test_revocation_between_check_and_entry_is_seen() -> None:
    """A stream is indexed and checked in one step: what was revoked meanwhile does not get in (W17)."""
    async with NodeHarness() as world:
        now = world.clock.wall()
        world.node.revocations.apply_here(Revocation(kind="subject", value="alice", at=now, expires_at=now + 60.0))
        with pytest.raises(CredentialInvalid):
            await world.read("a")
        assert world.node.connections == {}


async def test_revocation_ends_exactly_the_streams_it_concerns() -> None:
    """A revoked subject's streams end with ``bye`` that forbids coming back; others stay (W17, W37)."""
    async with NodeHarness() as world:
        mine = await world.read("a")
        other = await world.read("a", identity=Identity(subject="bob", auth_method="bearer"))
        now = world.clock.wall()
        ended = world.node.revocations.apply_here(
            Revocation(kind="subject", value="alice", at=now, expires_at=now + 60.0)
        )
        assert ended == 1
        assert b"retry: 2147483647\n" in mine.sink.data
        assert json.loads(mine.events[-1].data) == {"reason": "revoked", "reconnect": False}
        assert not other.sink.closed


async def test_nothing_is_written_after_the_end() -> None:
    """An event fanned out in the tick of a revocation does not reach the revoked stream (W4)."""
    async with NodeHarness() as world:
        reader = await world.read("a")
        await world.settle()
        await world.publish("a", "secret")
        now = world.clock.wall()
        world.node.revocations.apply_here(Revocation(kind="subject", value="alice", at=now, expires_at=now + 60.0))
        await world.settle()
        assert reader.data == []
        assert reader.events[-1].type == "bye"


async def test_drain_says_bye_to_all_and_refuses_new_streams() -> None:
    """On shutdown each stream is told to come back, and nobody new is let in."""
    async with NodeHarness(drain_window=0.05) as world:
        readers = [await world.read("a") for _ in range(10)]
        await world.node.drain()
        for reader in readers:
            assert json.loads(reader.events[-1].data) == {"reason": "draining", "reconnect": True}
            assert reader.sink.closed
        with pytest.raises(Unavailable):
            await world.read("a")


async def test_leaving_frees_everything_at_once() -> None:
    """After the last stream has gone, no index, timer or count remembers it."""
    async with NodeHarness() as world:
        for number in range(100):
            identity = Identity(
                subject=f"u{number}", expires_at=world.clock.wall() + 50.0, auth_method="bearer", family="f"
            )
            reader = await world.read(f"user/u{number}", "all/*", identity=identity)
            await world.settle()
            reader.leave()
            reader.leave()
        node = world.node
        assert node.connections == {}
        assert node.topic_count == 0
        index = node.streams.index
        assert index.by_id == index._by_address == node.interest._counts == {}
        for by_key in (index._by_person, index._by_subject, index._by_token_id, index._by_family):
            assert by_key._found == {}
        assert len(node.expiry) == 0
        assert not any(node.heartbeat._buckets)
        assert node.window._covered == {}


async def test_canary_goes_through_the_log_and_is_shown_to_nobody() -> None:
    """Readiness sends an event through the broker that no stream ever sees."""
    async with NodeHarness() as world:
        reader = await world.read("**")
        await world.settle()
        start = reader.last_id
        assert await world.node.canary() >= 0.0
        await world.publish("a", "1")
        await world.settle()
        back = await world.read("**", last=start)
        await world.settle()
        assert reader.data == ["1"]
        assert back.data == ["1"]


async def test_position_of_connection_ids_names_the_node() -> None:
    """A connection id begins with its node, so that commands find it (W42)."""
    async with NodeHarness() as world:
        reader = await world.read("a")
        assert str(auth(reader)["connection"]).startswith(world.node.id + ".")
