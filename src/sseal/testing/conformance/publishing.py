"""Checks of publishing: one order, all or nothing, and keys that make one event of many attempts (W20)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ...errors import Conflict, Unavailable
from ...storage import Publication, Retention
from .fixture import ConformanceFixture, broker_check, equal, expect, refused
from .hubs import Hub, everything, hub, keyed, offsets, open_hubs, publication

DAY = 24 * 3600.0
ODD_TEXTS = ("", "plain", "two\nlines", "a\r\nb\rc", "\0", "é 𝄞 \u2028", '{"a": "\\n"}', "%s ' \" ; --", "x" * 262_144)


@broker_check()
async def offsets_are_returned_in_order(fixture: ConformanceFixture) -> None:
    """Each publish returns offsets above all before, a batch in the order of its publications."""
    one = await hub(fixture, "a", "b")
    equal(one.broker.head, 0, "head of an empty log")
    equal(await one.broker.newest(), 0, "newest() of an empty log")
    numbers: list[int] = []
    for index in range(5):
        numbers += await one.publish(publication("a", f"{index}"), publication("b", f"{index}"))
    expect(numbers[0] > 0, f"the first offset is {numbers[0]}, which stands for the start of a log")
    equal(numbers, sorted(set(numbers)), "offsets in the order of publishing")
    equal(await one.broker.newest(), numbers[-1], "newest() after a publish")
    found = await one.history("a", "b")
    wanted = [(number, f"{index // 2}") for index, number in enumerate(numbers)]
    equal([(entry.offset, entry.data) for entry in found], wanted, "what the log holds")


@broker_check()
async def an_entry_is_what_was_published(fixture: ConformanceFixture) -> None:
    """Text, topics, type, times and reconnection time come back unchanged, from the history and to the hubs."""
    hubs = await open_hubs(fixture, "**")
    publications = [
        Publication(topics=("a", "b/c", "é/ü"), type="näme", data=text, ttl=60.0, retry=1500) for text in ODD_TEXTS
    ]
    publications.append(Publication(topics=("a",), type="message", data="bare"))
    before = hubs[0].broker.now()
    numbers = [*(await hubs[0].publish(*publications[:4])), *(await hubs[-1].publish(*publications[4:]))]
    after = hubs[0].broker.now()
    await everything(hubs)
    kept = await hubs[0].history("a")
    for one in hubs:
        equal(one.given("a"), kept, "what hubs were handed, compared with the history")
    for number, made, entry in zip(numbers, publications, kept, strict=True):
        got = (entry.offset, entry.topics, entry.type, entry.data, entry.retry)
        equal(got, (number, made.topics, made.type, made.data, made.retry), "an entry")
        expect(before - 1.0 <= entry.published_at <= after + 1.0, "published_at is not the time of publishing")
        if made.ttl is None:
            equal(entry.expires_at, None, "expires_at of an event without ttl")
        else:
            off = (entry.expires_at or 0.0) - entry.published_at - made.ttl
            expect(abs(off) < 0.01, f"expires_at is {off:g} s off")


@broker_check()
async def all_hubs_see_one_order(fixture: ConformanceFixture) -> None:
    """With several publishers on several hubs, every hub is handed the same events in the same order, its own too."""
    hubs = await open_hubs(fixture, "a", "b", size=3)
    published: dict[int, str] = {}

    async def publisher(number: int) -> None:
        one = hubs[number % len(hubs)]
        last = 0
        for index in range(20):
            names = [f"{number}-{index}-{part}" for part in range(1 + index % 3)]
            got = await one.publish(*(publication("ab"[index % 2], name) for name in names))
            expect(last < got[0], "a later publish of the same caller has a smaller offset")
            last = got[-1]
            published.update(zip(got, names, strict=True))

    await asyncio.gather(*map(publisher, range(6)))
    await everything(hubs)
    equal(len(published), 6 * (7 * 1 + 7 * 2 + 6 * 3), "offsets that differ")
    wanted = sorted(published.items())
    equal([(e.offset, e.data) for e in await hubs[0].history("a", "b")], wanted, "what the log holds")
    for number, one in enumerate(hubs):
        equal([(e.offset, e.data) for e in one.given("a", "b")], wanted, f"what hub {number} was handed")
        expect(one.broker.head >= wanted[-1][0], f"head of hub {number} is behind what it was handed")


@broker_check()
async def a_batch_is_all_or_nothing(fixture: ConformanceFixture) -> None:
    """A batch with one conflicting key appends nothing, hands out nothing, and claims no key."""
    hubs = await open_hubs(fixture, "a", "b")
    (first,) = await hubs[0].publish(keyed("old", "1"))
    for at in range(3):
        batch = [publication("b", "never"), keyed("fresh", "never", topic="b")]
        batch.insert(at, keyed("old", "2"))
        with refused(Conflict, f"a batch whose publication {at} conflicts"):
            await hubs[-1].publish(*batch)
    equal(await hubs[0].broker.newest(), first, "newest() after refused batches")
    (fresh,) = await hubs[0].publish(keyed("fresh", "other content", topic="b"))
    expect(fresh > first, "a key of a refused batch counts as used")
    await everything(hubs)
    for one in hubs:
        equal(offsets(one.given("a", "b")), [first, fresh], "what was handed out")
    equal(offsets(await hubs[0].history("a", "b")), [first, fresh], "what the log holds")


@broker_check()
async def a_known_key_returns_its_first_offset(fixture: ConformanceFixture) -> None:
    """The same event sent again, by whichever hub, alone or in a batch, is the event it was (W20)."""
    hubs = await open_hubs(fixture, "a", "b")
    (first,) = await hubs[0].publish(keyed("k", "1"))
    for one in hubs:
        equal(await one.publish(keyed("k", "1")), [first], "a known key")
        again, new = await one.publish(keyed("k", "1"), publication("b"))
        equal(again, first, "a known key in a batch")
        expect(new > first, "a new event beside a known key has no offset of its own")
    twice = await hubs[0].publish(keyed("t", "1"), publication("b"), keyed("t", "1"))
    equal(twice[0], twice[2], "a key that stands twice in one batch")
    await everything(hubs)
    for one in hubs:
        equal(offsets(one.given("a")), [first, twice[0]], "events with a key that were handed out")


@broker_check()
async def a_key_with_other_content_conflicts(fixture: ConformanceFixture) -> None:
    """The same key with another digest is refused: sent later, by another hub, or twice in one batch (W20)."""
    hubs = await open_hubs(fixture, "a")
    (first,) = await hubs[0].publish(keyed("k", "1"))
    for one in hubs:
        with refused(Conflict, "a used key with other content"):
            await one.publish(keyed("k", "2"))
        with refused(Conflict, "a key twice in one batch with different content"):
            await one.publish(keyed("n", "1"), keyed("n", "2"))
    equal(offsets(await hubs[0].history("a")), [first], "what the log holds")


@broker_check()
async def a_key_is_its_publishers_own(fixture: ConformanceFixture) -> None:
    """Nobody can use up another's keys: issuer and subject separate them, wherever the text is cut (W20)."""
    one = await hub(fixture)
    scopes = [("", ""), ("i", "s"), ("i", "other"), ("other", "s"), ("is", ""), ("", "is"), ("i:s", ""), ("i", "s:k")]
    numbers = [(await one.publish(keyed("k", f"{index}", scope=scope)))[0] for index, scope in enumerate(scopes)]
    numbers += await one.publish(keyed("s:k", "8", scope=("i", "")), keyed("k", "9", scope=("i", "s:")))
    equal(len(set(numbers)), len(scopes) + 2, "events of publishers who chose the same key")


