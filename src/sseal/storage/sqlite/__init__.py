"""One machine: a SQLite file that any number of its processes append to and read back, and that survives a restart."""

from __future__ import annotations

from ...clock import Clock
from ..address import file_of
from ..broker import Retention
from .broker import SqliteBroker
from .database import Database
from .store import SqliteStore

__all__ = ["Database", "SqliteBroker", "SqliteStorage", "SqliteStore"]


class SqliteStorage:
    """See `sseal.storage.Storage`; broker and store share the file and its threads."""

    def __init__(self, address: str, clock: Clock, field: str) -> None:
        self._clock = clock
        self._database = Database(file_of(address, field), clock)

    def broker(self, retention: Retention | None = None) -> SqliteBroker:
        """Return the log in the file."""
        return SqliteBroker(self._database, self._clock, retention)

    def store(self) -> SqliteStore:
        """Return the store in the file."""
        return SqliteStore(self._database, self._clock)
