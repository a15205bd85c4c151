"""The readers: pages with a native EventSource, by ticket and by cookie, fast and slow; and the Python client."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import httpx2

from running import SECRET
from sseal import client, wire
from sseal.auth.jwt import sign
from sseal.client.backoff import Backoff
from sseal.position import Position

from .calls import Address, Answer, NotSentError, request
from .eventsource import CLOSED, EventSource
from .record import Connected, GapSeen, Opened, Parted, ReaderRecord, Received

__all__ = ["MARKER", "ClientReader", "CookiePage", "Reader", "TicketPage", "issue", "position_of", "slowly"]

AGAIN: Final = 1.0
"""Seconds between two requests for a way in: a page asks at most every second (W15)."""
CLIENT_IDLE: Final = 5.0
"""Seconds of silence after which the Python client connects anew; the hubs send a heartbeat every second."""
CLIENT_BACKOFF: Final = 2.0

MARKER: Final = "marker"
"""The publisher whose events tell that a reader is up to date."""

now = time.monotonic


def issue(subject: str, *, admin: bool = False) -> str:
    """Return a token that may read and publish everything.

    It was issued four hours ago: a hub whose clock is behind by less takes it too.
    """
    at = int(time.time())
    grants = {"subscribe": ["**"], "publish": ["**"], "admin": admin}
    return sign({"sub": subject, "iat": at - 4 * 3600, "exp": at + 3600, "sseal": grants}, SECRET)


def position_of(event_id: str) -> Position:
    """Return the position in an id, without the resume token before it."""
    position = Position.parse(event_id.rpartition("_")[2])
    assert position is not None, f"no id of ours: {event_id!r}"
    return position


class Reader:
    """What all readers have: a record, and a task that keeps it.

    :ivar markers: the payloads of the last publisher of all that it has had.
    """

    kind = ""

    def __init__(self, name: str, address: Address, topics: Sequence[str]) -> None:
        self.record = ReaderRecord(name, self.kind, tuple(topics))
        self.address = address
        self.markers: set[str] = set()
        self.is_open = False
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read."""
        self.task = asyncio.create_task(self.run(), name=self.record.name)

    async def run(self) -> None:
        """Read for good."""
        raise NotImplementedError

    def cut(self) -> None:
        """Cut the connection, as a network does."""

    async def stop(self) -> None:
        """End it, and raise what made it end by itself."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
            if not self.task.cancelled() and (error := self.task.exception()) is not None:
                raise error

    def note(self, event: wire.Event) -> None:
        """Record one event of a stream."""
        seen, at = self.record.seen, now()
        if event.type == "auth":
            if event.id is not None:
                seen.append(Opened(at, position_of(event.last_event_id)))
                self.is_open = True
        elif event.type == "gap":
            told = wire_members(event.data)
            start = told["from"]
            assert position_of(event.last_event_id) == position_of(told["to"])
            seen.append(GapSeen(at, position_of(start) if start else None, position_of(told["to"]), told["reason"]))
        elif event.type == "bye":
            seen.append(Parted(at, f"bye {wire_members(event.data)['reason']}"))
        else:
            self.note_received(event)

    def note_received(self, event: wire.Event) -> None:
        """Record one event of the application. Its payload is the first word of its data; the rest is weight."""
        payload = event.data.partition(" ")[0]
        self.record.seen.append(Received(now(), position_of(event.last_event_id), payload))
        if payload.startswith(MARKER):
            self.markers.add(payload)


class _Page(Reader):
    """A page with a native EventSource: whenever that gives up for good, the page gets itself a new way in."""

    def __init__(
        self,
        name: str,
        address: Address,
        topics: Sequence[str],
        *,
        pace: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(name, address, topics)
        self._token = issue(name)
        self._pace = pace
        self._source: EventSource | None = None
        self._cursor = ""  # the position of the last event the page has heard of

    async def run(self) -> None:
        """Get in and read; again whenever the EventSource is CLOSED."""
        while True:
            asked = now()
            path, headers = await self._way_in()
            self._source = EventSource(self.address, path, self, headers=headers, pace=self._pace)
            await self._source.run()
            self.record.closed += 1
            await asyncio.sleep(max(0.0, asked + AGAIN - now()))

    def cut(self) -> None:
        """Cut the connection, as a network does."""
        if self._source is not None:
            self._source.drop()

    async def _way_in(self) -> tuple[str, Mapping[str, str]]:
        """Return path and headers of the EventSource to make."""
        raise NotImplementedError

    async def _post(self, path: str, body: object) -> Answer:
        """Ask until the hub is there to answer."""
        headers = {"Authorization": f"Bearer {self._token}", "Origin": self.address.origin}
        while True:
            try:
                answer = await request(self.address, "POST", path, headers=headers, body=body)
            except (NotSentError, OSError):
                pass
            else:
                if answer.status in (200, 201):
                    return answer
                assert answer.status in (429, 500, 502, 503, 504), f"{path} was answered {answer}"
            await asyncio.sleep(AGAIN)

    def _query(self) -> str:
        topics = "".join(f"&topic={topic}" for topic in self.record.topics)
        return topics + (f"&last_event_id={self._cursor}" if self._cursor else "")

    # -- what the EventSource fires

    def opened(self) -> None:
        """``open``: the head is there, the ``auth`` event follows."""

    def dispatched(self, event: wire.Event) -> None:
        """Take an event: what the page remembers is the position, not the resume token (W38)."""
        if event.last_event_id:
            self._cursor = str(position_of(event.last_event_id))
        self.note(event)

    def failed(self, ready_state: int, why: str) -> None:
        """``error``."""
        self.is_open = False
        self.record.seen.append(Parted(now(), f"{'closed: ' if ready_state == CLOSED else ''}{why}"))

    def asked(self, last_event_id: str, status: int) -> None:
        """Record a request."""
        self.record.connects.append(Connected(now(), last_event_id, status))


class TicketPage(_Page):
    """A page that opens its EventSource with a one-time ticket."""

    kind = "ticket"

    async def _way_in(self) -> tuple[str, Mapping[str, str]]:
        answer = await self._post("/auth/sse", {"topics": list(self.record.topics)})
        headers = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
        return f"/events?ticket={answer.problem['ticket']}{self._query()}", headers


class CookiePage(_Page):
    """A page whose EventSource sends the session cookie."""

    kind = "cookie"

    async def _way_in(self) -> tuple[str, Mapping[str, str]]:
        answer = await self._post("/auth/session", None)
        cookie = answer.headers["set-cookie"].partition(";")[0]
        return f"/events?{self._query()[1:]}", {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}


class ClientReader(Reader):
    """A Python program with `sseal.client`; it does not show the position its streams begin at."""

    kind = "client"

    def __init__(
        self, name: str, address: Address, topics: Sequence[str], http: httpx2.AsyncClient, *, ticket: bool = False
    ) -> None:
        super().__init__(name, address, topics)
        self._http = http
        self._ticket = ticket

    async def run(self) -> None:
        """Read; the client comes back by itself."""
        stream = client.connect(
            self.address.origin,
            topics=self.record.topics,
            token=self._issue,
            ticket=self._ticket,
            http=self._http,
            on_gap=self._note_gap,
            idle_timeout=CLIENT_IDLE,
            backoff=Backoff(maximum=CLIENT_BACKOFF),
        )
        async with stream:
            self.record.seen.append(Opened(now(), None))
            self.is_open = True
            async for event in stream:
                self.note_received(event)

    async def _issue(self) -> str:
        return issue(self.record.name)

    def _note_gap(self, gap: client.Gap) -> None:
        start = None if gap.start is None else position_of(gap.start)
        self.record.seen.append(GapSeen(now(), start, position_of(gap.end), gap.reason))


def slowly(rng: random.Random, longest: float, until: asyncio.Event) -> Callable[[], Awaitable[None]]:
    """Return the pace of a reader that now and then reads nothing for a while.

    :param longest: seconds of one pause at most.
    :param until: when it is set, the reader has become a fast one.
    """

    async def pace() -> None:
        if not until.is_set() and rng.random() < 0.04:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(longest * rng.uniform(0.5, 1.0)):
                    await until.wait()

    return pace


def wire_members(data: str) -> dict[str, str]:
    """Return the members of a control event."""
    answer = Answer(200, {}, data.encode()).problem
    assert answer, f"no members: {data!r}"
    return answer