@broker_check()
async def one_key_at_once_is_one_event(fixture: ConformanceFixture) -> None:
    """Several hubs that publish the same key at the same moment make one event, and all get its offset (W20)."""
    hubs = await open_hubs(fixture, "a", size=3)
    for turn in range(5):
        work = [one.publish(keyed(f"k{turn}", "1"), publication("b")) for one in hubs for _ in range(4)]
        got = await asyncio.gather(*work)
        equal(len({numbers[0] for numbers in got}), 1, "offsets of one key that was published by many at once")
    await everything(hubs)
    for one in hubs:
        equal(len(one.given("a")), 5, "events handed out")


@broker_check()
async def of_two_contents_at_once_one_wins(fixture: ConformanceFixture) -> None:
    """Of publishers that race with one key and different contents one content gets in, the others conflict (W20)."""
    hubs = await open_hubs(fixture, "a", size=3)
    for turn in range(5):
        work = [hubs[i % len(hubs)].publish(keyed(f"k{turn}", f"{i}")) for i in range(6)]
        got = await asyncio.gather(*work, return_exceptions=True)
        conflicts = sum(isinstance(result, Conflict) for result in got)
        equal(conflicts, 5, f"Conflicts among six contents under one key (the answers were {got!r})")
    equal(len(await hubs[0].history("a")), 5, "events in the log")


