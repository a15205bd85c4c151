"""Whatever is interleaved, a reader gets every event of its topics once and in order, or a gap that covers it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from delivery.harness import NodeHarness, Reader
from sseal.delivery import page_cache, replay
from sseal.delivery import window as windows
from sseal.position import Position
from sseal.storage import Retention
from sseal.stream.connection import HIGH_WATER
from sseal.stream.states import State

TOPICS = ["a", "b", "c"]
SUBSCRIPTIONS = [("a",), ("b",), ("a", "b"), ("*",), ("c", "*")]
BIG = "x" * (HIGH_WATER // 2)

OPERATIONS = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from(TOPICS), st.booleans()),
    st.tuples(st.just("subscribe"), st.sampled_from(SUBSCRIPTIONS)),
    st.tuples(st.just("return"), st.integers(0, 5)),
    st.tuples(st.just("leave"), st.integers(0, 5)),
    st.tuples(st.just("stick"), st.integers(0, 5)),
    st.tuples(st.just("drain"), st.integers(0, 5)),
    st.tuples(st.just("run"), st.integers(1, 3)),
)


@dataclass
class Witness:
    """One subscriber across its streams, and what it has received."""

    topics: tuple[str, ...]
    start: int
    reader: Reader | None
    received: list[int] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    last_id: str = ""
    seen: int = 0

    def collect(self) -> None:
        """Take over what its stream has brought since the last look."""
        if self.reader is None:
            return
        events = self.reader.events
        for event in events[self.seen :]:
            if event.type == "gap":
                said = json.loads(event.data)
                self.gaps.append((Position.parse(said["from"]).offset, Position.parse(said["to"]).offset))
            elif event.type == "message":
                self.received.append(int(event.data.partition(" ")[0]))
            self.last_id = event.last_event_id
        self.seen = len(events)

    def wants(self, topic: str) -> bool:
        """Tell whether an event of a topic is for it."""
        return "*" in self.topics or topic in self.topics


async def play(operations: list[tuple[object, ...]], window: int, retained: int) -> None:
    """Run the operations, then let everything settle and check every subscriber."""
    published: list[str] = []
    witnesses: list[Witness] = []
    async with NodeHarness(Retention(count=retained), window_count=window, overload_after=1e9) as world:
        for operation, *arguments in operations:
            if operation == "publish":
                topic, big = arguments
                published.append(str(topic))
                await world.broker.publish([_draft(world, str(topic), f"{len(published)} {BIG if big else ''}")])
            elif operation == "subscribe":
                topics = arguments[0]
                reader = await world.read(*topics)  # type: ignore[misc]
                witnesses.append(Witness(topics, world.node.position.offset, reader))  # type: ignore[arg-type]
            elif operation == "run":
                for _ in range(int(str(arguments[0]))):
                    await asyncio.sleep(0)
            elif witnesses:
                await _touch(world, witnesses[int(str(arguments[0])) % len(witnesses)], str(operation))
        for witness in witnesses:
            await _touch(world, witness, "return")
            await _touch(world, witness, "drain")
        for _ in range(20):
            await world.settle()
            for witness in witnesses:
                await _touch(world, witness, "drain")
        for witness in witnesses:
            witness.collect()
            check(witness, published, retained)
            assert witness.reader is not None
            assert witness.reader.connection.state is State.LIVE


def check(witness: Witness, published: list[str], retained: int) -> None:
    """Everything once, in order; what is missing lies in a gap, and a gap covers something that was really lost."""
    due = [n for n, topic in enumerate(published, 1) if n > witness.start and witness.wants(topic)]
    assert witness.received == sorted(set(witness.received))
    missing = set(due) - set(witness.received)
    assert set(witness.received) <= set(due)
    assert all(any(start < n <= end for start, end in witness.gaps) for n in missing), (due, witness)
    assert all(any(start < n <= end for n in missing) for start, end in witness.gaps), (due, witness)
    assert all(n <= len(published) - retained for n in missing)


def _draft(world: NodeHarness, topic: str, data: str) -> object:
    from sseal.publisher import publication

    return publication(topic, data, limits=world.settings.limits)


async def _touch(world: NodeHarness, witness: Witness, operation: str) -> None:
    """Let one subscriber leave, come back, stop or go on reading."""
    if operation == "leave" and witness.reader is not None:
        witness.collect()
        witness.reader.leave()
        witness.reader = None
    elif operation == "return" and witness.reader is None:
        witness.reader = await world.read(*witness.topics, last=witness.last_id)
        witness.seen = 0
    elif witness.reader is not None and operation == "stick":
        witness.reader.stick()
    elif witness.reader is not None and operation == "drain":
        witness.reader.drain()


@settings(max_examples=3 * settings().max_examples)
@given(st.lists(OPERATIONS, max_size=60), st.integers(1, 6), st.integers(4, 40))
def test_no_interleaving_loses_doubles_or_reorders(
    operations: list[tuple[object, ...]], window: int, retained: int
) -> None:
    """Publish, stall, drain, subscribe, leave and return in any order, with windows and logs of any size (W5, W6)."""
    asyncio.run(play(operations, window, max(window, retained)))


@settings(max_examples=3 * settings().max_examples)
@given(st.lists(OPERATIONS, max_size=60), st.integers(1, 40), st.integers(4, 40), st.integers(1, 4))
def test_no_interleaving_loses_doubles_or_reorders_in_small_steps(
    operations: list[tuple[object, ...]], window: int, retained: int, step: int
) -> None:
    """The same when a few events are several reads, several shared pages and several writes."""
    with (
        mock.patch.multiple(windows, SCAN=step, READ=step, READ_FROM_EACH=1),
        mock.patch.multiple(replay, PAGE_SIZE=step),
        mock.patch.multiple(page_cache, BATCH_COUNT=2, CACHE_SIZE=20_000, TIPS_SIZE=4_000),
    ):
        asyncio.run(play(operations, window, max(window, retained)))
