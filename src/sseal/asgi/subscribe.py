"""``GET /events``: from a request to an open stream."""

from __future__ import annotations

import logging
from functools import partial
from typing import Final, Protocol

from starlette.types import Receive, Scope, Send

from .. import wire
from ..delivery.admission import Admission, StreamRequest
from ..delivery.connect_throttle import ConnectThrottle
from ..delivery.node import Node
from ..delivery.retry_jitter import transient_retry_ms
from ..errors import (
    CredentialMissing,
    InvalidInput,
    MethodNotAllowed,
    SsealError,
    TooManyRequests,
    Unavailable,
)
from ..stream import reasons
from ..stream.connection import Connection, Sink, SinkOwner
from ..topics import Pattern
from .audit import audit_refusal
from .authentication import Authenticator
from .requests import HubRequest
from .responses import HARDENING, problem, refusal
from .sink import PlainSink

__all__ = ["Subscribe"]

_HEAD: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx buffers otherwise, and the stream arrives in lumps
    *HARDENING,
)
_CLOSE: Final = (b"connection", b"close")  # what follows a stream on its connection may be lost (W33)

logger = logging.getLogger("sseal.asgi")
access = logging.getLogger("sseal.access")


class DirectSink(Sink, Protocol):
    """A sink that owns its transport; see `sseal.server.direct.DirectSink`."""

    def begin(self, owner: SinkOwner, connection: Connection) -> None:
        """Say whom to tell when everything was written, and when the client has left."""
        ...


class Subscribe:
    """The stream endpoint. Path parameter ``ticket`` is optional.

    :param authenticator: finds the credential of a request and says whose it is.
    :param retry_ms: the setting of that name.
    """

    def __init__(self, admission: Admission, authenticator: Authenticator, node: Node, *, retry_ms: int) -> None:
        self._admission = admission
        self._authenticator = authenticator
        self._streams = node.streams
        self._sinks = node.sinks
        self._stats = node.stats
        self._retry_ms = retry_ms
        self._throttle = ConnectThrottle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request with a stream, or say why not."""
        ask = None
        try:
            if scope["method"] == "HEAD":
                raise CredentialMissing("HEAD authenticates nothing")
            if scope["method"] != "GET":
                raise MethodNotAllowed(f"{scope['method']} is not allowed here")
            await self._throttle.enter()
            ask = HubRequest(scope)
            if (unavailable := scope.get("sseal.unavailable")) is not None:
                raise unavailable  # the hub has not started; see HubApp
            connection = await self._open(ask, scope.get("path_params", {}).get("ticket"))
        except (TooManyRequests, Unavailable) as error:
            self._stats.refuse(error.code)
            audit_refusal(error, scope)
            if ask is not None and ask.outlives_refusals:
                await self._refuse_for_now(error, scope, send)
            else:
                await problem(error)(scope, receive, send)
        except SsealError as error:
            self._stats.refuse(error.code)
            ticket = scope.get("path_params", {}).get("ticket")
            await refusal(error, scope, allow="GET, HEAD" if ticket else "GET, HEAD, POST")(scope, receive, send)
        except Exception:
            logger.exception("a stream could not be opened")
            self._stats.refuse(SsealError.code)
            await problem(SsealError("the request failed; the log says why"))(scope, receive, send)
        else:
            await self._stream(connection, scope, receive, send)

    async def _open(self, ask: HubRequest, path_ticket: str | None) -> Connection:
        """Say what a request asks for, and have it opened. What is malformed is refused first: it spends no ticket."""
        if ask.has_body:
            raise InvalidInput("body", "GET /events takes none")
        last_event_id = ask.last_event_id()
        envelope = ask.flag("envelope")
        ask.flag("anonymous")
        pinned, topics = ask.single("subject"), ask.getlist("topic")
        for text in topics:
            Pattern.parse(text)
        credential = self._authenticator.find(ask, path_ticket=path_ticket, last_event_id=last_event_id)
        ticket = None
        if credential is not None and credential.auth_method == "ticket" and ask.opens_stream:
            ticket = credential.value
        request = StreamRequest(
            topics=topics,
            subject=pinned,
            last_event_id=last_event_id,
            envelope=envelope,
            address=ask.address,
            ticket=ticket,
        )
        return await self._admission.open(request, partial(self._authenticator.admit, ask, credential, last_event_id))

    async def _stream(self, connection: Connection, scope: Scope, receive: Receive, send: Send) -> None:
        """Send head and first body; then the hub owns the transport, or this task serves the plain path."""
        owned = False
        try:
            first = self._admission.first_body(connection)
            await send({"type": "http.response.start", "status": 200, "headers": _head(scope)})
            direct = scope.get("extensions", {}).get("sseal.direct")
            if direct is not None:
                await send({"type": "http.response.body", "body": first, "more_body": True})
                owned = self._own(connection, await direct.detach(first))
                first = b""
            if not owned:
                sink = PlainSink(first, self._sinks, connection, cut=getattr(direct, "abort", None))
                self._sinks.attach(connection, sink)
                await sink.run(receive, send)
        finally:
            if not owned:
                self._streams.unregister(connection, reasons.CLIENT_GONE)

    def _own(self, connection: Connection, sink: DirectSink | None) -> bool:
        """Take the direct sink over, if there is one."""
        if sink is None:
            return False
        sink.begin(self._sinks, connection)
        self._sinks.attach(connection, sink)
        return True

    async def _refuse_for_now(self, error: TooManyRequests | Unavailable, scope: Scope, send: Send) -> None:
        """Refuse for now, by a stream that readers survive (W35)."""
        access.info("stream refused for now", extra={"code": error.code})
        retry = transient_retry_ms(error.retry_after, self._retry_ms)
        body = wire.bye_event(reason=error.code, reconnect=True, retry=retry)
        await send({"type": "http.response.start", "status": 200, "headers": _head(scope)})
        await send({"type": "http.response.body", "body": body})


def _head(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the head of a stream; HTTP/2 knows no Connection header (RFC 9113 section 8.2.2)."""
    return [*_HEAD, _CLOSE] if scope.get("http_version", "1.1").startswith("1") else [*_HEAD]
