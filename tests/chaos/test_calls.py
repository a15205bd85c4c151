"""A request tells apart what is known from what is not; else the checker would blame a hub for a broken connection."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from servers import free_port

from .calls import Address, NotSentError, request
from .publishers import Publisher

HEAD = b"HTTP/1.1 201 Created\r\nContent-Length: 16\r\n\r\n"


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[Address]:
    """Run a server that reads one request, answers with these bytes and is gone."""

    async def answer_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"}")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(answer_it, "127.0.0.1", 0) as server:
        yield Address(server.sockets[0].getsockname()[1])


async def test_a_whole_answer_is_read() -> None:
    """Status and body of an answer that arrives."""
    async with answering(HEAD + b'{"ids": ["a-1"]}') as address:
        answer = await request(address, "POST", "/events", headers={}, body={})
        assert (answer.status, answer.problem) == (201, {"ids": ["a-1"]})


@pytest.mark.parametrize(
    "answer", [b"", HEAD[:20], HEAD, HEAD + b'{"ids"'], ids=["none", "half a head", "head", "half"]
)
async def test_an_answer_that_breaks_off_is_none(answer: bytes) -> None:
    """A hub that is killed while it answers has said nothing that one can go by."""
    async with answering(answer) as address:
        with pytest.raises(ConnectionError):
            await request(address, "POST", "/events", headers={}, body={})
        publisher = Publisher("p", [address], lambda: ("a",), random.Random(1), keyed=False, pause=0.1)
        assert (await publisher.publish(("a",))).outcome == "unknown"


async def test_what_was_never_sent_is_known_not_to_have_happened() -> None:
    """No connection, no doubt."""
    address = Address(free_port())
    with pytest.raises(NotSentError):
        await request(address, "POST", "/events", headers={}, body={})
    publisher = Publisher("p", [address], lambda: ("a",), random.Random(1), keyed=True, pause=0.1)
    assert (await publisher.publish(("a",))).outcome == "refused"
