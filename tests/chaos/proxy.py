"""A TCP proxy that behaves like a bad network: it cuts, delays, and stops carrying one direction or both."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, Literal

from .calls import Address

__all__ = ["Direction", "Proxy", "proxy"]

PIECE: Final = 16 * 1024
"""Bytes read at once; what it does not carry on stays in the sockets' own buffers, which are bounded."""
MAX_CONNECTIONS: Final = 1_000

Direction = Literal["up", "down"]
"""``up`` is towards the server, ``down`` towards whoever connected."""


class Proxy:
    """Carries connections to one server. All methods may be called from any thread.

    :ivar address: where it listens.
    """

    def __init__(self, target: Address) -> None:
        self.address = Address(0)
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._delay = 0.0
        self._refusing = False
        self._open: dict[Direction, asyncio.Event] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._run, name="chaos-proxy", daemon=True)
        self._listening = threading.Event()
        self._stopped: asyncio.Event

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        assert self._listening.wait(10.0), "the proxy does not listen"

    def stop(self) -> None:
        """End it and every connection."""
        self._do(self._stopped.set)
        self._thread.join(10.0)
        assert not self._thread.is_alive(), "the proxy did not end"

    def cut(self) -> None:
        """Reset every connection, and every new one, until `heal`."""

        def run() -> None:
            self._refusing = True
            self._reset()

        self._do(run)

    def delay(self, seconds: float) -> None:
        """Carry everything so much later, both ways, until `heal`."""

        def run() -> None:
            self._delay = seconds

        self._do(run)

    def hold(self, *directions: Direction) -> None:
        """Accept and carry nothing in these directions until `heal`, as a network that drops packets."""

        def run() -> None:
            for direction in directions:
                self._open[direction].clear()

        self._do(run)

    def heal(self, *, reset: bool = False) -> None:
        """Be a good network again: what was held arrives late.

        :param reset: as one that forgot its connections: they are reset, and what was held is gone.
        """

        def run() -> None:
            self._refusing = False
            self._delay = 0.0
            if reset:
                self._reset()
            for event in self._open.values():
                event.set()

        self._do(run)

    def aim(self, target: Address) -> None:
        """Carry new connections to another server, and reset the old ones."""

        def run() -> None:
            self._target = target
            self._reset()

        self._do(run)

    def _do(self, function: Callable[[], object]) -> None:
        """Run something in the proxy's loop and wait until it is done."""

        async def run() -> None:
            function()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10.0)

    def _reset(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stopped = asyncio.Event()
        self._open = {"up": asyncio.Event(), "down": asyncio.Event()}
        for event in self._open.values():
            event.set()
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self._refusing or len(tasks) >= MAX_CONNECTIONS:
                writer.transport.abort()
                return
            task = asyncio.create_task(self._carry(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, self.address.host, 0)
        self.address = Address(server.sockets[0].getsockname()[1])
        self._listening.set()
        await self._stopped.wait()
        server.close()
        self._reset()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            far_reader, far = await asyncio.open_connection(self._target.host, self._target.port)
            self._writers.add(far)
            await _both(self._pump(reader, far, "up"), self._pump(far_reader, writer, "down"))
        except OSError:
            pass  # nobody is there
        finally:
            for one in filter(None, (writer, far)):
                self._writers.discard(one)
                one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, auth_method: Direction) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE):
                await self._open[auth_method].wait()
                if self._delay:
                    await asyncio.sleep(self._delay)
                writer.write(piece)
                await writer.drain()


async def _both(*auth_methods: Coroutine[Any, Any, None]) -> None:
    """Run both directions until one has ended."""
    tasks = [asyncio.create_task(auth_method) for auth_method in auth_methods]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def proxy(target: Address) -> Iterator[Proxy]:
    """Run a proxy in front of a server."""
    made = Proxy(target)
    made.start()
    try:
        yield made
    finally:
        made.stop()
