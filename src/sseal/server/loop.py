"""uvicorn's server as the hub runs it: ready, ticking, reloading its certificate, ending."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.lifespan.on import LifespanOn

from .connections import HttpConnections, HttpLimits, connections_of
from .handshakes import Handshake

__all__ = ["Lifespan", "Server", "end_at_once", "ending_at_signals"]

STALLED_TIMEOUT: Final = 1.5
"""Seconds after which connections are dropped that still hold bytes their client does not read (W32)."""
TICKS: Final = 10
"""Ticks of uvicorn's loop in a second."""

logger = logging.getLogger("sseal.server")


class Lifespan(LifespanOn):
    """uvicorn's lifespan, which keeps why the app did not start for whoever runs the server.

    :ivar fault: a sentence, empty while there is none.
    """

    fault = ""

    async def send(self, message: Any) -> None:
        """Take what the app says of its start and end."""
        if message["type"] == "lifespan.startup.failed":
            self.fault = message.get("message", "")
            message = {"type": message["type"]}  # uvicorn would log the sentence
        await super().send(message)


class Server(uvicorn.Server):
    """uvicorn's server, which says when it is ready and does not wait for clients that do not read."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None] | None, leaving: Callable[[], bool]) -> None:
        super().__init__(config)
        self._ready = ready
        self._leaving = leaving
        self._before: dict[int, Any] = {}  # the handlers our own calls, by signal
        self._signalled = 0  # signals so far

    async def on_tick(self, counter: int) -> bool:
        """Look ten times a second whether the hub is draining, and close the listening sockets then."""
        if self._leaving():
            for each in self.servers:
                each.close()
        if counter % TICKS == 0:
            self._look_for_descriptors()
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_loop_fault)
        if self.config.ssl is not None:
            loop.create_server = self._counting(loop.create_server)  # type: ignore[method-assign]
        with _said_once():
            await super().startup(sockets=sockets)
        if not self.started:
            return
        self._watch_signals()
        if self._ready is not None:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down; the hub has drained its streams before this is called (W34)."""
        timer = asyncio.get_running_loop().call_later(STALLED_TIMEOUT, self._drop_stalled)
        try:
            await super().shutdown(sockets=sockets)
        finally:
            timer.cancel()

    @property
    def fault(self) -> str:
        """Why the app did not start; empty when that is not known."""
        return getattr(getattr(self, "lifespan", None), "fault", "")

    def _drop_stalled(self) -> None:
        """Drop connections with bytes nobody reads: to close them would wait for the client."""
        for connection in list(self.server_state.connections):
            transport: Any = getattr(connection, "transport", None)  # a detached stream sees to itself
            if transport is not None and transport.get_write_buffer_size():
                transport.abort()

    def _look_for_descriptors(self) -> None:
        """Say when there are no descriptors: where uvloop accepts, newcomers are closed without a word."""
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            self._note_no_descriptors(error)

    def _connections(self) -> HttpConnections:
        limits = getattr(self.config.http_protocol_class, "limits", HttpLimits())
        return connections_of(self.server_state, self.config, limits)

    def _counting(self, create_server: Callable[..., Any]) -> Callable[..., Any]:
        """Return a ``create_server`` whose connections count in the limits before their TLS handshake is done."""

        def counted(factory: Callable[[], asyncio.Protocol], *arguments: Any, ssl: Any, **options: Any) -> Any:
            made = partial(Handshake, factory, ssl, self._connections(), self.server_state.connections)
            return create_server(made, *arguments, **options)

        return counted

    def _note_no_descriptors(self, error: OSError) -> None:
        self._connections().note(
            "no_descriptors",
            f"no file can be opened ({error.strerror}), so no connection be accepted; raise `ulimit -n`",
            level=logging.ERROR,
        )

    def _on_loop_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what the event loop reports; asyncio does so for every connection it has no descriptor for."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            self._note_no_descriptors(error)
        else:
            loop.default_exception_handler(context)

    def _watch_signals(self) -> None:
        """Stand before all that handle signals by now: the first goes on to them, the second ends everything."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.getsignal(number)
            signal.signal(number, self._on_signal)
        if self.config.ssl is not None and sys.platform != "win32":
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload_certificate)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signalled += 1
        if self._signalled > 1:
            end_at_once(number)
        before = self._before[number]
        if callable(before):
            before(number, frame)

    def _reload_certificate(self) -> None:
        """Use the certificate and key that are in the files now for all connections to come."""
        files = (self.config.ssl_certfile, self.config.ssl_keyfile)
        assert self.config.ssl is not None
        assert files[0] is not None
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files)  # type: ignore[arg-type]
            self.config.ssl.load_cert_chain(*files)  # type: ignore[arg-type]
        except (OSError, ssl.SSLError) as error:
            logger.error("the certificate was not reloaded: %s; the old one goes on", error.strerror or error)  # noqa: TRY400
        else:
            logger.info("certificate reloaded")


@contextlib.contextmanager
def _said_once() -> Iterator[None]:
    """Keep the hub from logging why it cannot start: who runs the server says so at its end."""

    def wanted(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("the hub cannot start: ")

    hub = logging.getLogger("sseal")
    hub.addFilter(wanted)
    try:
        yield
    finally:
        hub.removeFilter(wanted)


def end_at_once(number: int) -> None:
    """Die of a signal, as this process would have without a handler: who started it sees which one."""
    logger.warning("a second signal: ended at once")
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


@contextlib.contextmanager
def ending_at_signals(server: uvicorn.Server) -> Iterator[None]:
    """Make the end by signal an ordinary one.

    uvicorn raises the signals it got once more when it is done, for whoever handled them before.
    """

    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        if not server.should_exit:
            raise SystemExit(0)

    previous = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
