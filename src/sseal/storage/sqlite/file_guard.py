"""Notices that the file was deleted, replaced or cut short while it is open."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ...errors import Unavailable
from .errors import damaged

__all__ = ["FileGuard"]


class FileGuard:
    """What is known of the file that was opened. All methods may be called from any thread.

    :param path: the file, which need not exist before `remember`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = (0, 0)  # device and inode of the file that was opened
        self._size = 0  # bytes, the last time it was whole; changed by `check_size`, in the watching thread
        self._cut_short = False  # what `check_size` found last

    def remember(self) -> None:
        """Take the file that the path names now for the one that is open.

        :raises OSError: there is none.
        """
        status = self.path.stat()
        self._identity, self._size, self._cut_short = (status.st_dev, status.st_ino), 0, False

    def check(self) -> None:
        """Make sure that the path still names the file that was opened, and that `check_size` found it whole.

        :raises Unavailable: it was deleted, replaced or cut short.
        """
        self.measure()
        if self._cut_short:
            raise damaged()

    def check_size(self, connection: sqlite3.Connection) -> None:
        """Make sure that nobody has cut the file short; called by the watcher.

        SQLite itself goes on with what it remembers of such a file, and acknowledges what a checkpoint then spoils. A
        file in WAL mode gets smaller only after its count of pages has.

        :raises Unavailable: as `check`.
        """
        size = self.measure()
        if size < self._size:
            ((pages,), (page,)) = (connection.execute(f"PRAGMA {of}").fetchone() for of in ("page_count", "page_size"))
            self._cut_short = size < max(1, pages) * page
            if self._cut_short:
                raise damaged()
        self._size, self._cut_short = size, False

    def measure(self) -> int:
        """Return the size of the file, in bytes.

        :raises Unavailable: it was deleted or replaced.
        """
        try:
            status = self.path.stat()
            found, size = (status.st_dev, status.st_ino), status.st_size
        except OSError:
            found, size = (0, 0), 0
        if found != self._identity:
            what = f"{self.path} was deleted or replaced while it was open; put it back, or restart every hub"
            raise Unavailable(what, code="broker_failed", retry_after=30.0)
        return size
