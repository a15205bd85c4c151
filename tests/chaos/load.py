"""Two hundred readers and a dozen publishers, what they saw, and the judgement on it."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Final

import httpx2

from .calls import Address
from .checker import Verdict, check
from .processes import until
from .publishers import Publisher
from .readers import MARKER, ClientReader, CookiePage, Reader, TicketPage, slowly
from .record import History, Opened

__all__ = ["ROOMS", "Load", "Mix", "load"]

COMMON: Final = "news"
ROOMS: Final = tuple(f"room/{number}" for number in range(1, 21))
OPENING: Final = 30.0
SETTLING: Final = 40.0
"""Seconds after the last fault for every reader to have everything."""
MAX_VISITORS: Final = 30
AT_ONCE: Final = 40
"""Readers that get in at the same time: a crowd, not a denial of service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """How many of whom.

    :param pause: mean seconds between two events of one publisher.
    :param longest: seconds a slow reader reads nothing at most.
    """

    tickets: int = 80
    cookies: int = 60
    slow: int = 30
    clients: int = 30
    ticket_clients: int = 10
    publishers: int = 14
    pause: float = 0.12
    longest: float = 2.0


class Load:
    """Everybody who reads and publishes in one scenario.

    :param doors: the addresses readers go to, each to one of them for good; publishers try all.
    """

    def __init__(self, doors: Sequence[Address], mix: Mix, seed: int, http: httpx2.AsyncClient) -> None:
        self.rng = random.Random(seed)
        self._doors = doors
        self._visitors = 0
        self._stop = asyncio.Event()
        self.readers = self._make_readers(doors, mix, http)
        self.publishers = [
            Publisher(
                f"p{number}",
                [*doors[number % len(doors) :], *doors[: number % len(doors)]],
                self._choose,
                self.rng,
                keyed=number % 3 == 0,  # at each door some of both
                pause=mix.pause,
            )
            for number in range(mix.publishers)
        ]
        self._marker = Publisher(MARKER, doors, self._choose, self.rng, keyed=True, pause=0.0)
        self._publishing: list[asyncio.Task[None]] = []
        self._began = time.monotonic()

    def _make_readers(self, doors: Sequence[Address], mix: Mix, http: httpx2.AsyncClient) -> list[Reader]:
        readers: list[Reader] = []

        def add(count: int, kind: str, make: Callable[[str, Address, tuple[str, ...]], Reader]) -> None:
            for number in range(count):
                readers.append(make(f"{kind}-{number}", doors[number % len(doors)], self._topics(number)))

        add(mix.tickets, "ticket", TicketPage)
        add(mix.cookies, "cookie", CookiePage)
        pace = slowly(self.rng, mix.longest, self._stop)
        add(mix.slow, "slow", partial(CookiePage, pace=pace))
        add(mix.clients, "client", partial(ClientReader, http=http))
        add(mix.ticket_clients, "ticket-client", partial(ClientReader, http=http, ticket=True))
        return readers

    def _topics(self, number: int) -> tuple[str, ...]:
        if number % 10 == 9:
            return (COMMON, "room/*")
        return (COMMON, *self.rng.sample(ROOMS, self.rng.randint(1, 3)))

    def _choose(self) -> tuple[str, ...]:
        """Return the topics of an event: mostly one room, sometimes all readers, sometimes both at once (W27)."""
        room = self.rng.choice(ROOMS)
        return self.rng.choices([(room,), (COMMON,), (COMMON, room)], [17, 2, 1])[0]

    async def open(self) -> None:
        """Let the readers in, then begin to publish."""
        for start in range(0, len(self.readers), AT_ONCE):
            some = self.readers[start : start + AT_ONCE]
            for reader in some:
                reader.start()
            await until(lambda some=some: all(r.is_open for r in some), OPENING, self._missing)  # type: ignore[misc]
        self._began = time.monotonic()
        for publisher in self.publishers:
            self._publishing.append(asyncio.create_task(publisher.run(self._stop)))

    def _missing(self) -> str:
        self._raise_failed()
        shut = [reader for reader in self.readers if not reader.is_open]
        return f"{len(shut)} readers to get in, such as {[(r.record.name, r.record.seen[-3:]) for r in shut[:3]]}"

    async def load(self, seconds: float) -> None:
        """Let everybody go on for a while."""
        await asyncio.sleep(seconds)
        self._raise_failed()

    async def churn(self, pause: float) -> None:
        """Cut a page's connection and let a visitor come for a while, every so many seconds, until cancelled."""
        pages = [reader for reader in self.readers if not isinstance(reader, ClientReader)]
        visits: set[asyncio.Task[None]] = set()
        try:
            while True:
                await asyncio.sleep(self.rng.uniform(0.5, 1.5) * pause)
                self.rng.choice(pages).cut()
                if len(visits) < MAX_VISITORS:
                    task = asyncio.create_task(self._visit())
                    visits.add(task)
                    task.add_done_callback(visits.discard)
        finally:
            await asyncio.gather(*visits)

    async def _visit(self) -> None:
        """Be a reader with a name of its own, who leaves without a word."""
        self._visitors += 1
        name, door = f"visitor-{self._visitors}", self.rng.choice(self._doors)
        make = self.rng.choice((TicketPage, CookiePage))
        visitor = make(name, door, self._topics(self._visitors))
        self.readers.append(visitor)
        visitor.start()
        await asyncio.sleep(self.rng.uniform(0.1, 3.0))
        await visitor.stop()

    async def settle(self) -> None:
        """End the publishing, and wait until every reader has the last event of each of its topics."""
        self._stop.set()
        async with asyncio.timeout(SETTLING):
            await asyncio.gather(*self._publishing)
        last = {topic: (await self._marker.insist((topic,))).payload for topic in (COMMON, *ROOMS)}
        end = time.monotonic() + SETTLING
        while time.monotonic() < end and not all(reader.record.settled for reader in self._staying()):
            for reader in self._staying():
                names = ROOMS if "room/*" in reader.record.topics else reader.record.topics[1:]
                reader.record.settled = reader.markers.issuperset(last[topic] for topic in (COMMON, *names))
            self._raise_failed()
            await asyncio.sleep(0.05)

    def judge(self, log: Mapping[str, Sequence[int]], *, keeps: bool = True) -> Verdict:
        """Return what the checker says."""
        publishes = [publish for p in (*self.publishers, self._marker) for publish in p.published]
        return check(History(publishes, [reader.record for reader in self.readers], log, keeps))

    def unsettled(self) -> list[str]:
        """Return who did not get the last events, with what they saw last."""
        return [f"{r.record.name}: {r.record.seen[-3:]}" for r in self._staying() if not r.record.settled]

    def _staying(self) -> list[Reader]:
        return [reader for reader in self.readers if reader.task is not None and not reader.task.cancelled()]

    def closures(self, kind: str = "") -> int:
        """Count how often an EventSource gave up for good."""
        return sum(reader.record.closed for reader in self.readers if reader.kind.startswith(kind))

    def summary(self, verdict: Verdict) -> str:
        """Return what happened in one line."""
        outcomes = Counter(publish.outcome for publisher in self.publishers for publish in publisher.published)
        records = [reader.record for reader in self.readers]
        opened = sum(isinstance(item, Opened) for record in records for item in record.seen)
        received = sum(len(record.received) for record in records)
        gaps = sum(len(record.gaps) for record in records)
        acknowledged, unknown, refused = (outcomes[outcome] for outcome in ("acknowledged", "unknown", "refused"))
        return (
            f"{len(records)} readers; published {acknowledged} acknowledged, {unknown} unknown, {refused} refused; "
            f"received {received}, {gaps} gaps, {verdict.repeats} repeats, {verdict.untold} untold; "
            f"{opened - len(records)} reconnects, {self.closures()} given up; longest silence {self._silence():.1f} s"
        )

    def _silence(self) -> float:
        """Return the longest time in which a reader that is not slow received nothing, in seconds."""
        longest = 0.0
        for reader in self.readers:
            if not reader.record.name.startswith(("slow", "visitor")):
                times = [self._began, *(item.at for item in reader.record.received if item.at >= self._began)]
                longest = max([longest, *(after - before for before, after in pairwise(times))])
        return longest

    def _raise_failed(self) -> None:
        """Raise what ended a reader or publisher that should have gone on."""
        tasks = [reader.task for reader in self.readers] + list(self._publishing)
        for task in tasks:
            if task is not None and task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def close(self) -> None:
        """Send everybody home."""
        self._stop.set()
        for task in self._publishing:
            task.cancel()
        await asyncio.gather(*self._publishing, return_exceptions=True)
        await asyncio.gather(*(reader.stop() for reader in self.readers), return_exceptions=True)


@asynccontextmanager
async def load(doors: Sequence[Address], mix: Mix, seed: int) -> AsyncIterator[Load]:
    """Gather a crowd in front of these doors, let it in, and send it home at the end."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx2.AsyncClient(limits=limits, trust_env=False) as http:
        made = Load(list(doors), mix, seed, http)
        try:
            await made.open()
            yield made
        finally:
            await made.close()
