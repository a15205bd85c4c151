"""TLS handshakes of a server, which count in the limits of connections from ``accept`` on.

An event loop that is given the context with ``create_server`` tells nobody of a connection until its handshake is done:
one client that begins none then takes all open files, and 50 KiB for each.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final

from .connections import HttpConnections

__all__ = ["HANDSHAKE_TIMEOUT", "Handshake"]

HANDSHAKE_TIMEOUT: Final = 10.0
"""Seconds for a TLS handshake."""


class Handshake(asyncio.Protocol):
    """The protocol of a connection from its ``accept`` to the end of its handshake; it makes way for another then.

    :param factory: makes the protocol that follows.
    :param context: of the server; a certificate that is loaded into it counts from the next handshake on.
    :param http_connections: the connections that are no streams.
    :param all_connections: all connections of the server.
    :ivar due: see `sseal.server.connections.HttpConnection`; the event loop itself bounds a handshake.
    """

    due = 0.0

    def __init__(
        self,
        factory: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
        http_connections: HttpConnections,
        all_connections: set[Any],
    ) -> None:
        self._factory = factory
        self._context = context
        self._http_connections = http_connections
        self._all_connections = all_connections
        self._task: asyncio.Task[None] | None = None  # kept, for the event loop holds tasks weakly
        self.transport: asyncio.Transport = None  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin the handshake, if there is room."""
        self.transport = transport
        peer = transport.get_extra_info("peername")
        if not self._http_connections.enter(self, str(peer[0]) if isinstance(peer, tuple) else ""):
            transport.abort()
            return
        self._all_connections.add(self)
        early, loop = _Early(), asyncio.get_running_loop()
        # Begun here, and not when a task has its turn: uvloop reads on after this method, whoever has paused it.
        begun = _Begun(
            loop.start_tls(transport, early, self._context, server_side=True, ssl_handshake_timeout=HANDSHAKE_TIMEOUT)
        )
        self._task = loop.create_task(self._shake_hands(begun, early))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection that was lost before its handshake began."""
        del exc
        self._leave()

    def expire(self) -> str:
        """Close it, because its time is over; return why."""
        self.transport.abort()
        return "tls_handshake"

    def shutdown(self) -> None:
        """Called by uvicorn when it shuts down."""
        self.transport.abort()

    async def _shake_hands(self, begun: _Begun, early: _Early) -> None:
        try:
            secured = await begun
        except (OSError, RuntimeError):  # no TLS, too slow, gone
            secured = None
        finally:
            self._leave()
            if self.transport.is_closing():
                secured = None
        if secured is None or early.lost:
            self.transport.abort()
            return
        protocol = self._factory()
        secured.set_protocol(protocol)
        protocol.connection_made(secured)
        if early.heard and not secured.is_closing():
            protocol.data_received(bytes(early.heard))

    def _leave(self) -> None:
        self._http_connections.leave(self)
        self._all_connections.discard(self)


class _Begun:
    """A coroutine whose first step is made at once; to be awaited for the rest."""

    def __init__(self, coroutine: Coroutine[Any, Any, asyncio.Transport | None]) -> None:
        self._coroutine = coroutine
        self._waits_for = coroutine.send(None)  # the future its first step ended at

    def __await__(self) -> Generator[Any, Any, asyncio.Transport | None]:
        waits_for = self._waits_for
        try:
            while True:
                try:
                    sent = yield waits_for
                except BaseException as error:  # noqa: BLE001 - it is passed on
                    waits_for = self._coroutine.throw(error)
                else:
                    waits_for = self._coroutine.send(sent)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


class _Early(asyncio.Protocol):
    """Takes what comes in the moment between the end of a handshake and the protocol that follows: a first request.

    :ivar heard: it, one read at most.
    :ivar lost: whether the connection was.
    """

    def __init__(self) -> None:
        self.heard = bytearray()
        self.lost = False

    def data_received(self, data: bytes) -> None:
        """Keep it."""
        self.heard += data

    def eof_received(self) -> None:
        """Close."""
        self.lost = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Note it."""
        del exc
        self.lost = True
