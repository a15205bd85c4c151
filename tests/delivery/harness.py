"""A node with a clock turned by hand and sinks that remember, for tests without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sseal import wire
from sseal.auth.identity import Identity
from sseal.auth.last_event_id import LastEventId
from sseal.authorizer import Authorizer
from sseal.delivery.admission import Admission, StreamRequest
from sseal.delivery.node import Node
from sseal.delivery.node_rpc import NodeRpc, new_node_id
from sseal.delivery.stream_limits import StreamLimits
from sseal.delivery.throttling import Throttling
from sseal.hub_settings import HubSettings
from sseal.identity_sources.tickets import RedeemedTicket, Tickets
from sseal.limits import Limits
from sseal.position import Position
from sseal.publisher import publication
from sseal.storage import MemoryBroker, MemoryStore, Retention
from sseal.stream.connection import Connection
from sseal.testing import ManualClock

UNLIMITED = Limits(streams_per_subject=0, connects_per_minute_per_subject=0)
"""A test may open as many streams of one subject as it likes."""


class Sink:
    """Remembers what it was given; full for as long as a test says so."""

    def __init__(self) -> None:
        self.data = b""
        self.held = 0
        self.stuck = False
        self.closed = False
        self.aborted = False

    @property
    def buffered(self) -> int:
        """Bytes that were not taken by the reader."""
        return self.held

    def write(self, data: bytes) -> None:
        """Take bytes; hold them while stuck."""
        if not self.closed and not self.aborted:
            self.data += data
            if self.stuck:
                self.held += len(data)

    chunked = False
    clear = False
    put = write

    def close(self) -> None:
        """Note the end."""
        self.closed = True

    def abort(self) -> None:
        """Note the sudden end."""
        self.aborted = True

    @property
    def events(self) -> list[wire.Event]:
        """Everything written so far, decoded."""
        return wire.Decoder().feed(self.data)


class Reader:
    """A stream and what it received."""

    def __init__(self, node: Node, connection: Connection, sink: Sink) -> None:
        self.node = node
        self.connection = connection
        self.sink = sink

    @property
    def events(self) -> list[wire.Event]:
        """Everything received, control events included."""
        return self.sink.events

    @property
    def data(self) -> list[str]:
        """The data of everything but control events."""
        return [event.data for event in self.events if event.type not in wire.RESERVED_TYPES]

    @property
    def gaps(self) -> list[wire.Event]:
        """The gaps that were announced."""
        return [event for event in self.events if event.type == "gap"]

    @property
    def last_id(self) -> str:
        """What a browser would send as Last-Event-ID."""
        return self.events[-1].last_event_id if self.events else ""

    def drain(self) -> None:
        """Read what was held, as a reader that wakes up; stays awake."""
        self.sink.stuck = False
        self.sink.held = 0
        self.node.sinks.on_drained(self.connection)

    def stick(self) -> None:
        """Stop reading."""
        self.sink.stuck = True

    def leave(self) -> None:
        """Go away."""
        from sseal.stream import reasons

        self.node.streams.unregister(self.connection, reasons.CLIENT_GONE)


class Caller:
    """Who opens a stream, as a front would have found out."""

    def __init__(self, identity: Identity, redeemed: RedeemedTicket | None) -> None:
        self.identity = identity
        self.redeemed = redeemed

    async def authenticate(self) -> Caller:
        """Return it."""
        return self


class NodeHarness:
    """One node on one memory log and store, and what opens its streams."""

    def __init__(
        self, retention: Retention | None = None, *, kind: type[MemoryBroker] = MemoryBroker, **settings: object
    ) -> None:
        self.clock = ManualClock(wall=1_700_000_000.0)
        self.settings = HubSettings(handle_signals=False, **{"limits": UNLIMITED, **settings})  # type: ignore[arg-type]
        self.broker = kind(self.clock, retention)
        store = MemoryStore(self.clock)
        rpc = NodeRpc(store, new_node_id())
        self.node = Node(self.broker, store, rpc, self.clock, self.settings)
        self.since: dict[str, float] = {}
        limits = self.settings.limits
        self.tickets = Tickets(store, self.clock, ttl=30.0, grace=120.0, resume_ttl=3600.0, node=rpc.node_id)
        self.admission = Admission(
            self.node,
            Authorizer(self._authorize, max_topics=0),
            self.tickets,
            Throttling(store, self.clock, limits),
            StreamLimits(store, self.node.streams, rpc, self.clock, limits),
            rpc,
        )

    async def _authorize(self, identity: Identity, topics: Sequence[str]) -> dict[str, float | None]:
        """Allow everything, from the moments that a test names."""
        return {topic: self.since.get(topic) for topic in topics}

    async def __aenter__(self) -> NodeHarness:
        """Start the node."""
        await self.node.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop it."""
        await self.node.stop()

    async def publish(self, topics: str | Sequence[str], *data: object, **options: object) -> list[Position]:
        """Publish, one event per datum; delivery happens in `settle`."""
        publications = [publication(topics, item, limits=self.settings.limits, **options) for item in data]  # type: ignore[arg-type]
        return await self.node.publish(publications)

    async def settle(self) -> None:
        """Let everything that is ready run."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def read(
        self,
        *topics: str,
        last: str | None = None,
        identity: Identity | None = None,
        token: str | None = None,
        envelope: bool = False,
        since: dict[str, float] | None = None,
        attach: bool = True,
    ) -> Reader:
        """Open a stream, with a resume token if one is given."""
        self.since = since or {}
        identity = identity or Identity(subject="alice", auth_method="bearer")
        redeemed = None if token is None else RedeemedTicket(identity, list(topics), token)
        request = StreamRequest(
            topics=topics, last_event_id=None if last is None else LastEventId.parse(last), envelope=envelope
        )
        connection = await self.admission.open(request, Caller(identity, redeemed).authenticate)
        reader = Reader(self.node, connection, Sink())
        if attach:
            self.attach(reader)
        return reader

    def attach(self, reader: Reader) -> None:
        """Give the stream its sink, with the first body in it."""
        reader.sink.write(self.admission.first_body(reader.connection))
        self.node.sinks.attach(reader.connection, reader.sink)
