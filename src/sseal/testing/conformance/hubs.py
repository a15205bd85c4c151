"""Hubs on the log of a fixture: what they were handed, what they read, what they publish."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ...errors import Unavailable
from ...storage import CANARY_ROOT, Broker, Entry, IdempotencyKey, Page, Publication
from ...subscription import NO_BOUNDS, TopicSet
from .fixture import ConformanceError, ConformanceFixture, equal, eventually, expect

__all__ = ["Hub", "LogRecorder", "canary", "everything", "hub", "keyed", "offsets", "open_hubs", "publication"]

FENCE = "fence"
BUSY = 5
"""Times a log may be busy in a row."""


class LogRecorder:
    """A listener of a log that writes down what it is told."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.epoch_changes = 0
        self.gaps: list[tuple[tuple[str, ...] | None, int]] = []

    def on_entries(self, entries: Sequence[Entry]) -> None:
        """Write the entries down."""
        self.entries += entries

    def on_epoch_change(self) -> None:
        """Count the epoch_changes."""
        self.epoch_changes += 1

    def on_gap(self, names: Sequence[str] | None, upto: int) -> None:
        """Write down what was missed."""
        self.gaps.append((None if names is None else tuple(names), upto))

    async def on_reconnect(self) -> None:
        """Nothing has to be done."""


@dataclass(slots=True)
class Hub:
    """An open broker, and what it has told."""

    broker: Broker
    recorder: LogRecorder = field(default_factory=LogRecorder)

    def given(self, *topics: str, after: int = 0) -> list[Entry]:
        """Return what was handed out of these topics, in the order in which it was."""
        matches = TopicSet.of(*topics).matcher()
        return [entry for entry in self.recorder.entries if matches(entry.topics) and entry.offset > after]

    async def wait_for(self, offset: int) -> None:
        """Wait until the entry with this offset was handed out."""
        await eventually(lambda: offset in offsets(self.recorder.entries), "an entry is handed out")

    async def publish(self, *publications: Publication) -> list[int]:
        """Publish, and see that there is one offset for each publication.

        A log that is busy has appended nothing, and is asked again: it may be that the machine has much else to do.
        """
        for _ in range(BUSY):
            try:
                numbers = await self.broker.publish(publications)
                break
            except Unavailable as error:
                if error.code != "busy":
                    raise
        else:
            raise ConformanceError(f"the log was busy {BUSY} times")
        equal(len(numbers), len(publications), "offsets returned by publish()")
        return numbers

    async def page(
        self,
        topics: TopicSet,
        after: int,
        upto: int | None = None,
        *,
        limit: int = 1_000,
        since: Mapping[str, float] = NO_BOUNDS,
    ) -> Page:
        """Read one page, and see that it is one: bounded, in order, inside its range, and leading on."""
        page = await self.broker.history(topics, after, upto, limit=limit, since=since)
        numbers = [entry.offset for entry in page.entries]
        what = f"a page of {topics.names} after {after} up to {upto}, at most {limit}"
        expect(len(numbers) <= limit, f"{what} holds {len(numbers)} entries")
        expect(_rising([after, *numbers]), f"{what} is not in order after its start: {numbers[:50]}")
        expect(not numbers or numbers[-1] <= page.upto, f"{what} goes beyond its upto {page.upto}")
        expect(upto is None or not numbers or numbers[-1] <= upto, f"{what} goes beyond what was asked for")
        expect(page.upto > after or not page.more, f"{what} says more, and does not lead on")
        expect(page.lost == 0 or page.lost > after, f"{what} lost {page.lost}, which is before its start")
        return page

    async def history(self, *topics: str, after: int = 0, upto: int | None = None, limit: int = 1_000) -> list[Entry]:
        """Read all pages of one snapshot: from the head at the first page, if ``upto`` is None."""
        found: list[Entry] = []
        upto = await self.broker.newest() if upto is None else upto
        more = True
        while more:
            page = await self.page(TopicSet.of(*topics), after, upto, limit=limit)
            found += page.entries
            after, more = page.upto, page.more
        return found

    async def lost(self, *topics: str, after: int = 0, since: Mapping[str, float] = NO_BOUNDS) -> int:
        """Return what the log says is lost of these topics after an offset."""
        return (await self.page(TopicSet.of(*topics), after, since=since)).lost


async def hub(fixture: ConformanceFixture, *listen: str) -> Hub:
    """Open one more hub that listens to these topics."""
    one = Hub(await fixture.broker())
    await one.broker.open(one.recorder)
    if listen:
        await one.broker.listen(listen)
    return one


async def open_hubs(fixture: ConformanceFixture, *listen: str, size: int = 2) -> list[Hub]:
    """Open several hubs that listen to these topics; one, where a log is not shared."""
    size = size if "shared" in fixture.promises else 1
    return [await hub(fixture, FENCE, *listen) for _ in range(size)]


async def everything(hubs: Sequence[Hub]) -> None:
    """Wait until every hub has been handed all that was published so far.

    Two fences in turn: what comes doubled comes before the second at the latest, as hubs are handed all in order.
    """
    for _ in range(2):
        (fence,) = await hubs[0].publish(publication(FENCE))
        for one in hubs:
            await one.wait_for(fence)
    await asyncio.sleep(0)
    for number, one in enumerate(hubs):
        fault = _fault(offsets(one.recorder.entries))
        expect(fault is None, f"hub {number} was not handed entries in order and once: {fault}")
        equal(one.recorder.gaps, [], f"hub {number} was told to have missed something of a log that keeps it")


def publication(topic: str | tuple[str, ...] = "a", data: str = "", *, ttl: float | None = None) -> Publication:
    """Return an ordinary event."""
    return Publication(topics=(topic,) if isinstance(topic, str) else topic, type="message", data=data, ttl=ttl)


def keyed(
    key: str, data: str = "", *, topic: str = "a", digest: bytes | None = None, scope: tuple[str, str] = ("iss", "sub")
) -> Publication:
    """Return an event with an idempotency key; its digest stands for its data."""
    claim = IdempotencyKey(scope=scope, key=key, digest=digest or (data.encode() + bytes(32))[:32])
    return Publication(topics=(topic,), type="message", data=data, key=claim)


def canary(node: str) -> Publication:
    """Return what `/readyz` publishes."""
    return Publication(topics=(f"{CANARY_ROOT}/{node}",), type="canary", data="", ttl=1.0)


def offsets(entries: Iterable[Entry]) -> list[int]:
    """Return the offsets of some entries."""
    return [entry.offset for entry in entries]


def _rising(numbers: Sequence[int]) -> bool:
    return _fault(numbers) is None


def _fault(numbers: Sequence[int]) -> str | None:
    """Return the surroundings of the first offset that is not above the one before."""
    for at, (one, other) in enumerate(pairwise(numbers)):
        if one >= other:
            return f"... {', '.join(map(str, numbers[max(0, at - 3) : at + 5]))} ..."
    return None
