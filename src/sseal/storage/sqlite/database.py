"""One SQLite file: opened by the first who needs it in a process, closed by the last."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from ...clock import Clock
from ...errors import InvalidInput, TooLarge, Unavailable
from . import epochs, schema
from .errors import ErrorLog, at_open
from .file_guard import FileGuard
from .lock import OpenLock
from .wakeups import MAX_BODY, Notifier
from .watcher import FileListener, Watcher
from .worker import Handler, Item, Result, Worker
from .writer import Writer

__all__ = ["Database", "FileListener"]

OPEN_TIMEOUT: Final = 5.0
"""Seconds to wait for others while the file is opened."""
BUSY_TIMEOUT: Final = 1.0
"""Seconds a statement waits for a lock of another process afterwards."""
BROADCAST_TRIES: Final = 20
"""Times a broadcast is tried at a process whose queue of datagrams is full."""
BROADCAST_INTERVAL: Final = 0.01
"""Seconds between two of them."""

_Thread = TypeVar("_Thread", bound=Worker)


class Database:
    """A file that broker and store of a process may share; each opens it and closes it.

    One thread writes, one reads, one reads what takes long, and one watches for what other processes have written,
    once somebody listens.

    :param path: the file; made when it is missing, readable by its owner only. ``<path>-lock`` stands beside it.
    :param clock: where the times in the file come from.
    """

    def __init__(self, path: str | os.PathLike[str], clock: Clock) -> None:
        if os.fspath(path) in ("", ":memory:"):
            raise InvalidInput("broker", "names no file; use memory:// for a log that is forgotten")
        self.path = Path(path).absolute()
        self.clock = clock
        self._users = 0  # how often it was opened and not closed yet
        self._opening = asyncio.Lock()  # held while somebody opens or closes
        self._error_log = ErrorLog(clock)
        self._guard = FileGuard(self.path)
        self._lock: OpenLock | None = None  # this, the threads and the watcher exist while there are users
        self._reader: Worker | None = None
        self._long_reader: Worker | None = None  # for pages of the history, so that they keep no ticket waiting
        self._writer: Writer | None = None
        self._watcher: Watcher | None = None  # exists once somebody listens

    @property
    def lost_since(self) -> float | None:
        """Since when the file cannot be read (``Clock.monotonic``); None while it can, or nobody listens."""
        return None if self._watcher is None else self._watcher.lost_since

    async def open(self, setting: str) -> None:
        """Start the threads, unless they run; the first process that opens the file starts a new epoch (W10).

        :param setting: what errors name.
        :raises InvalidInput: the file cannot be used; says why and what to do.
        :raises Unavailable: not now: it is locked, or its disk is full.
        """
        async with self._opening:
            if not self._users:
                await _in_thread(lambda: self._prepare(setting))
                self._reader = Worker("read", self._connect_reader, self._error_log)
                self._long_reader = Worker("read-long", self._connect_reader, self._error_log)
                self._writer = Writer(self._guard, self._connect_writer, self._error_log, self)
                for thread in (self._reader, self._long_reader, self._writer):
                    thread.start()
            self._users += 1

    async def close(self) -> None:
        """Finish what waits and end the threads when this was the last user."""
        async with self._opening:
            self._users -= 1
            if self._users or self._lock is None:
                return
            if self._watcher is not None:
                await self._watcher.end()
                self._watcher = None
            for thread in (self._writer, self._reader, self._long_reader):
                await _of(thread).end()
            self._lock.release()
            self._writer = self._reader = self._long_reader = self._lock = None

    async def write(self, handler: Handler[Item, Result], item: Item, *, size: int = 0, wake: bool = False) -> Result:
        """Have something written; returns when it is on the disk.

        :param handler: does all that waits for it at once, in one transaction.
        :param size: bytes held while it waits.
        :param wake: tell the listeners of all processes at once, instead of within 50 ms.
        :raises Unavailable: ``code`` says why: busy, disk_full, read_only, broker_failed, outcome_unknown.
        """
        return await _of(self._writer).call(handler, item, size=size, wake=wake)

    async def read(self, handler: Handler[Item, Result], item: Item, *, long: bool = False) -> Result:
        """Have something read, in one snapshot.

        :param long: whether it takes more than a moment: it then keeps no revocation or ticket waiting (W17).
        :raises Unavailable: not now.
        """
        return await _of(self._long_reader if long else self._reader).call(handler, item)

    async def listen(self, listener: FileListener) -> None:
        """Tell a listener from now on whenever something was written."""
        if self._watcher is None:
            loop = asyncio.get_running_loop()
            self._watcher = Watcher(self._guard, _of(self._writer), self.clock, self._error_log, loop)
        await self._watcher.add(listener)

    async def unlisten(self, listener: FileListener) -> None:
        """Leave a listener alone."""
        if self._watcher is not None:
            await self._watcher.remove(listener)

    async def broadcast(self, body: bytes) -> None:
        """Send a message to the listeners of all other processes, without writing: it works on a full disk too.

        :raises TooLarge: it is over 32 KiB.
        :raises Unavailable: it cannot be read who they are.
        """
        if len(body) > MAX_BODY:
            raise TooLarge("body", f"is {len(body)} bytes, at most {MAX_BODY} are broadcast")
        own = None if self._watcher is None else self._watcher.address
        waiting = [address for address in await self.read(_addresses, None) if address != own]
        notifier = Notifier()
        try:
            for _ in range(BROADCAST_TRIES):
                if not (waiting := notifier.broadcast(body, waiting)):
                    return
                await asyncio.sleep(BROADCAST_INTERVAL)
        finally:
            notifier.close()

    async def look(self) -> None:
        """Have all listeners look now; returns when they have.

        :raises Unavailable: the file cannot be read.
        """
        if self._watcher is not None:
            await self._watcher.look()

    def on_commit(self) -> str | None:
        """Wake this process's own watcher; see `sseal.storage.sqlite.writer.CommitListener`."""
        watcher = self._watcher
        return None if watcher is None else watcher.wake()

    def _connect_reader(self) -> sqlite3.Connection:
        return schema.connect(self.path, busy_timeout=BUSY_TIMEOUT)

    def _connect_writer(self) -> sqlite3.Connection:
        connection = schema.connect(self.path, busy_timeout=BUSY_TIMEOUT)
        connection.execute("PRAGMA busy_timeout = 0")  # the writer's own waits are shorter
        return connection

    def _prepare(self, setting: str) -> None:
        try:
            schema.create(self.path, setting)
            lock = OpenLock(f"{self.path}-lock")
            try:
                self._adopt(setting, lock)
            except BaseException:
                lock.release()
                raise
            self._lock = lock
        except (sqlite3.Error, OSError) as error:
            raise at_open(error, setting, str(self.path)) from None

    def _adopt(self, setting: str, lock: OpenLock) -> None:
        alone = lock.acquire()
        connection = schema.connect(self.path, busy_timeout=OPEN_TIMEOUT)
        try:
            schema.adopt(connection, setting, self.path, alone=alone)
            if alone:
                connection.execute("BEGIN IMMEDIATE")
                epochs.begin(connection)
                connection.execute("DELETE FROM listener")
                connection.execute("COMMIT")
                lock.share()
            self._guard.remember()
            schema.tighten(self.path)
        finally:
            connection.close()


def _addresses(connection: sqlite3.Connection, items: Sequence[None]) -> list[list[str]]:
    """Return where other processes listen."""
    found = [address for (address,) in connection.execute("SELECT address FROM listener")]
    return [found] * len(items)


def _of(worker: _Thread | None) -> _Thread:
    if worker is None:
        raise Unavailable("the log is closed", code="broker_closed")
    return worker


async def _in_thread(function: Callable[[], None]) -> None:
    """Run a function in a thread of its own; the default executor may be full of the application's work."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def work() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - goes to the caller
            loop.call_soon_threadsafe(finish, error)
        else:
            loop.call_soon_threadsafe(finish, None)

    threading.Thread(target=work, name="sseal-sqlite-open", daemon=True).start()
    await done
