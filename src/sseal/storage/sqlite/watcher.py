"""The thread that watches a file for what others have written, and hands it to the event loop."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from ...clock import Clock
from ...errors import SsealError, Unavailable
from .errors import Faults, translate
from .rows import micros
from .schema import connect
from .wakeups import Bell
from .worker import Handler, Job

if TYPE_CHECKING:
    from .database import Database

__all__ = ["ALIVE", "Listener", "Watcher"]

POLL: Final = 0.05
"""Seconds between two looks at the file's version, for datagrams that were lost or cannot be sent."""
QUIET: Final = 20
"""Looks in which nothing was new, after which there are half as many: an idle hub shall cost next to nothing."""
BEAT: Final = 5.0
ALIVE: Final = 15.0
"""Seconds after its last heartbeat for which a process counts as alive: two may be late."""

logger = logging.getLogger("sseal.sqlite")


class Listener(Protocol):
    """Somebody who wants to know what was written. Errors of the file and of the hub pass through to the watcher.

    As long as there are any, the file counts as lost, and nothing is handed out before `on_reconnect` has gone well.
    """

    def look(self, connection: sqlite3.Connection, watcher: Watcher) -> None:
        """Read what is new; in the watching thread."""
        ...

    def on_reconnect(self, watcher: Watcher) -> None:
        """Learn that the file can be read again, before anybody looks; in the watching thread."""
        ...

    def beat(self, connection: sqlite3.Connection) -> None:
        """Say that one is alive, and tidy up a bounded part; in the writing thread, about every 5 s."""
        ...

    def told(self, body: bytes, watcher: Watcher) -> None:
        """Take what another process said without writing it; in the watching thread."""
        ...


