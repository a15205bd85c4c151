"""A hub engine with a clock turned by hand and sinks that remember, for tests without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sseal import wire
from sseal.auth.identity import Identity
from sseal.delivery.node import Node
from sseal.hub_settings import HubSettings
from sseal.position import Position, Resolution
from sseal.publisher import publication
from sseal.storage import MemoryBroker, Retention
from sseal.stream.connection import Connection
from sseal.subscription import Subscription, TopicSet
from sseal.testing import ManualClock


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
        self.node.pump(self.connection)

    def stick(self) -> None:
        """Stop reading."""
        self.sink.stuck = True

    def leave(self) -> None:
        """Go away."""
        from sseal.stream import reasons

        self.node.leave(self.connection, reasons.CLIENT_GONE)


class NodeHarness:
    """One engine on one memory log."""

    def __init__(
        self, retention: Retention | None = None, *, kind: type[MemoryBroker] = MemoryBroker, **settings: object
    ) -> None:
        self.clock = ManualClock(wall=1_700_000_000.0)
        self.settings = HubSettings(handle_signals=False, **settings)  # type: ignore[arg-type]
        self.broker = kind(self.clock, retention)
        self.node = Node(self.broker, self.clock, self.settings)

    async def __aenter__(self) -> NodeHarness:
        """Start the engine."""
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
        """Open a stream as `sseal.asgi.subscribe` does."""
        node = self.node
        subscription = Subscription(
            identity or Identity(subject="alice", auth_method="bearer"), TopicSet.of(*topics), since or {}
        )
        await node.listen(subscription)
        presented = None if last is None else Position.parse(last)
        if presented is not None:
            where = await node.locate(presented)
        else:
            where = Resolution(node.head_of(subscription).offset, None if last is None else "unknown_position")
        connection = Connection(
            node.new_connection_id(),
            subscription,
            where.offset,
            presented=presented,
            gap=where.reason,
            from_oldest=where.oldest,
            token=None if token is None else token.encode(),
            envelope=envelope,
            opened_at=self.clock.monotonic(),
        )
        node.enter(connection)
        reader = Reader(node, connection, Sink())
        if attach:
            self.attach(reader)
        return reader

    def attach(self, reader: Reader) -> None:
        """Give the stream its sink, with the first body in it."""
        reader.sink.write(self.node.opening(reader.connection))
        self.node.attach(reader.connection, reader.sink)
