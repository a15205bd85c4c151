"""The sink of the plain path: any ASGI server, one task per stream, no queue beyond the high-water mark."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import Receive, Send

from ..stream.connection import Connection, SinkOwner

__all__ = ["PlainSink"]


class PlainSink:
    """Takes bytes at once and hands them to ``send`` in a task.

    :param first: what is to be sent first; empty when the first body was sent already.
    :param cut: closes the transport at once, where the server lets us; else that is up to the server.
    :param owner: told when everything taken has been handed over, and when the client has left.
    """

    def __init__(
        self, first: bytes, owner: SinkOwner, connection: Connection, *, cut: Callable[[], None] | None = None
    ) -> None:
        self._chunks = [first] if first else []  # taken, and not yet given to ``send``
        self._size = len(first)  # bytes taken that ``send`` has not returned for
        self._owner = owner
        self._cut = cut
        self._connection = connection
        self._closing = False  # nothing more is taken; what was taken is still sent
        self._dead = False  # nothing is sent any more
        self._wake: asyncio.Future[None] | None = None  # what the sending task waits for while it has nothing to send
        self._task: asyncio.Task[object] | None = None  # that task: the request's own

    chunked = False
    clear = False

    @property
    def buffered(self) -> int:
        """Bytes taken that ``send`` has not returned for."""
        return self._size

    def write(self, data: bytes) -> None:
        """Take bytes."""
        if self._closing or self._dead:
            return
        self._chunks.append(data)
        self._size += len(data)
        self._wake_up()

    put = write

    def close(self) -> None:
        """End the response after what was taken, at most ``close_timeout`` seconds from now."""
        if self._closing or self._dead:
            return
        self._closing = True
        self._wake_up()
        if self._task is not None:
            asyncio.get_running_loop().call_later(self._owner.close_timeout, self.abort)

    def abort(self) -> None:
        """Give up what was taken and end: at once if ``send`` is not waiting, else by cancelling it."""
        if self._dead:
            return
        self._chunks.clear()
        if self._wake is not None and not self._wake.done():
            self._closing = True
            self._wake.set_result(None)
            return
        self._dead = True
        if self._cut is not None:
            self._cut()
        if self._task is not None:
            self._task.cancel()

    async def run(self, receive: Receive, send: Send) -> None:
        """Hand over bytes until the stream is closed or the client has gone. Call it once, after the head."""
        self._task = asyncio.current_task()
        if self._closing:  # before it began
            asyncio.get_running_loop().call_later(self._owner.close_timeout, self.abort)
        listener = asyncio.create_task(self._listen(receive))
        try:
            await self._send_chunks(send)
        except asyncio.CancelledError:
            if not self._dead or self._task is None:
                raise
            self._task.uncancel()
        finally:
            self._dead = True
            listener.cancel()
            self._task = None

    async def _send_chunks(self, send: Send) -> None:
        while not self._dead:
            if self._chunks:
                data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
                self._chunks.clear()
                await send({"type": "http.response.body", "body": data, "more_body": True})
                self._size -= len(data)
                if not self._size and not self._closing:
                    self._owner.on_drained(self._connection)
            elif self._closing:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            else:
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake
                self._wake = None

    async def _listen(self, receive: Receive) -> None:
        """Wait for the client to leave; servers say so only to those who ask."""
        while (await receive())["type"] != "http.disconnect":
            pass
        if not self._dead:
            self._owner.on_disconnect(self._connection)
            self.abort()

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
