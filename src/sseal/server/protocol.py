"""HTTP/1.1 as the hub speaks it: uvicorn's protocol on httptools, with bounds on all that a client may make it hold.

- At most `MAX_PIPELINED` requests wait behind the one that is answered; what else was read is held as bytes, and no
  more is read.
- A head has a time, a number of bytes and a number of lines; trailers are ignored.
- What follows ``Upgrade`` or ``Connection: close``, or cannot be understood, is never taken for a request.
- How long a connection may idle and an answer may wait is `sseal.server.connections`.
- A request that becomes a stream leaves all this by `sseal.server.direct`.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Any, ClassVar, Final

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from .connections import HttpLimits, connections_of
from .direct import MAX_SURPLUS, DirectSink, keep_little_unsent, offer
from .held_input import HoldingFlow
from .refusals import drop_requests, refuse, send_refusal
from .request_heads import (
    FRAMING,
    MAX_HEAD,
    MAX_LINES,
    Refused,
    check_framing,
    end_of_piece,
    rest_of_body,
    split_target,
)
from .uvicorn_internals import HttpToolsProtocol, RequestResponseCycle

__all__ = ["StreamProtocol"]

MAX_PIPELINED: Final = 8
"""Requests of one connection that wait for their turn; clients that pipeline at all send a handful."""
MAX_HELD: Final = 512 * 1024
"""Bytes held behind those; a transport reads at most 256 KiB at once and is paused then."""
MAX_STEPS: Final = 256
"""Pieces of what was read that are parsed in one turn of the event loop; a body may be full of what ends a head."""
MAX_PIECE: Final = 16 * 1024
"""Bytes of one piece, unless it is of a body of known length."""
MAX_CHUNKS: Final = 2048
"""Chunks of bodies that are parsed in one turn, and those of a piece: each takes 1 µs, and 40,000 fit in one read."""
MAX_DROPPED: Final = 1024 * 1024
"""Bytes a client may go on sending that are not read any more, before it is cut off."""
LAST_HEAD_TIMEOUT: Final = 0.5
"""Seconds a request whose connection was accepted before the server began to end has to arrive."""
logger = logging.getLogger("sseal.server")


class StreamProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with bounds, and with a way out for streams. See the module docstring.

    :ivar due: when the client has to be over with what it does, in the loop's time; 0.0 while it is our turn.
    :cvar limits: those of a server that sets no others; see `limited`.
    """

    limits: ClassVar[HttpLimits] = HttpLimits()

    @classmethod
    def limited(cls, limits: HttpLimits) -> type[StreamProtocol]:
        """Return this protocol with other limits, for ``uvicorn.Config(http=...)``."""
        return type(cls.__name__, (cls,), {"limits": limits})

    flow: HoldingFlow
    due = 0.0
    active: RequestResponseCycle | None = None  # the request that is being answered
    expecting = True  # a head: since the accept, or since its first byte
    in_body = False  # a request has begun whose end has not come
    _body_left = 0  # bytes, where the head said how many
    _upgrade_body = False  # the parser stopped at an upgrade, and the request has a body
    ignores_input = False  # nothing more is taken for a request
    refusal: Refused | None = None  # to be told when all before it have been answered
    refusal_sent = False  # refused: it is closed when the client has read why
    _ending = False  # the server is
    _head = 0  # bytes of this request head
    _lines = 0  # header lines of it
    _unread = 0  # bytes fed since the parser told of anything
    _dropped = 0  # bytes that came after `ignores_input`
    _chunks = 0  # of a body, in this turn of the event loop
    _surplus = -1  # bytes from the client of a stream on the plain path; -1 while it is none

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.http = connections_of(server_state, config, self.limits)  # all that are no streams, this one too

    # -- the connection -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, but not for ever, and only if there is room: it counts in no other limit."""
        super().connection_made(transport)
        self.flow = HoldingFlow(transport)
        keep_little_unsent(transport)
        self.due = self.loop.time() + self.limits.head_timeout
        if not self.http.enter(self, self.client[0] if self.client else ""):
            self.ignores_input = True
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is being served, and forget those that wait behind it (W33)."""
        self.due = 0.0
        self.http.leave(self)
        active = self.active
        if active is not None and not active.response_complete:
            active.disconnected = True
            active.message_event.set()
        drop_requests(self)
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self.cycle = self.active = None  # type: ignore[assignment]

    def shutdown(self) -> None:
        """End; but whoever has just connected may have sent a request already, and would see it cut off unread."""
        if not self.expecting or (self.cycle is not None and not self.cycle.response_complete):
            super().shutdown()
            return
        self._ending = True
        self.due = self.loop.time() + LAST_HEAD_TIMEOUT

    def expire(self) -> str:
        """Close a connection whose time is over; return why."""
        if self.refusal_sent:
            reason = "refused"
        elif self.expecting:
            reason = "head_timeout"
        elif self.in_body:
            reason = "body_timeout"
        else:
            self.transport.close()
            return "idle"
        self.transport.abort()
        return reason

    def resume_writing(self) -> None:
        """The client has read on."""
        self.http.on_progress(self)
        super().resume_writing()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to the WebSocket of the app around the hub."""
        self.due = 0.0
        self.ignores_input = True  # what came with it is no request; no client may send more before it is answered
        self.http.leave(self)
        super().handle_websocket_upgrade()

    # -- what arrives ---------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, as far as there is room for what is in it."""
        if self._surplus >= 0:
            self._surplus += len(data)
            if self._surplus > MAX_SURPLUS:
                self.transport.abort()
            return
        if self.flow.held is None:
            self._take(data, 0)
        elif self.flow.add(data) > MAX_HELD:
            self.transport.abort()

    def _take(self, data: bytes, start: int) -> None:
        """Feed the parser in pieces with at most one head in each, so that it can be stopped behind every one."""
        size, steps = len(data), 0
        self._chunks = 0
        while start < size:
            if self.ignores_input:
                self._dropped += size - start
                if self._dropped > MAX_DROPPED:
                    self.transport.abort()
                return
            over = steps == MAX_STEPS or self._chunks >= MAX_CHUNKS
            if over or len(self.pipeline) >= MAX_PIPELINED:
                self.flow.hold(data, start)
                if over:
                    self.loop.call_soon(self._go_on)
                return
            left = self._body_left
            end = min(size, start + left) if left else end_of_piece(data, start, MAX_PIECE)
            self._feed(data if end - start == size else memoryview(data)[start:end])
            start = end
            steps += 1

    def _feed(self, piece: bytes | memoryview) -> None:
        self._unread += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self._ignore_upgrade()
        except httptools.HttpParserError as error:
            cause = error.__context__
            if not isinstance(cause, Refused):
                cause = Refused(HTTPStatus.BAD_REQUEST, str(error))
            refuse(self, cause)
        else:
            if self._unread > 2 * MAX_HEAD:  # of one header line, trailer or chunk extension
                self.transport.abort()

    def _go_on(self) -> None:
        """Parse what is held, as far as there is room now, and read on when that was all."""
        if self.flow.held is None or len(self.pipeline) >= MAX_PIPELINED:
            return
        self._take(*self.flow.release())
        if self.parser is not None:
            self.flow.resume_reading()  # unless something is held again

    def _ignore_upgrade(self) -> None:
        """Stay with HTTP/1.1: read the body of the request, answer it, and take nothing behind it for a request."""
        if self._should_upgrade():
            self.handle_websocket_upgrade()
            return
        if not self._upgrade_body:
            return
        self._upgrade_body = False
        parser = rest_of_body(self.headers, self.on_body, self.on_message_complete)
        if parser is not None:
            self.parser = parser

    # -- the parser's callbacks -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin to count a request head."""
        super().on_message_begin()
        self._head = self._lines = self._unread = 0
        if not self.expecting:
            self.expecting = True
            if self.is_answered():
                self.due = self.loop.time() + self.limits.head_timeout

    def on_url(self, url: bytes) -> None:
        """Count a piece of the request line."""
        self._head += len(url)
        if self._head > MAX_HEAD:
            raise _too_large()
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header line; ignore a trailer, which nobody has authenticated or authorised anything by."""
        self._lines += 1
        if self._lines > MAX_LINES:
            raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"more than {MAX_LINES} header lines")
        self._unread = 0
        if self.in_body:
            return
        self._head += len(name) + len(value)
        if self._head > MAX_HEAD:
            raise _too_large()
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":  # as uvicorn does it, with a call less for each line
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Check how the request is framed, and begin it."""
        self.due = 0.0
        self._unread = self._lines = 0
        version = self.parser.get_http_version()
        method = self.parser.get_method().decode("ascii")
        self.url, authority = split_target(method, self.url)
        self._body_left = check_framing(version, self.headers)
        if authority is not None:  # it counts, not the header (RFC 9112 section 3.2.2)
            self.headers[:] = [line for line in self.headers if line[0] != b"host"]
            self.headers.append((b"host", authority))
        if version == "1.0":
            self.expect_100_continue = False  # an answer that version does not know (RFC 9110 section 10.1.1)
        self.expecting = False
        self.in_body = True
        self.http.on_request(self)
        super().on_headers_complete()
        if self.parser.should_upgrade() and not self._should_upgrade():
            self.cycle.keep_alive = False
            self._upgrade_body = any(name in FRAMING for name, _ in self.headers)

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._unread = 0
        self._chunks += 1
        if self._body_left:
            self._body_left -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; one that says it is the last one is."""
        if self._upgrade_body:
            return  # the parser stops here, but the body comes yet
        self.in_body = False
        self._unread = self._body_left = 0
        super().on_message_complete()
        if self.cycle is None or (self.parser.should_upgrade() and self._should_upgrade()):
            return
        if not self.cycle.keep_alive:
            self.ignores_input = True  # RFC 9112 section 9.6
        if self.is_answered():
            self._await_request()

    # -- requests and answers -----------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        scope = cycle.scope
        self.active = cycle
        if self._ending:
            cycle.keep_alive = False
        if scope["method"] == "GET":
            offer(self, cycle)
        super()._start_asgi_task(cycle, app)

    def is_answered(self) -> bool:
        """Whether nothing is left to answer."""
        return not self.pipeline and (self.active is None or self.active.response_complete)

    def on_response_complete(self) -> None:
        """Begin the next request, or wait for one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self.refusal is not None:
            send_refusal(self, self.refusal)
            return
        else:
            self._await_request()
        if self.flow.held is not None:
            self._go_on()

    def _await_request(self) -> None:
        """Give the client a time for its next request, or for what is left of one that has been answered already.

        What it sends meanwhile does not prolong it, unless that is a request.
        """
        if self.refusal_sent:
            return
        partial = self.expecting  # a head had begun while the request before it was served
        self.due = self.loop.time() + (self.limits.head_timeout if partial else self.timeout_keep_alive)
        self.http.on_idle(self)

    # -- streams --------------------------------------------------------------------------------------------

    def keep_stream(self) -> None:
        """Let a stream that stays on the plain path have the limits of streams instead of those of requests."""
        self.due = 0.0
        self.http.leave(self)
        self.cycle = self.active  # type: ignore[assignment]
        self._surplus = 0
        drop_requests(self)
        if not self.transport.is_closing():
            self.flow.resume_reading()  # to hear that the client leaves (W33)

    def detach(self, cycle: RequestResponseCycle) -> DirectSink | None:
        """Give the transport to a sink; the cycle's task may end without touching it."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return None
        sink = DirectSink(transport, self.connections)
        transport.set_write_buffer_limits(high=0)
        transport.set_protocol(sink)  # from here on it hears of its end
        cycle.disconnected = True  # whatever middleware still sends goes nowhere
        cycle.message_event.set()
        self.due = 0.0  # also for the rest of a request behind this one, which is dropped (W33)
        self.http.leave(self)
        drop_requests(self)
        self.flow.resume_reading()
        self.flow.resume_writing()
        self.connections.discard(self)
        self.connections.add(sink)  # type: ignore[arg-type]
        self.cycle = self.active = None  # type: ignore[assignment]
        self.parser = None  # type: ignore[assignment]
        return sink


def _too_large() -> Refused:
    return Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a request head of more than {MAX_HEAD} bytes")
