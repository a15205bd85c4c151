"""One connection to a log, in a thread of its own, for all threads and event loops of a process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final

from .. import storage
from ..clock import SystemClock
from ..errors import Unavailable
from ..position import Position
from ..storage import Broker, Publication

__all__ = ["CLOSE_TIMEOUT", "PublisherThread"]

OPEN_TIMEOUT: Final = 8.0
"""Seconds the log may take to open: SQLite waits 5 s for others that open the file."""
CLOSE_TIMEOUT: Final = 2.0
"""Seconds a process waits at its end for what is still being published; a broker answers within 2 s (W9)."""
MAX_WAITING: Final = 10_000
"""Publishes that wait at once: a few MiB, and more than a log takes in the 2 s after which they fail anyway."""


class PublisherThread:
    """Opens the log on first use, for publishing only, and stays until `end`.

    A connection for each event loop would be left open by those who run a loop per call, as frameworks do that
    call async code from sync code.

    :param address: of the log.
    """

    def __init__(self, address: str) -> None:
        self._broker: Broker = storage.open(address, SystemClock()).broker()
        self._opening: asyncio.Task[None] | None = None  # shared by all who wait for it
        self._open = False  # the log is
        self._publishing: set[asyncio.Task[list[str]]] = set()  # not done yet; `end` waits for them
        self._waiting = 0  # publishes whose future has no result yet
        self._closed = False  # nothing more is taken
        self._lock = threading.RLock()  # a collected publisher ends this wherever the thread then is
        self._ready: Future[asyncio.AbstractEventLoop] = Future()  # the loop, once it runs
        self._ended: Future[None] = Future()  # done when the log is closed
        # A daemon: a thread that waits for a log out of reach must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="sseal-publisher", daemon=True)
        self._thread.start()
        self._loop = self._ready.result()

    def publish(self, publications: Sequence[Publication]) -> Future[list[str]]:
        """Publish all or nothing; never waits. The future gives the ids.

        :raises Unavailable: it is closed, or too much waits already.
        """
        with self._lock:
            if self._closed:
                raise Unavailable("the publisher is closed", code="broker_closed")
            if self._waiting >= MAX_WAITING:
                raise Unavailable("too many publishes wait for the log already", code="busy")
            self._waiting += 1
            future = asyncio.run_coroutine_threadsafe(self._publish(publications), self._loop)
        future.add_done_callback(self._done)
        return future

    def end(self) -> Future[None]:
        """Begin to close: finish what is being published, then end the thread. The future tells when that is so."""
        with self._lock:
            if not self._closed:
                self._closed = True
                with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                    self._loop.call_soon_threadsafe(self._stop.set)
        return self._ended

    def _done(self, future: Future[list[str]]) -> None:
        del future
        with self._lock:
            self._waiting -= 1

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        finally:
            self._ended.set_result(None)

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        self._ready.set_result(asyncio.get_running_loop())
        await self._stop.wait()
        if self._publishing:
            await asyncio.wait(self._publishing, timeout=0.6 * CLOSE_TIMEOUT)
        await self._broker.close()
        if self._publishing:
            await asyncio.wait(self._publishing, timeout=0.2 * CLOSE_TIMEOUT)

    async def _publish(self, publications: Sequence[Publication]) -> list[str]:
        task = asyncio.current_task()
        assert task is not None
        self._publishing.add(task)
        try:
            await self._opened()
            offsets = await self._broker.publish(publications)
        except asyncio.CancelledError:
            if not self._stop.is_set():
                raise
            if not self._open:
                raise Unavailable("the publisher was closed before the log was open", code="broker_closed") from None
            raise Unavailable("outcome unknown, repeat with the same key", code="outcome_unknown") from None
        finally:
            self._publishing.discard(task)
        epoch = self._broker.lineage.epoch
        return [str(Position(epoch, offset)) for offset in offsets]

    async def _opened(self) -> None:
        """Open the log, once for all who wait; one who gives up does not stop it for the others."""
        if self._open:
            return
        if self._opening is None:
            self._opening = asyncio.create_task(self._try_to_open())
        await asyncio.shield(self._opening)

    async def _try_to_open(self) -> None:
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                await self._broker.open(None)
            self._open = True
        except TimeoutError:
            raise Unavailable("the log does not open", code="broker_lost") from None
        finally:
            self._opening = None