@broker_check(retention=Retention(count=10))
async def a_key_outlives_its_event(fixture: ConformanceFixture) -> None:
    """A key is known for its day, whether or not the log still holds the event (W20)."""
    one = await hub(fixture)
    (first,) = await one.publish(keyed("k", "1"))
    await one.publish(*(publication("b") for _ in range(30)))
    equal(offsets(await one.history("a")), [], "a trimmed event")
    equal(await one.publish(keyed("k", "1")), [first], "the key of a trimmed event")


@broker_check("our_clock")
async def a_key_is_forgotten_after_a_day(fixture: ConformanceFixture) -> None:
    """After 24 hours the same key is a new event, whatever its content; a minute before it is not (W20)."""
    one = await hub(fixture)
    (first,) = await one.publish(keyed("k", "1"))
    await fixture.elapse(DAY - 60.0)
    equal(await one.publish(keyed("k", "1")), [first], "a key before its day is over")
    await fixture.elapse(120.0)
    (second,) = await one.publish(keyed("k", "2"))
    expect(second > first, "a key is still known after its day")
    equal(await one.publish(keyed("k", "2")), [second], "a key used anew")


@broker_check("durable")
async def a_key_outlives_a_restart(fixture: ConformanceFixture) -> None:
    """Who got no answer because the hub stopped can repeat with the same key when it is back (W20)."""
    one = await hub(fixture)
    (first,) = await one.publish(keyed("k", "1"))
    await fixture.restart()
    one = await hub(fixture)
    equal(await one.publish(keyed("k", "1")), [first], "a key after a restart")
    with refused(Conflict, "a used key with other content after a restart"):
        await one.publish(keyed("k", "2"))


@broker_check()
async def a_closed_log_refuses(fixture: ConformanceFixture) -> None:
    """Closing may be repeated; to publish then is Unavailable, never silence."""
    one = await hub(fixture, "a")
    (first,) = await one.publish(publication())
    await one.broker.close()
    await one.broker.close()
    with refused(Unavailable, "publish() after close()"):
        await one.broker.publish([publication()])
    if "shared" in fixture.promises:
        other = await hub(fixture)
        equal(offsets(await other.history("a")), [first], "what the log holds after a publish on a closed broker")
        await other.broker.close()


@broker_check("shared")
async def what_a_close_interrupts_is_finished_or_refused(fixture: ConformanceFixture) -> None:
    """Every publish that was running at a close has returned an offset of the log, or raised Unavailable."""
    other = await hub(fixture)
    one = await hub(fixture, "a")
    tasks = [asyncio.create_task(one.publish(publication("a", f"{index}"))) for index in range(30)]
    await asyncio.sleep(0)
    try:
        await one.broker.close()
    finally:
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5.0)
    kept = {entry.data: entry.offset for entry in await other.history("a")}
    _compare(results, kept)


def _compare(results: Sequence[list[int] | BaseException], kept: dict[str, int]) -> None:
    for index, result in enumerate(results):
        held = kept.get(f"{index}")
        if isinstance(result, Unavailable):
            unknown = result.code == "outcome_unknown"
            expect(held is None or unknown, "an event is in the log whose publish was refused")
        elif isinstance(result, BaseException):
            expect(False, f"a publish during close() raised {result!r}")
        else:
            equal(held, result[0], "the offset of an event published during close()")


@broker_check("shared")
async def a_hub_that_leaves_disturbs_nobody(fixture: ConformanceFixture) -> None:
    """One that was closed is handed nothing more; the others go on."""
    one, other = await hub(fixture, "fence", "a"), await hub(fixture, "a")
    await one.publish(publication())
    await everything([one])
    await other.broker.close()
    handed = len(other.recorder.entries)
    await one.publish(publication())
    await everything([one])
    equal(len(other.recorder.entries), handed, "entries handed to a closed hub")
    equal(len(one.given("a")), 2, "entries handed to the other hub")


@broker_check()
async def a_log_may_be_opened_for_publishing_only(fixture: ConformanceFixture) -> None:
    """Without a listener it takes events all the same, and whoever listens is handed them."""
    listener: Hub | None = await hub(fixture, "a") if "shared" in fixture.promises else None
    publisher = Hub(await fixture.broker())
    await publisher.broker.open(None)
    (number,) = await publisher.publish(keyed("k", "1"))
    equal(await publisher.publish(keyed("k", "1")), [number], "a known key")
    equal(publisher.broker.lost_since, None, "lost_since of a log in reach")
    if listener is not None:
        equal(publisher.broker.lineage, listener.broker.lineage, "lineage of a publisher and of a hub")
        await listener.broker.listen(["fence"])
        await everything([listener])
        equal(offsets(listener.given("a")), [number], "what the listener was handed")
