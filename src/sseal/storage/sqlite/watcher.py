"""The thread that watches a file for what others have written, and hands it to the event loop."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, Final, Protocol

from ...clock import Clock
from ...errors import SsealError, Unavailable
from .errors import ErrorLog, translate
from .file_guard import FileGuard
from .rows import micros
from .schema import connect
from .wakeups import WakeupSocket
from .worker import Handler, Item, Job, Result
from .writer import Writer

__all__ = ["NODE_TIMEOUT", "FileListener", "Watcher"]

POLL_INTERVAL: Final = 0.05
"""Seconds between two looks at the file's version, for datagrams that were lost or cannot be sent."""
IDLE_POLLS: Final = 20
"""Looks in which nothing was new, after which there are half as many: an idle hub shall cost next to nothing."""
BUSY_TIMEOUT: Final = 1.0
"""Seconds a statement waits for a lock of another process."""
HEARTBEAT_INTERVAL: Final = 5.0
"""Seconds between two heartbeats of this process."""
NODE_TIMEOUT: Final = 15.0
"""Seconds after its last heartbeat for which a process counts as alive: two may be late."""

logger = logging.getLogger("sseal.sqlite")


class FileListener(Protocol):
    """Somebody who wants to know what was written. Errors of the file and of the hub pass through to the watcher.

    As long as there are any, the file counts as lost, and nothing is handed out before `on_reconnect` has gone well.
    """

    def on_change(self, connection: sqlite3.Connection, watcher: Watcher) -> None:
        """Read what is new; in the watching thread."""
        ...

    def on_reconnect(self, watcher: Watcher) -> None:
        """Learn that the file can be read again, before anybody looks; in the watching thread."""
        ...

    def on_heartbeat(self, connection: sqlite3.Connection) -> None:
        """Show that one is alive, and tidy up a bounded part; in the writing thread, about every 5 s."""
        ...

    def on_broadcast(self, body: bytes, watcher: Watcher) -> None:
        """Take what another process has sent without writing it; in the watching thread."""
        ...


