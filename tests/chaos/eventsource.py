"""A native EventSource, after HTML 9.2.2 to 9.2.6 and written without a look at our own clients.

Where browsers agree with each other and not with the letter, this one does as they do: the last event id survives a
stream without ids. (By the letter the buffer begins empty with each stream, and the first blank line hands that on.)
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, Protocol

from sseal import wire

from .calls import Address, Answer, head_of, read_head

__all__ = ["CLOSED", "CONNECTING", "OPEN", "EventSource", "Page"]

CONNECTING: Final = 0
OPEN: Final = 1
CLOSED: Final = 2

RECONNECTION_TIME: Final = 3.0
"""Seconds, until a stream sends ``retry``; the standard leaves it to the browser: "a few seconds"."""
CONNECT_PATIENCE: Final = 20.0
"""Seconds for a connection and the head of the answer; browsers wait longer."""
SMALL_BUFFER: Final = 4096
"""Bytes a reader that shall feel slow to the hub lets the kernel hold."""


class Page(Protocol):
    """What a page's listeners hear."""

    def opened(self) -> None:
        """``open`` was fired."""
        ...

    def dispatched(self, event: wire.Event) -> None:
        """An event was dispatched; its ``last_event_id`` is what ``event.lastEventId`` would say."""
        ...

    def failed(self, ready_state: int, why: str) -> None:
        """``error`` was fired; ``why`` is for the tests' log alone, no page learns it."""
        ...

    def asked(self, last_event_id: str, status: int) -> None:
        """A request got this status, 0 for none; no page learns it."""
        ...


class EventSource:
    """One `EventSource` object: `run` returns once it is CLOSED.

    :param path: with its query; always the same, as the URL of an EventSource cannot change.
    :param headers: what the browser sends by itself: a cookie, Origin, Sec-Fetch-Site.
    :param pace: awaited between two reads; None to read as fast as it comes. Such a reader has small buffers.
    """

    def __init__(
        self,
        address: Address,
        path: str,
        page: Page,
        *,
        headers: Mapping[str, str] | None = None,
        pace: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.ready_state = CONNECTING
        self.last_event_id = ""
        self._address = address
        self._path = path
        self._page = page
        self._headers = dict(headers or {})
        self._pace = pace
        self._wait = RECONNECTION_TIME
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Connect and read, over and over, until something fails the connection for good."""
        while self.ready_state != CLOSED:
            why = await self._once()
            if self.ready_state == CLOSED:
                self._page.failed(CLOSED, why)
                return
            self.ready_state = CONNECTING  # [spec] reestablish the connection
            self._page.failed(CONNECTING, why)
            await asyncio.sleep(self._wait)

    def drop(self) -> None:
        """Cut the connection, as a network does."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def _once(self) -> str:
        """Make one request and read its stream to the end; return why it ended."""
        try:
            async with asyncio.timeout(CONNECT_PATIENCE):
                reader, answer = await self._ask()
        except OSError as error:  # [spec] a network error: reestablish
            self._page.asked(self.last_event_id, 0)
            return f"no answer: {error!r}"
        self._page.asked(self.last_event_id, answer.status)
        try:
            kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
            if answer.status != 200 or kind != "text/event-stream":  # [spec] fail the connection
                self.ready_state = CLOSED
                return f"{answer.status} {kind} {(await _rest(reader, answer)).decode(errors='replace')[:200]}"
            self.ready_state = OPEN
            self._page.opened()
            return await self._read(reader, answer)
        finally:
            self.drop()
            self._writer = None

    async def _ask(self) -> tuple[asyncio.StreamReader, Answer]:
        sock = socket.socket()
        sock.setblocking(False)
        limit = 64 * 1024
        try:
            if self._pace is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
                limit = SMALL_BUFFER
            await asyncio.get_running_loop().sock_connect(sock, (self._address.host, self._address.port))
            reader, self._writer = await asyncio.open_connection(sock=sock, limit=limit)
        except BaseException:
            sock.close()
            raise
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", **self._headers}
        if self.last_event_id:  # [spec] only when it is not the empty string
            headers["Last-Event-ID"] = self.last_event_id
        try:
            self._writer.write(head_of("GET", self._path, self._address, headers))
            return reader, await read_head(reader)
        except BaseException:
            self.drop()
            raise

    async def _read(self, reader: asyncio.StreamReader, answer: Answer) -> str:
        decoder = wire.Decoder(last_event_id=self.last_event_id)
        why = "the stream ended"
        with suppress(asyncio.IncompleteReadError):
            try:
                async for piece in _body(reader, answer):
                    events = decoder.feed(piece)
                    if decoder.retry is not None:
                        self._wait = decoder.retry / 1000
                    self.last_event_id = decoder.last_event_id
                    for event in events:
                        self._page.dispatched(event)
                    if self._pace is not None:
                        await self._pace()
            except OSError as error:
                why = f"the stream broke: {error!r}"
        return why


async def _body(reader: asyncio.StreamReader, answer: Answer) -> AsyncIterator[bytes]:
    """Yield a body piece by piece (RFC 9112 section 7.1, or up to the end of the connection)."""
    if (length := answer.headers.get("content-length")) is not None:
        yield await reader.readexactly(int(length))
        return
    if answer.headers.get("transfer-encoding", "").lower() != "chunked":
        while piece := await reader.read(16 * 1024):
            yield piece
        return
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        if not size:
            return
        yield await reader.readexactly(size)
        await reader.readexactly(2)


async def _rest(reader: asyncio.StreamReader, answer: Answer) -> bytes:
    """Return the start of a body that is no stream, for the log."""
    body = b""
    with suppress(OSError, asyncio.IncompleteReadError):
        async with asyncio.timeout(1.0):
            async for piece in _body(reader, answer):
                body += piece
                if len(body) > 1024:
                    break
    return body
