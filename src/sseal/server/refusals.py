"""A request that is not read on: what comes before it is answered, it is told why, and its connection ends."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Final

from .request_heads import Refused
from .uvicorn_internals import STATUS_LINE

if TYPE_CHECKING:
    from .protocol import StreamProtocol

__all__ = ["drop_requests", "refuse", "send_refusal"]

READ_TIMEOUT: Final = 2.0
"""Seconds for a client to read why it was refused; closed at once, what it still sends would make that unreadable."""


def refuse(connection: StreamProtocol, refused: Refused) -> None:
    """Take nothing more from this client; tell it why when all it asked before has been answered."""
    connection.http.note(f"refused_{refused.status}", f"a request was refused: {refused.reason}", level=logging.INFO)
    connection.ignores_input = True
    connection.expecting = False
    connection.flow.release()
    broken = connection.cycle if connection.in_body else None  # the request it belongs to has begun
    if broken is not None and broken.response_complete:
        connection.transport.close()  # it has its answer: a second one would be taken for that of the next request
        return
    if broken is not None and broken is connection.active:
        broken.disconnected = True
        broken.message_event.set()
        if broken.response_started and not broken.response_complete:
            connection.transport.abort()
            return
        connection.active = None
    elif broken is not None:
        connection.pipeline = type(connection.pipeline)(
            entry for entry in connection.pipeline if entry[0] is not broken
        )
        broken.on_response = _nothing
    connection.in_body = False
    if connection.is_answered():
        send_refusal(connection, refused)
    else:
        connection.refusal = refused


def send_refusal(connection: StreamProtocol, refused: Refused) -> None:
    """Send a refusal, and close when the client has had the time to read it."""
    transport = connection.transport
    transport.write(_answer(refused, connection.server_state.default_headers))
    connection.refusal_sent = True
    connection.due = connection.loop.time() + READ_TIMEOUT
    if transport.can_write_eof():
        transport.write_eof()
    else:
        transport.close()


def drop_requests(connection: StreamProtocol) -> None:
    """Let go of what waits, and of the cycles of references that it is in with its connection."""
    for cycle, _ in connection.pipeline:
        cycle.on_response = _nothing
        cycle.disconnected = True
    connection.pipeline.clear()
    connection.flow.release()


def _nothing() -> None:
    """Take the place of a callback that would keep its connection alive."""


def _answer(refused: Refused, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    status = refused.status
    body = {"type": "about:blank", "title": status.phrase, "status": status, "detail": refused.reason}
    raw = json.dumps({**body, "code": "malformed_http"}).encode()
    head = [
        *default_headers,
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(raw)),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    lines = b"".join(b"%b: %b\r\n" % line for line in head)
    return b"%b%b\r\n%b" % (STATUS_LINE[status], lines, raw)