class Watcher:
    """Tells listeners whenever the file has changed.

    A datagram wakes it after a commit (W28); whether there is something new is told by ``data_version`` alone, so
    that nobody who sends one without reason costs more than a glance.

    :param loop: where `call` runs things.
    """

    def __init__(
        self,
        guard: FileGuard,
        writer: Writer,
        clock: Clock,
        error_log: ErrorLog,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.lost_since: float | None = None  # monotonic; set by the watching thread alone
        self._guard = guard
        self._writer = writer
        self._clock = clock
        self._error_log = error_log
        self._loop = loop
        self._socket = WakeupSocket()
        self._listeners: tuple[FileListener, ...] = ()  # replaced as a whole, by the event loop
        self._wanted: list[Future[None]] = []  # who waits in `look`; guarded by _lock
        self._lock = threading.Lock()
        self._closing = threading.Event()  # set by `end`; nothing is waited for any more
        self._ended: Future[None] = Future()  # done when the thread is
        self._ended.set_running_or_notify_cancel()  # who waits may be cancelled, the end of the thread may not
        self._last_heartbeat = -HEARTBEAT_INTERVAL  # monotonic
        self._version = -1  # SQLite's data_version at the last look; -1 for none
        self._idle_polls = 0  # looks since anything was new
        self._again = threading.Event()  # look even if the version is the same
        self._damage: Unavailable | None = None  # why the file did not take the last heartbeat, if it is damaged
        self._thread = threading.Thread(target=self._run, name="sseal-sqlite-watch", daemon=True)
        self._thread.start()

    async def add(self, listener: FileListener) -> None:
        """Tell a listener from now on; others know of this process when it returns."""
        self._last_heartbeat = self._clock.monotonic()  # before the thread sees the listener and sends one beside this
        self._listeners = (*self._listeners, listener)
        await self._writer.call(self._heartbeat, None)

    async def remove(self, listener: FileListener) -> None:
        """Leave a listener alone; when it returns, it is told nothing any more."""
        self._listeners = tuple(other for other in self._listeners if other is not listener)
        try:
            await self.look()
        except Unavailable:
            return  # the last look is over all the same

    async def look(self) -> None:
        """Have everybody look now.

        :raises Unavailable: the file cannot be read.
        """
        wanted: Future[None] = Future()
        with self._lock:
            if self._closing.is_set():
                return
            self._wanted.append(wanted)
        self._socket.wake()
        await asyncio.wrap_future(wanted)

    @property
    def address(self) -> str | None:
        """Where others send wake-ups."""
        return self._socket.address

    def wake(self) -> str | None:
        """Look soon, and return the address others wake it at; callable from any thread."""
        if not self._closing.is_set():
            self._socket.wake()
        return self._socket.address

    def call(self, function: Callable[[], object]) -> bool:
        """Run a function in the event loop and wait until it is done; tell whether it was.

        Called in the watching thread, which thereby never reads further ahead than the loop can follow.

        :raises Unavailable: it failed; let it through, and everything is looked at again after `on_reconnect`.
        """
        done: Future[None] = Future()

        def run() -> None:
            try:
                function()
            except Exception as error:  # noqa: BLE001 - goes to the watching thread
                done.set_exception(error)
            else:
                done.set_result(None)

        try:
            self._loop.call_soon_threadsafe(run)
        except RuntimeError:
            return False  # the loop is closed
        return self._await(done)

    def call_async(self, function: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Run a coroutine in the event loop and wait until it is done; tell whether it was.

        :raises Unavailable: it failed, as with `call`.
        """
        coroutine = function()
        try:
            task = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            return False
        return self._await(task)

    def write(self, handler: Handler[Item, Result], item: Item) -> Result:
        """Have something written and wait for it; called in the watching thread.

        :raises Unavailable: it could not be written.
        """
        reply: Future[Result] = Future()
        self._writer.offer(Job(handler, item, wake=True, reply=reply))
        while not self._closing.is_set():
            try:
                return reply.result(0.2)
            except TimeoutError:
                continue
        raise Unavailable("the log is closed", code="broker_closed")

    def write_later(self, handler: Handler[Item, Result], item: Item, then: Callable[[Result | None], object]) -> None:
        """Have something written; reading goes on meanwhile.

        :param then: gets the result in the event loop; None when it could not be written.
        """

        def answered(reply: Future[Result]) -> None:
            result = None if reply.exception() is not None else reply.result()
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(then, result)

        reply: Future[Result] = Future()
        reply.add_done_callback(answered)
        try:
            self._writer.offer(Job(handler, item, wake=True, reply=reply))
        except Unavailable as error:
            reply.set_exception(error)

    def look_again(self) -> None:
        """Look soon, even if nothing was written meanwhile; callable from any thread."""
        self._again.set()
        self.wake()

    async def end(self) -> None:
        """End the thread and take the address out of the file."""
        self._closing.set()
        self._socket.wake()
        await asyncio.wrap_future(self._ended)
        self._thread.join()
        if self._socket.address is not None:
            try:
                await self._writer.call(_drop_listener, self._socket.address)
            except Unavailable:
                logger.debug("the address stays until its heartbeat is old")
        self._socket.close()

    def _await(self, done: Future[None]) -> bool:
        while not wait([done], 0.1).done:
            if self._closing.is_set():
                return False
        if done.cancelled():
            return False
        if (error := done.exception()) is None:
            return True
        raise Unavailable(f"the hub cannot go on yet, tried again: {error!r}", code="hub_failed") from error

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        while not self._closing.is_set():
            wanted = self._take_wanted()
            try:
                self._guard.measure()
                connection = connection or connect(self._guard.path, busy_timeout=BUSY_TIMEOUT)
                self._guard.check_size(connection)
                self._look(connection)
            except (sqlite3.Error, SsealError) as error:
                if connection is not None:
                    connection.close()
                connection = None
                self._lose(error, wanted)
            except Exception:
                logger.exception("a listener failed")
                self._version = -1
            for reply in wanted:
                if not reply.done():
                    reply.set_result(None)
            self._send_heartbeat_if_due()
            self._socket.wait(POLL_INTERVAL if self._idle_polls < IDLE_POLLS else 2 * POLL_INTERVAL)
            self._hand_out_broadcasts()
        if connection is not None:
            connection.close()
        for reply in self._take_wanted():
            reply.set_result(None)
        self._ended.set_result(None)

    def _hand_out_broadcasts(self) -> None:
        """Hand out broadcasts: what is sent without the file does not wait until that is well."""
        for body in self._socket.take_broadcasts():
            for listener in self._listeners:
                try:
                    listener.on_broadcast(body, self)
                except Exception:
                    logger.exception("a listener failed")

    def _take_wanted(self) -> list[Future[None]]:
        """Return who wants a look and still waits for it."""
        with self._lock:
            wanted, self._wanted = self._wanted, []
        return [reply for reply in wanted if reply.set_running_or_notify_cancel()]

    def _look(self, connection: sqlite3.Connection) -> None:
        if self._damage is not None:
            raise self._damage
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version == self._version and self.lost_since is None and not self._again.is_set():
            self._idle_polls += 1
            return
        self._idle_polls = 0
        self._again.clear()
        listeners = self._listeners
        for listener in listeners if self.lost_since is not None else ():
            listener.on_reconnect(self)
        for listener in listeners:
            listener.on_change(connection, self)
        self._version = version
        self.lost_since = None

    def _lose(self, error: Exception, wanted: Sequence[Future[None]]) -> None:
        fault = translate(error) if isinstance(error, sqlite3.Error) else error
        if isinstance(fault, SsealError) and not self._closing.is_set():
            self._error_log.report(fault)
        if self.lost_since is None:
            self.lost_since = self._clock.monotonic()
        for reply in wanted:
            reply.set_exception(fault)

    def _send_heartbeat_if_due(self) -> None:
        if not self._listeners or self._clock.monotonic() - self._last_heartbeat < HEARTBEAT_INTERVAL:
            return
        self._last_heartbeat = self._clock.monotonic()
        try:
            reply: Future[None] = Future()
            reply.add_done_callback(self._on_heartbeat_written)
            self._writer.offer(Job(self._heartbeat, None, reply=reply))
        except Unavailable:
            return  # the next one may go through

    def _on_heartbeat_written(self, reply: Future[None]) -> None:
        """Note whether the file took a heartbeat. One that cannot be written now is read as ever; a damaged one is not.

        Without this a hub would go on with what SQLite remembers of the file, and hear of nothing (W17).
        """
        error = reply.exception()
        self._damage = error if isinstance(error, Unavailable) and error.code == "broker_failed" else None

    def _heartbeat(self, connection: sqlite3.Connection, items: Sequence[None]) -> list[None]:
        now = micros(self._clock.wall())
        if self._socket.address is not None:
            connection.execute(
                "INSERT INTO listener VALUES (?, ?) ON CONFLICT (address) DO UPDATE SET beat = excluded.beat",
                (self._socket.address, now),
            )
        connection.execute("DELETE FROM listener WHERE abs(beat - ?) > ?", (now, micros(NODE_TIMEOUT)))
        for listener in self._listeners:
            listener.on_heartbeat(connection)
        return [None] * len(items)


def _drop_listener(connection: sqlite3.Connection, addresses: Sequence[str]) -> list[None]:
    connection.executemany("DELETE FROM listener WHERE address = ?", [(address,) for address in addresses])
    return [None] * len(addresses)
