"""Checks of retention: what is trimmed, and who is told that something is gone (W21, W25)."""

from __future__ import annotations

import random

from ...storage import Entry, Retention
from ...subscription import TopicSet
from .fixture import ConformanceFixture, broker_check, equal, expect
from .history import MOMENT, TOPICS
from .hubs import Hub, hub, offsets, open_hubs, publication

FEW = Retention(count=10)


@broker_check(retention=FEW)
async def the_newest_are_kept_by_count(fixture: ConformanceFixture) -> None:
    """A log keeps as many events as it was told, the newest, however they come."""
    one = await hub(fixture)
    numbers: list[int] = []
    for size in (1, 8, 1, 1, 3, 25, 1):
        numbers += await one.publish(*(publication("ab"[index % 2]) for index in range(size)))
        equal(offsets(await one.history("a", "b")), numbers[-10:], f"what is kept of {len(numbers)} events")
        equal(offsets(await one.history("**")), numbers[-10:], f"what a pattern finds of {len(numbers)} events")


@broker_check(retention=Retention(age=2.0))
async def the_newest_are_kept_by_age(fixture: ConformanceFixture) -> None:
    """What is older than it was told goes when something is published, and is lost to its own readers only."""
    one = await hub(fixture)
    numbers = await one.publish(publication("a"), publication("b"))
    await fixture.elapse(2.3)
    (fresh,) = await one.publish(publication("c"))
    equal(offsets(await one.history("**")), [fresh], "what is kept")
    equal([await one.lost(name) for name in "abc"], [*numbers, 0], "what is lost of each topic")


@broker_check(retention=Retention(size=20_000))
async def the_newest_are_kept_by_size(fixture: ConformanceFixture) -> None:
    """The data of what is kept is within the bound, and most of the bound is made use of."""
    one = await hub(fixture)
    numbers: list[int] = []
    for _ in range(40):
        numbers += await one.publish(publication("a", "x" * 1_000))
        kept = offsets(await one.history("a"))
        equal(kept, numbers[len(numbers) - len(kept) :], "what is kept")
        expect(len(kept) <= 20, f"{len(kept)} events of 1,000 bytes are kept in 20,000")
    expect(len(kept) >= 10, f"only {len(kept)} events of 1,000 bytes are kept in 20,000")
    equal(await one.lost("a"), numbers[-len(kept) - 1], "what is lost")


@broker_check(retention=FEW)
async def only_the_topics_that_lost_something_say_so(fixture: ConformanceFixture) -> None:
    """A topic of which nothing after the start was trimmed has lost nothing, however old its position is (W25)."""
    hubs = await open_hubs(fixture)
    one = hubs[-1]
    (old,) = await hubs[0].publish(publication("old"))
    loud = await hubs[0].publish(*(publication("loud") for _ in range(30)))
    (quiet,) = await hubs[0].publish(publication("quiet/alice"))
    loud += await hubs[0].publish(*(publication("loud") for _ in range(5)))
    gone = loud[-10]
    for names, after, wanted in (
        (("old",), 0, old),
        (("old",), old, 0),
        (("loud",), 0, gone),
        (("loud",), gone - 1, gone),
        (("loud",), gone, 0),
        (("quiet/alice",), 0, 0),
        (("quiet/alice", "never"), 0, 0),
        (("quiet/*",), 0, 0),
        (("quiet/alice", "old"), 0, old),
        (("old", "loud"), 0, gone),
        (("*",), 0, gone),
        (("**",), old, gone),
        (("**",), gone, 0),
    ):
        equal(await one.lost(*names, after=after), wanted, f"what is lost of {names} after {after}")
    equal(offsets(await one.history("quiet/*")), [quiet], "a quiet topic")


@broker_check(retention=FEW)
async def an_event_of_several_topics_is_lost_to_each(fixture: ConformanceFixture) -> None:
    """When it is trimmed the readers of every one of its topics are told (W27)."""
    one = await hub(fixture)
    (number,) = await one.publish(publication(("a", "b", "c/1")))
    await one.publish(*(publication("loud") for _ in range(20)))
    equal([await one.lost(name) for name in ("a", "b", "c/1", "c/*")], [number] * 4, "what is lost")


@broker_check(retention=FEW)
async def what_was_trimmed_before_since_is_no_loss(fixture: ConformanceFixture) -> None:
    """Who may not read what is older has lost nothing of it, per topic and per pattern (W21)."""
    one = await hub(fixture)
    a, b = await one.publish(publication("a/1"), publication("b"))
    await fixture.elapse(2 * MOMENT)
    since = one.broker.now() - MOMENT / 2
    await one.publish(*(publication("loud") for _ in range(20)))
    equal(await one.lost("a/1", since={"a/1": since}), 0, "lost of a topic since after it was published")
    equal(await one.lost("a/1", since={"a/1": since - 60.0}), a, "lost of a topic since before it was published")
    equal(await one.lost("a/*", since={"a/*": since}), 0, "lost of a pattern since after it was published")
    equal(await one.lost("a/*", since={"a/*": since - 60.0}), a, "lost of a pattern since before it was published")
    equal(await one.lost("a/1", "b", since={"b": since}), a, "lost of two topics, one of them bounded")
    equal(await one.lost("a/1", "b", since={"a/1": since}), b, "lost of two topics, the other one bounded")


