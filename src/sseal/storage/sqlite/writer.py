"""The thread that commits: everything that waits goes into one transaction (W28)."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from ...errors import SsealError, Unavailable
from .errors import Faults, primary, translate
from .schema import WAL_LIMIT
from .wakeups import Ringer
from .worker import Job, Outcome, Worker, run

__all__ = ["Writer"]

PATIENCE: Final = 1.5
"""Seconds to wait for the turn to write: a little less than callers have."""
TURN: Final = (0.0002, 0.001)
"""Seconds between two tries. SQLite's own waits grow to 100 ms, which the unlucky of four writers would see."""
LOOK_EVERY: Final = 64
"""Commits between two looks at the size of the write-ahead log."""


class Writer(Worker):
    """Commits what waits in groups, and then wakes the other processes.

    :param same_file: raises `Unavailable` when the path names another file by now.
    :param wake_own: wakes the watcher of this process, and returns the address others ring it at.
    """

    def __init__(
        self,
        path: Path,
        connect: Callable[[], sqlite3.Connection],
        faults: Faults,
        same_file: Callable[[], None],
        wake_own: Callable[[], str | None],
    ) -> None:
        super().__init__("write", connect, faults)
        self._wal = Path(f"{path}-wal")
        self._same_file = same_file
        self._wake_own = wake_own
        self._ringer = Ringer()
        self._commits = 0

    async def end(self) -> None:
        """Let it finish what waits, and end the thread."""
        await super().end()
        self._ringer.close()

    def overdue(self) -> Unavailable:
        """Return what a caller is told whose job had begun: it may yet be done (W9)."""
        return Unavailable("outcome unknown, repeat with the same key", code="outcome_unknown")

    def serve(self, connection: sqlite3.Connection, jobs: Sequence[Job]) -> list[Outcome]:
        """Commit a group; when the file or the disk is at fault, nothing of it was done."""
        try:
            self._same_file()
            _take_turn(connection)
        except SsealError as error:
            self.faults.report(error)
            return [(job, error) for job in jobs]
        outcomes, addresses = self._commit(connection, self.begin(jobs))
        own = self._wake_own()
        if gone := self._ringer.ring(address for address in addresses if address != own):
            self.offer(Job(_strike, gone))
        self._commits += 1
        if self._commits % LOOK_EVERY == 0:
            self._cut_back(connection)
        return outcomes

    def _commit(self, connection: sqlite3.Connection, jobs: Sequence[Job]) -> tuple[list[Outcome], list[str]]:
        addresses: list[str] = []
        committing = False
        try:
            outcomes = run(connection, jobs)
            if any(job.wake for job in jobs):
                addresses = [address for (address,) in connection.execute("SELECT address FROM listener")]
            committing = True
            connection.execute("COMMIT")
            self._same_file()
        except (sqlite3.Error, Unavailable) as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error) and not committing:
                raise
            fault = translate(error, committing=True) if isinstance(error, sqlite3.Error) else error
            self.faults.report(fault)
            return [(job, fault) for job in jobs], []
        return outcomes, addresses

    def _cut_back(self, connection: sqlite3.Connection) -> None:
        """Write the log back and start it anew if readers have kept SQLite from doing so."""
        try:
            if self._wal.stat().st_size > 2 * WAL_LIMIT:
                connection.execute("PRAGMA busy_timeout = 200")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                connection.execute("PRAGMA busy_timeout = 0")
        except (OSError, sqlite3.Error):
            return  # it is tried again


def _take_turn(connection: sqlite3.Connection) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if primary(error) != sqlite3.SQLITE_BUSY:
                raise
            if time.monotonic() > end:
                raise translate(error) from None
        time.sleep(random.uniform(*TURN))  # noqa: S311 - only to be out of step with the others


def _strike(connection: sqlite3.Connection, items: Sequence[Any]) -> list[None]:
    """Remove the addresses nobody answers at."""
    for addresses in items:
        connection.executemany("DELETE FROM listener WHERE address = ?", [(address,) for address in addresses])
    return [None] * len(items)
