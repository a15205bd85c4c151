"""A hub under a clock turned by hand, driven in process or behind a real server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn

from asgi.conformance import problems_of
from asgi.driver import PATIENCE, SECRET, Block, Headers, Reply, Stream, open_stream, parse_blocks, request
from sseal import Hub, HubSettings, Limits
from sseal.testing import ManualClock

__all__ = ["HubFixture"]


class HubFixture:
    """A hub, its clock, and short words for what the tests do with it."""

    def __init__(self, hub: Hub, clock: ManualClock) -> None:
        self.hub = hub
        self.clock = clock
        self.node = hub.node
        self._streams: list[Stream] = []

    async def ask(self, method: str, target: str, headers: Headers = (), **options: Any) -> Reply:
        """Send one request; its answer is as the OpenAPI document says."""
        reply = await request(self.hub.asgi, method, target, headers, **options)
        if not options.get("root_path"):
            assert problems_of(method, target, reply) == [], (method, target, reply)
        return reply

    def stream(self, target: str = "/events", headers: Headers = (), **options: Any) -> Stream:
        """Ask for a stream; it is left at the end of the test."""
        stream = open_stream(self.hub.asgi, target, headers, **options)
        self._streams.append(stream)
        return stream

    async def try_stream(self, target: str = "/events", headers: Headers = (), **options: Any) -> int:
        """Ask for a stream and leave it; return the status."""
        stream = self.stream(target, headers, **options)
        async with asyncio.timeout(PATIENCE):
            await stream.answered()
        await stream.leave()
        return stream.status

    async def ticket(self, headers: Headers, **body: Any) -> str:
        """Mint a ticket."""
        reply = await self.ask("POST", "/auth/sse", headers, json=body)
        assert reply.status == 201, reply.body
        return str(reply.json["ticket"])

    async def turn(self, seconds: float) -> None:
        """Let time pass in small steps, at each of which the timers look at it and the streams take what they say."""
        end = self.clock.wall() + seconds
        while self.clock.wall() < end:
            self.clock.advance(min(5.0, end - self.clock.wall()))
            self.node.tick()
            for _ in range(5):
                await asyncio.sleep(0)

    @property
    def state(self) -> tuple[str, int, int, int]:
        """What a refused request must not change: log, streams, store, revocations."""
        return (
            self.hub.position(),
            len(self.node.connections),
            len(self.hub._parts.store),
            len(self.node.revocations),
        )

    async def close(self) -> None:
        """End everything."""
        for stream in self._streams:
            await stream.leave()
        await self.hub.aclose()


MakeHubFixture = Callable[..., Awaitable[HubFixture]]


@pytest.fixture
async def make_fixture() -> AsyncIterator[MakeHubFixture]:
    """Make a started hub with the settings given; ``limits`` is a dict of bounds to change."""
    made: list[HubFixture] = []

    async def make(
        *,
        authenticate: Any = None,
        authorize: Any = None,
        limits: dict[str, Any] | None = None,
        **settings: Any,
    ) -> HubFixture:
        clock = ManualClock()
        settings = {"jwt_secret": (SECRET,), "jwt_leeway": 0.0, "handle_signals": False, **settings}
        chosen = HubSettings(**settings, limits=Limits(**(limits or {})))
        hub = Hub(chosen, authenticate=authenticate, authorize=authorize, clock=clock)
        await hub.start()
        made.append(HubFixture(hub, clock))
        return made[-1]

    yield make
    for fixture in made:
        await fixture.close()


@pytest.fixture
async def fixture(make_fixture: MakeHubFixture) -> HubFixture:
    """Return a hub with one secret and otherwise default settings."""
    return await make_fixture()


class Wire:
    """A raw connection to a real server: bytes out, head and stream blocks in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.status = 0
        self.headers: dict[str, list[str]] = {}
        self._blocks: list[Block] = []
        self._rest = ""

    async def send(self, method: str, target: str, headers: Headers = (), body: bytes = b"", host: str = "") -> None:
        """Write one request and read the head of its answer."""
        pairs = [*(headers.items() if hasattr(headers, "items") else headers)]
        if not any(name == "host" for name, _ in pairs):
            address = self._writer.get_extra_info("peername")
            pairs.insert(0, ("host", host or f"{address[0]}:{address[1]}"))
        if body:
            pairs.append(("content-length", str(len(body))))
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in pairs)]
        self._writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        async with asyncio.timeout(PATIENCE):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *rest = head.split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = {}
        for line in filter(None, rest):
            name, _, value = line.partition(":")
            self.headers.setdefault(name.strip().lower(), []).append(value.strip())

    async def body(self) -> bytes:
        """Read a body with a length."""
        (length,) = self.headers.get("content-length", ["0"])
        async with asyncio.timeout(PATIENCE):
            return await self._reader.readexactly(int(length))

    async def chunk(self) -> bytes:
        """Read one chunk; empty at the end of the response or of the connection."""
        assert self.headers.get("transfer-encoding") == ["chunked"]
        async with asyncio.timeout(PATIENCE):
            try:
                size = int(await self._reader.readuntil(b"\r\n"), 16)
                return (await self._reader.readexactly(size + 2))[:-2]
            except (asyncio.IncompleteReadError, ConnectionError):
                return b""

    async def event(self) -> Block | None:
        """Read the next event; None at the end of the stream."""
        while True:
            while self._blocks:
                block = self._blocks.pop(0)
                if block.type != "retry":
                    return block
            if not (data := await self.chunk()):
                return None
            blocks, self._rest = parse_blocks(self._rest + data.decode())
            self._blocks += blocks

    async def rest(self) -> list[Block]:
        """Read to the end of the stream."""
        blocks = []
        while (block := await self.event()) is not None:
            blocks.append(block)
        return blocks

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


@dataclass
class HubServer:
    """A hub behind uvicorn on a free port of loopback."""

    fixture: HubFixture
    port: int
    wires: list[Wire]

    @property
    def origin(self) -> str:
        """The hub's own origin."""
        return f"http://127.0.0.1:{self.port}"

    async def connect(self) -> Wire:
        """Open a connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.wires.append(Wire(reader, writer))
        return self.wires[-1]

    async def send(self, method: str, target: str, headers: Headers = (), body: bytes = b"", host: str = "") -> Wire:
        """Open a connection and send one request over it."""
        wire = await self.connect()
        await wire.send(method, target, headers, body, host)
        return wire


MakeServer = Callable[..., Awaitable[HubServer]]


@pytest.fixture
async def make_server(make_fixture: MakeHubFixture) -> AsyncIterator[MakeServer]:
    """Make a hub behind uvicorn, which shares this event loop and nothing else: requests go over sockets."""
    running: list[tuple[uvicorn.Server, asyncio.Task[None], HubServer]] = []

    async def make(**settings: Any) -> HubServer:
        fixture = await make_fixture(**settings)
        config = uvicorn.Config(
            fixture.hub.asgi, port=0, lifespan="off", log_config=None, access_log=False, ws="none", loop="none"
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        async with asyncio.timeout(PATIENCE):
            while not server.started:
                await asyncio.sleep(0)
        made = HubServer(fixture, server.servers[0].sockets[0].getsockname()[1], [])
        running.append((server, task, made))
        return made

    yield make
    for server, task, made in running:
        for wire in made.wires:
            await wire.close()
        await made.fixture.hub.drain()
        server.should_exit = True
        await task


@pytest.fixture
async def hub_server(make_server: MakeServer) -> HubServer:
    """Return a hub behind a real server."""
    return await make_server()