class Watcher:
    """Lets listeners look whenever the file has changed.

    A datagram wakes it after a commit (W28); whether there is something new is told by ``data_version`` alone, so
    that nobody who rings without reason costs more than a glance.

    :param database: the file.
    :param loop: where `call` runs things.
    """

    def __init__(self, database: Database, faults: Faults, loop: asyncio.AbstractEventLoop) -> None:
        self.lost_since: float | None = None
        self._database = database
        self._clock: Clock = database.clock
        self._faults = faults
        self._loop = loop
        self._bell = Bell()
        self._listeners: tuple[Listener, ...] = ()
        self._wanted: list[Future[None]] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._ended: Future[None] = Future()
        self._ended.set_running_or_notify_cancel()  # who waits may be cancelled, the end of the thread may not
        self._last_beat = -BEAT
        self._version = -1
        self._quiet = 0
        self._again = threading.Event()
        self._unfit: Unavailable | None = None  # why the file did not take the last heartbeat, if it is damaged
        self._thread = threading.Thread(target=self._run, name="sseal-sqlite-watch", daemon=True)
        self._thread.start()

    async def add(self, listener: Listener) -> None:
        """Let a listener look from now on; others know of this process when it returns."""
        self._last_beat = self._clock.monotonic()  # before the thread sees the listener and beats beside this
        self._listeners = (*self._listeners, listener)
        await self._database.write(self._beat, None)

    async def remove(self, listener: Listener) -> None:
        """Leave a listener alone; when it returns, it does not look any more."""
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
        self._bell.ring_own()
        await asyncio.wrap_future(wanted)

    @property
    def address(self) -> str | None:
        """Where others ring."""
        return self._bell.address

    def wake(self) -> str | None:
        """Look soon, and return the address others ring at; callable from any thread."""
        if not self._closing.is_set():
            self._bell.ring_own()
        return self._bell.address

    def call(self, function: Callable[[], object]) -> bool:
        """Run a function in the event loop and wait until it is done; tell whether it was.

        Called in the watching thread, which thereby never reads further ahead than the loop can follow.

        :raises Unavailable: it failed; let it through, and everything is looked at again after `Listener.on_reconnect`.
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

    def write(self, handler: Handler, item: Any) -> Any:
        """Have something written and wait for it; called in the watching thread.

        :raises Unavailable: it could not be written.
        """
        reply: Future[Any] = Future()
        self._database.post(Job(handler, item, wake=True, reply=reply))
        while not self._closing.is_set():
            try:
                return reply.result(0.2)
            except TimeoutError:
                continue
        raise Unavailable("the log is closed", code="broker_closed")

    def write_later(self, handler: Handler, item: Any, then: Callable[[Any], object]) -> None:
        """Have something written; reading goes on meanwhile.

        :param then: gets the result in the event loop; None when it could not be written.
        """

        def answered(reply: Future[Any]) -> None:
            result = None if reply.exception() is not None else reply.result()
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(then, result)

        reply: Future[Any] = Future()
        reply.add_done_callback(answered)
        try:
            self._database.post(Job(handler, item, wake=True, reply=reply))
        except Unavailable as error:
            reply.set_exception(error)

    def look_again(self) -> None:
        """Look soon, even if nothing was written meanwhile; callable from any thread."""
        self._again.set()
        self.wake()

    async def end(self) -> None:
        """End the thread and take the address out of the file."""
        self._closing.set()
        self._bell.ring_own()
        await asyncio.wrap_future(self._ended)
        self._thread.join()
        if self._bell.address is not None:
            try:
                await self._database.write(_leave, self._bell.address)
            except Unavailable:
                logger.debug("the address stays until its heartbeat is old")
        self._bell.close()

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
                self._database.measure()
                connection = connection or connect(self._database.path, patience=1.0)
                self._database.whole_file(connection)
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
            self._beat_if_due()
            self._bell.wait(POLL if self._quiet < QUIET else 2 * POLL)
            self._pass_on()
        if connection is not None:
            connection.close()
        for reply in self._take_wanted():
            reply.set_result(None)
        self._ended.set_result(None)

    def _pass_on(self) -> None:
        """Hand out broadcasts: what is said without the file does not wait until that is well."""
        for body in self._bell.take():
            for listener in self._listeners:
                try:
                    listener.told(body, self)
                except Exception:
                    logger.exception("a listener failed")

    def _take_wanted(self) -> list[Future[None]]:
        """Return who wants a look and still waits for it."""
        with self._lock:
            wanted, self._wanted = self._wanted, []
        return [reply for reply in wanted if reply.set_running_or_notify_cancel()]

    def _look(self, connection: sqlite3.Connection) -> None:
        if self._unfit is not None:
            raise self._unfit
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version == self._version and self.lost_since is None and not self._again.is_set():
            self._quiet += 1
            return
        self._quiet = 0
        self._again.clear()
        listeners = self._listeners
        for listener in listeners if self.lost_since is not None else ():
            listener.on_reconnect(self)
        for listener in listeners:
            listener.look(connection, self)
        self._version = version
        self.lost_since = None

    def _lose(self, error: Exception, wanted: Sequence[Future[None]]) -> None:
        fault = translate(error) if isinstance(error, sqlite3.Error) else error
        if isinstance(fault, SsealError) and not self._closing.is_set():
            self._faults.report(fault)
        if self.lost_since is None:
            self.lost_since = self._clock.monotonic()
        for reply in wanted:
            reply.set_exception(fault)

    def _beat_if_due(self) -> None:
        if not self._listeners or self._clock.monotonic() - self._last_beat < BEAT:
            return
        self._last_beat = self._clock.monotonic()
        try:
            reply: Future[Any] = Future()
            reply.add_done_callback(self._beaten)
            self._database.post(Job(self._beat, None, reply=reply))
        except Unavailable:
            return  # the next one may go through

    def _beaten(self, reply: Future[Any]) -> None:
        """Note whether the file took a heartbeat. One that cannot be written now is read as ever; a damaged one is not.

        Without this a hub would go on with what SQLite remembers of the file, and hear of nothing (W17).
        """
        error = reply.exception()
        self._unfit = error if isinstance(error, Unavailable) and error.code == "broker_failed" else None

    def _beat(self, connection: sqlite3.Connection, items: Sequence[None]) -> list[None]:
        now = micros(self._clock.wall())
        if self._bell.address is not None:
            connection.execute(
                "INSERT INTO listener VALUES (?, ?) ON CONFLICT (address) DO UPDATE SET beat = excluded.beat",
                (self._bell.address, now),
            )
        connection.execute("DELETE FROM listener WHERE abs(beat - ?) > ?", (now, micros(ALIVE)))
        for listener in self._listeners:
            listener.beat(connection)
        return [None] * len(items)


def _leave(connection: sqlite3.Connection, addresses: Sequence[str]) -> list[None]:
    connection.executemany("DELETE FROM listener WHERE address = ?", [(address,) for address in addresses])
    return [None] * len(addresses)
