"""The direct path: on uvicorn with httptools a stream's bytes go straight to its socket.

With `sseal.server.protocol.StreamProtocol`, requests that may become streams find
``scope["extensions"]["sseal.direct"]``. The app sends the head and the first body through ``send`` as ever, then
awaits ``detach(first_body)``. That is True only once uvicorn itself has put exactly this head and body on the
transport (W3); from then on the request's task may end, and the hub owns the transport through a `DirectSink`.

Everything private of uvicorn that is used here is looked for at start, see `sseal.server.uvicorn_internals`; without
it, and for TLS, HTTP/1.0 and HEAD, streams use the plain path with the same semantics.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

from ..stream.connection import Connection, SinkOwner
from .uvicorn_internals import RequestResponseCycle

if TYPE_CHECKING:
    from .protocol import StreamProtocol

__all__ = ["MAX_SURPLUS", "Direct", "DirectSink", "NotedCycle", "View", "keep_little_unsent", "offer"]

DETACH_TIMEOUT: Final = 0.1
"""Seconds middleware may hold the head and the first body back before the stream stays on the plain path."""
CLOSE_TIMEOUT: Final = 1.0
"""Seconds a stream that nobody owns may take to close; a full socket would keep it open for ever (W32)."""
MAX_SURPLUS: Final = 4096
"""Bytes a client may send on a stream, which asks for nothing more, before it is cut off (W33)."""
MAX_NOTED: Final = 8
"""Pieces of a body that are noted; a stream's first body comes in one, or in a few through middleware."""
NOTSENT_LOWAT: Final = 16 * 1024
"""Unsent bytes the kernel takes per connection: 113 KiB in all for a stalled reader instead of 3.9 MiB (W32)."""
KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""Probes that find a peer that vanished without a FIN, within a minute."""

logger = logging.getLogger("sseal.server")


class View(socket.SocketType):
    """A socket that its transport owns and closes: nothing is closed with this object.

    ``send(2)`` on it is cheaper than ``write(2)`` on the descriptor, which goes by way of the file and its
    inode: memory that is out of the caches when a stream's turn comes (bench/profile.md).
    """

    __slots__ = ()

    def __init__(self, number: int) -> None:
        super().__init__(fileno=number)
        self.setblocking(False)  # with the app's `socket.setdefaulttimeout` a send to a full socket would wait

    def __del__(self) -> None:
        """Do nothing, where the base class would close the descriptor, whosever it is by now (W4)."""


class DirectSink(asyncio.Protocol):
    """The sink of the direct path, and the protocol of its transport from `Direct.detach` on.

    With nothing buffered it sends on the socket itself; a short write hands the rest to the transport without a
    copy. Once dead it has forgotten its descriptor in the same synchronous step, because the kernel may give that
    number to somebody else's connection at once (W4). It hears of every end but one: uvloop's ``loop.close()``
    tells nobody, so a hub stops before its loop is closed.

    :ivar clear: nothing is buffered, and it is not dead.
    """

    __slots__ = ("_connection", "_connections", "_owner", "_surplus", "_transport", "_view", "clear")

    chunked = True

    def __init__(self, transport: asyncio.Transport, connections: set[Any]) -> None:
        self._transport = transport
        self._connections = connections
        # The socket by its descriptor; None once dead (W4).
        self._view: View | None = View(transport.get_extra_info("socket").fileno())
        _tune(self._view)
        self.clear = False
        self._surplus = 0  # bytes the client has sent since it became a stream (W33)
        self._owner: SinkOwner | None = None  # whom to tell of its end; None before `begin`
        # Whose sink it is; not used before `begin`.
        self._connection: Connection = None  # type: ignore[assignment]

    def begin(self, owner: SinkOwner, connection: Connection) -> None:
        """Say whom to tell when everything was written, and when the client has left."""
        self._owner = owner
        self._connection = connection

    @property
    def buffered(self) -> int:
        """Bytes the transport holds because the kernel did not take them."""
        if self.clear or self._view is None:
            return 0
        return self._transport.get_write_buffer_size()

    def put(self, framed: bytes) -> None:
        """Write bytes that are chunks already (RFC 9112 section 7.1)."""
        view = self._view
        if view is None:
            return
        if not self.clear:
            if self._transport.is_closing():
                return  # an abort may have emptied its buffer: nothing may pass what was dropped
            if self._transport.get_write_buffer_size():
                self._transport.write(framed)
                return
            self.clear = True
        try:
            written = view.send(framed)
        except BlockingIOError:
            written = 0
        except OSError:
            self.abort()
            return
        if written < len(framed):
            self.clear = False
            self._transport.write(memoryview(framed)[written:])

    def write(self, data: bytes) -> None:
        """Write bytes as one chunk."""
        self.put(b"%x\r\n%b\r\n" % (len(data), data))

    def close(self) -> None:
        """Write the last chunk and close; abort when the client does not take it in time (W32)."""
        if self._view is None:
            return
        self.put(b"0\r\n\r\n")
        transport, owner, self._owner = self._transport, self._owner, None
        self._forget()
        transport.close()
        timeout = CLOSE_TIMEOUT if owner is None else owner.close_timeout
        asyncio.get_running_loop().call_later(timeout, transport.abort)

    def abort(self) -> None:
        """Close at once; also what is closing or half closed."""
        self._forget()
        self._transport.abort()

    def shutdown(self) -> None:
        """Called by uvicorn when it shuts down: a stream nobody drained ends now."""
        try:
            if self._owner is not None:
                self._owner.on_disconnect(self._connection)
        finally:
            self.close()

    def data_received(self, data: bytes) -> None:
        """Drop what the client sends, up to a bound."""
        self._surplus += len(data)
        if self._surplus > MAX_SURPLUS:
            self._leave()

    def eof_received(self) -> bool:
        """Take a half-closed connection as a client that has gone; the owner closes it when it gets to it."""
        self._forget()
        if self._owner is None:
            self._transport.abort()
        self._report_disconnect()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the descriptor, and say that the client has gone."""
        del exc
        self._forget()
        self._connections.discard(self)
        self._report_disconnect()

    def pause_writing(self) -> None:
        """The transport holds bytes: nothing may pass it."""
        self.clear = False

    def resume_writing(self) -> None:
        """The transport is empty again: the stream may read on."""
        if self._view is not None:
            self.clear = True
            if self._owner is not None:
                self._owner.on_drained(self._connection)

    def _forget(self) -> None:
        self.clear = False
        view, self._view = self._view, None
        if view is not None:
            view.detach()  # now, whoever else may hold it

    def _leave(self) -> None:
        self.abort()
        self._report_disconnect()

    def _report_disconnect(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.on_disconnect(self._connection)


class NotedCycle(RequestResponseCycle):
    """A request of uvicorn that remembers what of its response is on the transport, while that is of interest.

    It also ends an HTTP/1.0 response of unknown length by closing, where uvicorn would send chunks, which that
    version does not know (RFC 9112 section 6.1).
    """

    noted: list[bytes] | None
    changed: asyncio.Event | None
    unframed: bool

    async def send(self, message: Any) -> None:
        """Pass it on to the transport, and note it."""
        if self.unframed:
            await self._send_unframed(message)
            return
        await super().send(message)
        if self.noted is None or self.disconnected:
            return
        if message["type"] == "http.response.start":
            if message["status"] != 200 or _is_encoded(message.get("headers", ())):
                self.noted = None
        elif self.response_complete or len(self.noted) >= MAX_NOTED:
            self.noted = None
        elif message.get("body"):
            self.noted.append(message["body"])
        if self.changed is not None:
            self.changed.set()

    async def _send_unframed(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            if any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in message.get("headers", ())):
                self.unframed = False
            else:
                self.chunked_encoding = False  # so that no chunks are announced
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected or self.response_complete:
            return
        self.transport.write(message.get("body", b""))
        if not message.get("more_body", False):
            self.response_complete = True
            self.message_event.set()
            self.transport.close()
            self.on_response()


def offer(protocol: StreamProtocol, cycle: RequestResponseCycle) -> None:
    """Let the app of a request find its way to the transport."""
    scope = cycle.scope
    version = scope["http_version"]
    direct = Direct(protocol, cycle, possible=protocol.scheme == "http" and version == "1.1")
    cycle.__class__ = NotedCycle
    assert isinstance(cycle, NotedCycle)
    cycle.noted, cycle.changed = [], None
    cycle.unframed = version == "1.0"
    scope["extensions"] = {**(scope.get("extensions") or {}), "sseal.direct": direct}  # type: ignore[dict-item]


class Direct:
    """What an app finds under ``scope["extensions"]["sseal.direct"]``: one request's way to its transport."""

    __slots__ = ("_cycle", "_possible", "_protocol")

    def __init__(self, protocol: StreamProtocol, cycle: RequestResponseCycle, *, possible: bool) -> None:
        self._possible = possible
        # Weak, because the request's scope holds this: a request shall be freed when it ends, not when gc runs.
        self._protocol = ref(protocol)
        self._cycle: ref[Any] = ref(cycle)

    async def detach(self, first: bytes) -> DirectSink | None:
        """Take the transport over if exactly a plain head and ``first`` are on it; else None.

        Waits up to `DETACH_TIMEOUT` seconds for middleware to hand them on.
        """
        protocol, cycle = self._protocol(), self._cycle()
        if protocol is None or cycle is None:
            return None
        if not self._possible or not await self._reached(cycle, first):
            protocol.keep_stream()
            return None
        return protocol.detach(cycle)

    @staticmethod
    async def _reached(cycle: NotedCycle, first: bytes) -> bool:
        """Wait until head and first body are on the transport, and tell whether they are."""
        if not _on_transport(cycle, first):
            cycle.changed = asyncio.Event()
            try:
                async with asyncio.timeout(DETACH_TIMEOUT):
                    while not _on_transport(cycle, first):
                        if cycle.noted is None or cycle.disconnected:
                            return False
                        cycle.changed.clear()
                        await cycle.changed.wait()
            except TimeoutError:
                return False
            finally:
                cycle.changed = None
        return True

    def abort(self) -> None:
        """Close the transport at once: a polite close would wait for ever for a client that does not read."""
        protocol = self._protocol()
        if protocol is not None and protocol.transport is not None:
            protocol.transport.abort()


def _on_transport(cycle: NotedCycle, first: bytes) -> bool:
    """Tell whether the server has put a plain chunked head and exactly these body bytes on the transport."""
    return (
        not cycle.disconnected
        and cycle.response_started
        and not cycle.response_complete
        and cycle.chunked_encoding is True
        and bool(cycle.noted)
        and b"".join(cycle.noted or ()) == first
    )


def _is_encoded(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Tell whether a response has a ``Content-Encoding``, looking closely at names of that length only."""
    return b"content-encoding" in [name.lower() for name, _ in headers if len(name) == 16]


def keep_little_unsent(transport: asyncio.BaseTransport) -> None:
    """Have the kernel take little of what a client does not read: answers are no smaller than streams (W32)."""
    try:  # noqa: SIM105 - `suppress` takes longer than the call
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)
    except OSError:
        pass  # a kernel without it, or no TCP


def _tune(stream: socket.SocketType) -> None:
    """Set the socket options of a stream (W32); a kernel without one of them is fine."""
    try:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            stream.setsockopt(socket.IPPROTO_TCP, option, value)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)
        stream.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)
    except OSError as error:
        logger.debug("socket option not set: %s", error)


_TCP_NOTSENT_LOWAT: Final = getattr(socket, "TCP_NOTSENT_LOWAT", 25)
