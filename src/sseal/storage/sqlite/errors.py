"""What goes wrong with a file: as errors that say what to do, and in the log not more than once a minute."""

from __future__ import annotations

import errno
import logging
import sqlite3
from typing import Final

from ...clock import Clock
from ...errors import InvalidInput, SsealError, Unavailable

__all__ = ["ErrorLog", "at_open", "damaged", "lasting", "primary", "translate"]

REPEAT_INTERVAL: Final = 60.0
"""Seconds between two lines about the same fault: a full disk is met by every event."""
_OF_THE_FILE: Final = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOTADB,
    )
)
_UNPROVEN: Final = frozenset((sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC))
"""After these nobody knows whether the commit is on the disk."""

logger = logging.getLogger("sseal.sqlite")


class ErrorLog:
    """The log of what went wrong with one file."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._logged_at: dict[str, float] = {}  # by error code, in monotonic seconds

    def report(self, error: SsealError) -> None:
        """Log a fault unless one of its kind was logged a moment ago."""
        now = self._clock.monotonic()
        if now - self._logged_at.get(error.code, -REPEAT_INTERVAL) < REPEAT_INTERVAL:
            return
        self._logged_at[error.code] = now
        cause = None if isinstance(error.__cause__, SsealError) else error.__cause__
        logger.error("sqlite: %s", error.detail, extra={"code": error.code}, exc_info=cause)


def primary(error: BaseException) -> int:
    """Return SQLite's primary result code, 0 for anything that is none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def lasting(error: sqlite3.Error) -> bool:
    """Tell whether the file or the disk is at fault, and not the statement."""
    return primary(error) in _OF_THE_FILE or _lacks_tables(error)


def damaged() -> Unavailable:
    """Return what is said of a file that cannot be relied on any more."""
    what = "the file of the log is damaged; stop every hub and restore a backup of it"
    return Unavailable(what, code="broker_failed", retry_after=30.0)


def _lacks_tables(error: sqlite3.Error) -> bool:
    """Tell whether a file was emptied under its processes: every statement of ours is about tables it began with."""
    return primary(error) == sqlite3.SQLITE_ERROR and str(error).startswith("no such table")


def translate(error: sqlite3.Error, *, committing: bool = False) -> Unavailable:
    """Return what a caller is told; nothing was appended unless it says ``outcome_unknown``."""
    code = primary(error)
    if committing and getattr(error, "sqlite_errorcode", 0) in _UNPROVEN:
        return Unavailable("outcome unknown, repeat with the same key", code="outcome_unknown")
    if code == sqlite3.SQLITE_FULL:
        return Unavailable("the disk of the log is full; make room on it", code="disk_full", retry_after=5.0)
    if code == sqlite3.SQLITE_READONLY:
        return Unavailable("the file of the log is read-only; make it writable", code="read_only", retry_after=5.0)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable("the file of the log is locked by another process", code="busy")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or _lacks_tables(error):
        return damaged()
    return Unavailable(f"the file of the log cannot be used ({error})", code="broker_failed", retry_after=5.0)


def at_open(error: sqlite3.Error | OSError, setting: str, path: str) -> SsealError:
    """Return what to raise when a file cannot be opened: what only the operator can change is `InvalidInput`."""
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Unavailable("the disk of the log is full; make room on it", code="disk_full", retry_after=5.0)
        return InvalidInput(setting, f"{path}: {error.strerror or error}; name a file in a directory you may write to")
    code = primary(error)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return InvalidInput(
            setting, f"{path} is damaged or no SQLite file; restore a backup, or move it away to begin anew"
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_CANTOPEN):
        return InvalidInput(
            setting, f"{path} cannot be written ({error}); make the file and its directory writable, or name another"
        )
    return translate(error)
