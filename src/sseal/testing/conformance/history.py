"""Checks of the history: one snapshot, merged by offset, in pages of any size (W7)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from ...storage import Entry, Page
from ...subscription import TopicSet
from .fixture import ConformanceFixture, broker_check, equal, expect
from .hubs import Hub, everything, hub, offsets, open_hubs, publication

LIMITS = (1, 2, 3, 7, 1_000)
TOPICS = ("a", "b", "a/1", "a/2", "a/2/3", "b/1", "b/1/x", "user/alice", "user/bob")
CHOICES = (*TOPICS, "never", "*", "**", "a/*", "a/**", "*/1", "*/1/*", "user/*", "b/*/x", "never/**")
MOMENT = 0.2
"""Seconds that something short lives; nothing is expected of it while it does, so it cannot be too short."""


@broker_check()
async def pages_agree_with_a_plain_list(fixture: ConformanceFixture) -> None:
    """Any topics, patterns, bounds and page size give what filtering a list of all events gives (W7)."""
    rng = random.Random(7)  # noqa: S311 - the same draws every time
    hubs = await open_hubs(fixture)
    model = await _fill(hubs, rng, 60)
    top = model[-1].offset
    for _ in range(120):
        names = rng.sample(CHOICES, rng.randint(1, 4))
        after = rng.randint(0, top + 1)
        upto = rng.choice((None, rng.randint(0, top + 3)))
        limit = rng.choice(LIMITS)
        one = rng.choice(hubs)
        matches = TopicSet.of(*names).matcher()
        wanted = [e for e in model if after < e.offset <= (top if upto is None else upto) and matches(e.topics)]
        got = await one.history(*names, after=after, upto=upto, limit=limit)
        what = f"{names} after {after} up to {upto} in pages of {limit}"
        equal(_brief(got), _brief(wanted), what)


async def _fill(hubs: Sequence[Hub], rng: random.Random, batches: int) -> list[Entry]:
    model: list[Entry] = []
    for number in range(batches):
        publications = [
            publication(tuple(rng.sample(TOPICS, rng.choice((1, 1, 1, 2, 3)))), f"{number}.{part}")
            for part in range(rng.randint(1, 4))
        ]
        got = await rng.choice(hubs).publish(*publications)
        model += [Entry(o, d.topics, d.type, d.data, 0.0) for o, d in zip(got, publications, strict=True)]
    return model


@broker_check()
async def history_is_one_snapshot(fixture: ConformanceFixture) -> None:
    """While publishers run a page holds all of its topics up to its ``upto``: nothing appears there later (W7)."""
    hubs = await open_hubs(fixture, size=3)
    rng = random.Random(11)  # noqa: S311 - the same draws every time
    read: list[tuple[TopicSet, int, Page]] = []
    done = asyncio.Event()

    async def publisher(number: int) -> None:
        one = hubs[number % len(hubs)]
        for index in range(30):
            name = ("a", "b", "a/1", ("a", "b"))[(index + number) % 4]
            await one.publish(publication(name, f"{number}-{index}"))
            await asyncio.sleep(0)

    async def reader(one: Hub) -> None:
        topics = TopicSet.of(*rng.choice((("a", "b"), ("a", "b", "a/1"), ("b", "a/*"), ("**",))))
        while not done.is_set():
            after, upto, more = 0, None, True
            while more:
                page = await one.page(topics, after, upto, limit=rng.choice(LIMITS))
                read.append((topics, after, page))
                after, more = page.upto, page.more
            await asyncio.sleep(0)

    readers = [asyncio.create_task(reader(one)) for one in hubs for _ in range(2)]
    try:
        await asyncio.gather(*map(publisher, range(4)))
    finally:
        done.set()
        await asyncio.gather(*readers)
    kept = await hubs[0].history("**")
    for topics, after, page in read:
        matches = topics.matcher()
        wanted = [e for e in kept if after < e.offset <= page.upto and matches(e.topics)]
        equal(_brief(page.entries), _brief(wanted), f"a page of {topics.names} from {after} to {page.upto}")


@broker_check()
async def an_upto_holds_while_the_log_grows(fixture: ConformanceFixture) -> None:
    """Pages up to an offset end there, however much is published in between."""
    hubs = await open_hubs(fixture)
    numbers = [(await hubs[0].publish(publication("ab"[index % 2])))[0] for index in range(9)]
    topics, after, found, more = TopicSet.of("a", "b"), 0, [], True
    while more:
        page = await hubs[0].page(topics, after, numbers[-1], limit=2)
        found += offsets(page.entries)
        await hubs[-1].publish(publication("a", "late"))
        after, more = page.upto, page.more
    equal(found, numbers, "what was read up to an offset")
    expect(after >= numbers[-1], f"the last page ends at {after}, before the offset {numbers[-1]} that was asked for")


@broker_check()
async def bounds_outside_the_log_are_harmless(fixture: ConformanceFixture) -> None:
    """Nothing is read beyond the head, before the start, or of a topic that never spoke; and nothing is lost."""
    one = await hub(fixture)
    topics = TopicSet.of("a", "x/**")
    empty = await one.page(topics, 0)
    equal((list(empty.entries), empty.more, empty.lost), ([], False, 0), "a page of an empty log")
    numbers = await one.publish(*(publication() for _ in range(3)))
    for after, upto in ((numbers[-1], None), (numbers[-1] + 50, None), (numbers[0], numbers[0]), (numbers[1], 0)):
        page = await one.page(topics, after, upto)
        equal((list(page.entries), page.more, page.lost), ([], False, 0), f"a page after {after} up to {upto}")
    page = await one.page(topics, 0, numbers[-1] + 50)
    equal((offsets(page.entries), page.more), (numbers, False), "a page up to beyond the head")
    page = await one.page(TopicSet.of("never"), 0)
    equal((list(page.entries), page.more, page.lost), ([], False, 0), "a page of a topic that never spoke")
    expect(page.upto >= numbers[-1], "a page with nothing in it does not lead to the head")


@broker_check()
async def several_topics_are_one_event(fixture: ConformanceFixture) -> None:
    """An event of several topics is handed out once, and read once by whoever reads two of them (W27)."""
    hubs = await open_hubs(fixture, "a", "b", "c/*", "**")
    (number,) = await hubs[0].publish(publication(("a", "b", "c/1"), "x"))
    (last,) = await hubs[-1].publish(publication("fence"))
    for names in (("a",), ("c/1",), ("a", "b"), ("b", "c/*"), ("c/*", "**"), ("**",)):
        for limit in (1, 10):
            got = await hubs[0].history(*names, upto=number, limit=limit)
            equal(_brief(got), [(number, ("a", "b", "c/1"), "x")], f"{names} in pages of {limit}")
    for one in hubs:
        await one.wait_for(last)
        equal(offsets(one.given("a")), [number], "what was handed out")


@broker_check()
async def names_mean_themselves(fixture: ConformanceFixture) -> None:
    """Letters that mean something to a database do not: only ``*`` and ``**`` as whole segments are patterns."""
    names = ("a_b", "aXb", "a%", "a%b", "a?c", "abc", "a[bc]", "a\\b", "a.c", "A_B", "é/ü", "a'b", 'a"b', "a:b", "a b")
    wide = {"é/*": ["é/ü"], "*": [name for name in names if "/" not in name]}
    hubs = await open_hubs(fixture, *names)
    numbers = dict(zip(names, await hubs[0].publish(*(publication(name, name) for name in names)), strict=True))
    await everything(hubs)
    for one in hubs:
        equal(offsets(one.given(*names)), sorted(numbers.values()), "what was handed out")
    for name in names:
        equal(offsets(await hubs[0].history(name)), [numbers[name]], f"history of {name!r}")
    for pattern, covered in wide.items():
        found = [entry.data for entry in await hubs[0].history(pattern) if entry.data]
        equal(found, covered, f"history of {pattern!r}")
    for literal in names:
        equal(offsets(await hubs[0].history(f"{literal}/**")), [], f"history below {literal!r}")


@broker_check()
async def what_has_expired_is_left_out_and_not_lost(fixture: ConformanceFixture) -> None:
    """An event whose time to live is over is not read any more, others beside it are, and nothing is lost (W25)."""
    hubs = await open_hubs(fixture)
    numbers = await hubs[0].publish(
        publication("a", "short", ttl=MOMENT),
        publication("a", "long", ttl=60.0),
        publication("b", "short", ttl=MOMENT),
        publication("a", "ever"),
    )
    await fixture.elapse(2 * MOMENT)
    for one in hubs:
        for limit in (1, 10):
            for names in (("a", "b"), ("**",)):
                got = await one.history(*names, limit=limit)
                equal([e.data for e in got], ["long", "ever"], f"{names} in pages of {limit}")
        equal(offsets(await one.history("a")), [numbers[1], numbers[3]], "what is left of a topic")
        equal(await one.lost("a", "b", "**"), 0, "what expired counts as lost")


def _brief(entries: Sequence[Entry]) -> list[tuple[int, tuple[str, ...], str]]:
    return [(entry.offset, entry.topics, entry.data) for entry in entries]
