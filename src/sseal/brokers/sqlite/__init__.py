"""The log of one machine: a SQLite file that any number of its processes append to and read back."""

from __future__ import annotations

from .broker import SqliteBroker

__all__ = ["SqliteBroker"]
