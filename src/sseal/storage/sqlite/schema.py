"""The file: where it may lie, its tables, and what every connection to it is set to."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from pathlib import Path
from typing import Final

from ...errors import InvalidInput

__all__ = ["WAL_LIMIT", "adopt", "connect", "create", "tighten"]

APPLICATION: Final = 0x5353454C
"""``SSEL`` in the header tells this file from those of other programs."""
VERSION: Final = 1
WAL_LIMIT: Final = 16 * 1024 * 1024
"""Bytes the write-ahead log is cut back to: several times what SQLite itself lets gather between checkpoints."""
OLDEST_SQLITE: Final = (3, 38, 0)
"""The first that always has the JSON functions."""

OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

logger = logging.getLogger("sseal.sqlite")

TABLES: Final = """
CREATE TABLE log (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    epoch TEXT NOT NULL,
    head INTEGER NOT NULL,
    trimmed INTEGER NOT NULL,
    events INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    records INTEGER NOT NULL,
    floor INTEGER NOT NULL,
    floor_at INTEGER NOT NULL,
    keep_count INTEGER,
    keep_age INTEGER,
    keep_bytes INTEGER
);
INSERT INTO log VALUES (1, '', 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL);
CREATE TABLE epoch (id INTEGER PRIMARY KEY, epoch TEXT NOT NULL, last INTEGER NOT NULL);
CREATE TABLE event (
    "offset" INTEGER PRIMARY KEY,
    topics TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    published_at INTEGER NOT NULL,
    expires_at INTEGER,
    retry INTEGER,
    type TEXT NOT NULL,
    data TEXT NOT NULL
);
CREATE TABLE listed (topic TEXT NOT NULL, "offset" INTEGER NOT NULL, PRIMARY KEY (topic, "offset")) WITHOUT ROWID;
CREATE TABLE trimmed (
    topic TEXT PRIMARY KEY, "offset" INTEGER NOT NULL, published_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX trimmed_by_offset ON trimmed ("offset");
CREATE TABLE claim (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, "offset" INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
);
CREATE TABLE listener (address TEXT PRIMARY KEY, beat INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE store (
    id INTEGER PRIMARY KEY CHECK (id = 1), records INTEGER NOT NULL, revoked INTEGER NOT NULL
);
INSERT INTO store VALUES (1, 0, 0);
CREATE TABLE record (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires_at INTEGER NOT NULL);
CREATE INDEX record_by_end ON record (expires_at);
CREATE TABLE revocation (number INTEGER PRIMARY KEY, record BLOB NOT NULL, expires_at INTEGER NOT NULL);
CREATE INDEX revocation_by_end ON revocation (expires_at);
CREATE TABLE node (name TEXT PRIMARY KEY, beat INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE mail (
    id INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT NOT NULL, body BLOB NOT NULL, expires_at INTEGER NOT NULL
);
"""
"""``log`` and ``store`` have one row each: counters apart from what they count, so that emptying a table never makes
a number come again (W10). Times are Unix microseconds."""

LEASES: Final = """
CREATE TABLE IF NOT EXISTS lease (
    owner TEXT PRIMARY KEY, ends INTEGER NOT NULL, length INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS held (
    "set" TEXT NOT NULL, owner TEXT NOT NULL, id TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY ("set", owner, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS held_by_owner ON held (owner);
"""
"""Also made in a file of an earlier build, which knows nothing of them and is not disturbed by them."""


def create(path: Path, setting: str) -> None:
    """Make an empty file readable by its owner only, unless there is one.

    :raises InvalidInput: it cannot lie there.
    :raises OSError: the file system refuses.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise InvalidInput(setting, f"needs SQLite {needed} or newer, this Python has {sqlite3.sqlite_version}")
    if not path.parent.is_dir():
        raise InvalidInput(setting, f"{path.parent} is no directory; make it, or name a file in another")
    if path.exists() and not path.is_file():
        raise InvalidInput(setting, f"{path} is no file; name one")
    if not os.access(path.parent, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise InvalidInput(setting, f"{path} may not be written; make it and its directory writable, or name another")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    os.close(descriptor)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # a power cut must not take the name of a file whose content is safe
    finally:
        os.close(folder)


def connect(path: Path, *, busy_timeout: float) -> sqlite3.Connection:
    """Connect to a file that exists.

    :param busy_timeout: seconds a statement waits for a lock of another process.
    """
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=busy_timeout, cached_statements=256
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
        connection.execute("PRAGMA temp_store = MEMORY")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def adopt(connection: sqlite3.Connection, setting: str, path: Path, *, alone: bool) -> None:
    """Make the tables in an empty file, or make sure that they are there.

    :param alone: whether no other process has it open; then the whole file is checked.
    :raises InvalidInput: the file is of another program, or of a newer version of this one, or damaged.
    """
    if _is_empty(connection):
        connection.execute("PRAGMA journal_mode = WAL")
        pragmas = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};"
        connection.executescript(f"BEGIN IMMEDIATE; {TABLES} {LEASES} {pragmas} COMMIT;")
        return
    if _number(connection, "application_id") != APPLICATION:
        raise InvalidInput(setting, f"{path} belongs to another program; name another file")
    version = _number(connection, "user_version")
    if version > VERSION:
        what = f"{path} was written by a newer version of sseal (format {version}, this one knows {VERSION})"
        raise InvalidInput(setting, f"{what}; use that version, or name another file")
    connection.execute("PRAGMA journal_mode = WAL")
    if alone and (found := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise InvalidInput(setting, f"{path} is damaged ({found}); restore a backup, or move it away to begin anew")
    if not connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'held'").fetchone()[0]:
        connection.executescript(f"BEGIN IMMEDIATE; {LEASES} COMMIT;")


def tighten(path: Path) -> None:
    """Take a file that was made by something else away from all but its owner, or warn that others may read it.

    By name: SQLite loses its locks when a descriptor of the file is closed.
    """
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        try:
            mode = file.stat().st_mode
            if mode & OTHERS:
                file.chmod(stat.S_IMODE(mode) & ~OTHERS)
                logger.info("sqlite: %s could be used by others, now by its owner only", file)
        except FileNotFoundError:
            continue
        except OSError:
            logger.warning("sqlite: others may use %s, which holds identities; let its owner run chmod 600 on it", file)
            return


def _is_empty(connection: sqlite3.Connection) -> bool:
    tables: int = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return not tables and not _number(connection, "application_id") and not _number(connection, "user_version")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    number: int = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
    return number