@broker_check(retention=FEW)
async def what_had_expired_when_it_was_trimmed_is_no_loss(fixture: ConformanceFixture) -> None:
    """Nobody misses it; but what was trimmed before it is still missed (W25)."""
    one = await hub(fixture)
    first, _ = await one.publish(publication("a", "kept for ever"), publication("a", "gone by itself", ttl=MOMENT))
    await one.publish(publication("b", "gone by itself", ttl=MOMENT))
    await fixture.elapse(2 * MOMENT)
    await one.publish(*(publication("loud") for _ in range(20)))
    equal(await one.lost("a"), first, "lost of a topic with both")
    equal(await one.lost("b"), 0, "lost of a topic of which everything had expired")


@broker_check(retention=Retention(count=20))
async def nothing_vanishes_without_a_word(fixture: ConformanceFixture) -> None:
    """Of every event after a position a reader gets it, or is told of a loss at or beyond it, and of no other (W25)."""
    rng = random.Random(25)  # noqa: S311 - the same draws every time
    hubs = await open_hubs(fixture)
    model: list[Entry] = []
    for number in range(40):
        names = tuple(rng.sample(TOPICS, rng.choice((1, 1, 2))))
        (offset,) = await rng.choice(hubs).publish(publication(names, f"{number}"))
        model.append(Entry(offset, names, "message", f"{number}", 0.0))
        kept = set(offsets(await hubs[0].history("**")))
        for _ in range(4):
            await _accounted(rng.choice(hubs), rng, model, kept)


async def _accounted(one: Hub, rng: random.Random, model: list[Entry], kept: set[int]) -> None:
    names = rng.sample((*TOPICS, "a/*", "**", "never"), rng.randint(1, 3))
    after = rng.randint(0, model[-1].offset)
    matches = TopicSet.of(*names).matcher()
    mine = [entry.offset for entry in model if entry.offset > after and matches(entry.topics)]
    page = await one.page(TopicSet.of(*names), after)
    equal(offsets(page.entries), [o for o in mine if o in kept], f"{names} after {after}")
    wanted = max((o for o in mine if o not in kept), default=0)
    equal(page.lost, wanted, f"lost of {names} after {after}")


@broker_check(retention=FEW)
async def what_is_trimmed_between_two_pages_is_told(fixture: ConformanceFixture) -> None:
    """A reader that is overtaken by retention is told at its next page (W25)."""
    one = await hub(fixture)
    numbers = await one.publish(*(publication("a") for _ in range(8)))
    page = await one.page(TopicSet.of("a"), 0, limit=3)
    equal((offsets(page.entries), page.more, page.lost), (numbers[:3], True, 0), "the first page")
    await one.publish(*(publication("b") for _ in range(8)))
    page = await one.page(TopicSet.of("a"), page.upto, numbers[-1], limit=3)
    equal((offsets(page.entries), page.lost), (numbers[6:], numbers[5]), "the second page")


@broker_check(retention=Retention(age=1.0))
async def offsets_are_never_used_again(fixture: ConformanceFixture) -> None:
    """Not even after retention has emptied the log, and it was opened anew (W10)."""
    one = await hub(fixture)
    numbers = await one.publish(*(publication() for _ in range(5)))
    await fixture.elapse(1.3)
    if "durable" in fixture.promises:
        await fixture.restart()
        one = await hub(fixture)
        await fixture.elapse(1.3)
    numbers += await one.publish(publication("b"))
    equal(numbers, sorted(set(numbers)), "offsets before and after the log was empty")
    equal(await one.lost("a"), numbers[-2], "lost of the topic that was trimmed")
    equal(await one.broker.newest(), numbers[-1], "newest()")


@broker_check("durable", retention=FEW)
async def what_was_lost_is_known_after_a_restart(fixture: ConformanceFixture) -> None:
    """A position from before is told of what was trimmed before, and of nothing else (W25)."""
    one = await hub(fixture)
    a, _ = await one.publish(publication("a"), publication("b"))
    numbers = await one.publish(*(publication("loud") for _ in range(9)))
    await fixture.restart()
    one = await hub(fixture)
    equal([await one.lost(name) for name in ("a", "b", "loud")], [a, 0, 0], "what is lost of each topic")
    equal(offsets(await one.history("loud")), numbers, "what is kept")
