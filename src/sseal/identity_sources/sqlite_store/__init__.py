"""The store of one machine: records, revocations and mail in a SQLite file, which survive a restart (W15)."""

from __future__ import annotations

from .store import SqliteStore

__all__ = ["SqliteStore"]
