"""The proxy does to connections what it says; else a scenario that passes through it proves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from .calls import Address
from .proxy import Proxy, proxy


@asynccontextmanager
async def echoing() -> AsyncIterator[Address]:
    """Run a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1024):
                writer.write(piece)
        writer.transport.abort()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        yield Address(server.sockets[0].getsockname()[1])


class Line:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def says(self, text: bytes, patience: float = 5.0) -> bytes:
        """Send something and return what comes back; ``b""`` for an end."""
        self.writer.write(text)
        async with asyncio.timeout(patience):
            try:
                return await self.reader.read(1024)
            except ConnectionError:
                return b""


@asynccontextmanager
async def proxying(target: Address) -> AsyncIterator[Proxy]:
    """Run a proxy; at the end the server's side has seen its connections go."""
    before = asyncio.all_tasks()
    with proxy(target) as made:
        yield made
    async with asyncio.timeout(10.0):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0)


@asynccontextmanager
async def line(through: Proxy) -> AsyncIterator[Line]:
    """Open a connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", through.address.port)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


async def test_it_carries_and_delays(time_unit: float) -> None:
    """What is sent arrives and comes back, later when told so."""
    async with echoing() as address, proxying(address) as through, line(through) as one:
        assert await one.says(b"a") == b"a"
        through.delay(2 * time_unit)
        start = time.monotonic()
        assert await one.says(b"b") == b"b"
        assert time.monotonic() - start >= 4 * time_unit


async def test_it_cuts_what_is_open_and_what_comes() -> None:
    """A cut resets open connections and new ones, until it is healed."""
    async with echoing() as address, proxying(address) as through:
        async with line(through) as one:
            assert await one.says(b"a") == b"a"
            through.cut()
            assert await one.says(b"b") == b""
        async with line(through) as two:
            assert await two.says(b"c") == b""
        through.heal()
        async with line(through) as three:
            assert await three.says(b"d") == b"d"


@pytest.mark.parametrize("auth_method", ["up", "down"])
async def test_what_it_holds_arrives_late(auth_method: str, time_unit: float) -> None:
    """While one direction is held nothing comes back, and all of it does once that is over."""
    async with echoing() as address, proxying(address) as through, line(through) as one:
        through.hold(auth_method)  # type: ignore[arg-type]
        with pytest.raises(TimeoutError):
            await one.says(b"a", 2 * time_unit)
        through.heal()
        assert (await one.says(b"b")).startswith(b"a")


async def test_what_it_held_is_gone_after_a_reset() -> None:
    """A network that forgot its connections resets them."""
    async with echoing() as address, proxying(address) as through, line(through) as one:
        through.hold("up", "down")
        one.writer.write(b"a")
        through.heal(reset=True)
        assert await one.says(b"b") == b""


async def test_it_aims_at_another_server() -> None:
    """New connections go to the new server, old ones are reset."""
    async with echoing() as first, echoing() as second, proxying(first) as through:
        async with line(through) as one:
            assert await one.says(b"a") == b"a"
            through.aim(second)
            assert await one.says(b"b") == b""
        async with line(through) as two:
            assert await two.says(b"c") == b"c"
