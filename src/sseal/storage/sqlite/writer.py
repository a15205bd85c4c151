"""The thread that commits: everything that waits goes into one transaction (W28)."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from ...errors import SsealError, Unavailable
from .errors import ErrorLog, primary, translate
from .file_guard import FileGuard
from .schema import WAL_LIMIT
from .wakeups import Notifier
from .worker import AnyJob, Job, Outcome, Worker, run

__all__ = ["CommitListener", "Writer"]

BEGIN_TIMEOUT: Final = 1.5
"""Seconds to wait for the lock to write: a little less than callers have."""
BEGIN_INTERVAL: Final = (0.0002, 0.001)
"""Seconds between two tries. SQLite's own waits grow to 100 ms, which the unlucky of four writers would see."""
WAL_CHECK_COMMITS: Final = 64
"""Commits between two looks at the size of the write-ahead log."""


class CommitListener(Protocol):
    """Somebody in this process who is told of every commit, in the writing thread."""

    def on_commit(self) -> str | None:
        """Learn that something was committed; return the address of this process, which needs no datagram."""
        ...


class Writer(Worker):
    """Commits what waits in groups, and then wakes the other processes.

    :param guard: asked before and after every transaction whether this is still the file that was opened.
    """

    def __init__(
        self,
        guard: FileGuard,
        connect: Callable[[], sqlite3.Connection],
        error_log: ErrorLog,
        listener: CommitListener,
    ) -> None:
        super().__init__("write", connect, error_log)
        self._guard = guard
        self._wal = Path(f"{guard.path}-wal")
        self._listener = listener
        self._notifier = Notifier()
        self._commits = 0  # of this process

    async def end(self) -> None:
        """Let it finish what waits, and end the thread."""
        await super().end()
        self._notifier.close()

    def overdue(self) -> Unavailable:
        """Return what a caller is told whose job had begun: it may yet be done (W9)."""
        return Unavailable("outcome unknown, repeat with the same key", code="outcome_unknown")

    def serve(self, connection: sqlite3.Connection, jobs: Sequence[AnyJob]) -> list[Outcome]:
        """Commit a group; when the file or the disk is at fault, nothing of it was done."""
        try:
            self._guard.check()
            _begin_immediate(connection)
        except SsealError as error:
            self.error_log.report(error)
            return [(job, error) for job in jobs]
        outcomes, addresses = self._commit(connection, self.begin(jobs))
        own = self._listener.on_commit()
        if dead := self._notifier.wake(address for address in addresses if address != own):
            self.offer(Job(_drop_dead_listeners, dead))
        self._commits += 1
        if self._commits % WAL_CHECK_COMMITS == 0:
            self._truncate_wal(connection)
        return outcomes

    def _commit(self, connection: sqlite3.Connection, jobs: Sequence[AnyJob]) -> tuple[list[Outcome], list[str]]:
        addresses: list[str] = []
        committing = False
        try:
            outcomes = run(connection, jobs)
            if any(job.wake for job in jobs):
                addresses = [address for (address,) in connection.execute("SELECT address FROM listener")]
            committing = True
            connection.execute("COMMIT")
            self._guard.check()
        except (sqlite3.Error, Unavailable) as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error) and not committing:
                raise
            fault = translate(error, committing=True) if isinstance(error, sqlite3.Error) else error
            self.error_log.report(fault)
            return [(job, fault) for job in jobs], []
        return outcomes, addresses

    def _truncate_wal(self, connection: sqlite3.Connection) -> None:
        """Write the log back and start it anew if readers have kept SQLite from doing so."""
        try:
            if self._wal.stat().st_size > 2 * WAL_LIMIT:
                connection.execute("PRAGMA busy_timeout = 200")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                connection.execute("PRAGMA busy_timeout = 0")
        except (OSError, sqlite3.Error):
            return  # it is tried again


def _begin_immediate(connection: sqlite3.Connection) -> None:
    end = time.monotonic() + BEGIN_TIMEOUT
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if primary(error) != sqlite3.SQLITE_BUSY:
                raise
            if time.monotonic() > end:
                raise translate(error) from None
        time.sleep(random.uniform(*BEGIN_INTERVAL))  # noqa: S311 - only to be out of step with the others


def _drop_dead_listeners(connection: sqlite3.Connection, items: Sequence[Sequence[str]]) -> list[None]:
    """Remove the addresses nobody answers at."""
    for addresses in items:
        connection.executemany("DELETE FROM listener WHERE address = ?", [(address,) for address in addresses])
    return [None] * len(items)
