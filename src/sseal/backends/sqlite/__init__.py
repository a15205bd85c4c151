"""One SQLite file, shared by the processes of one machine: threads, wake-ups, epochs, errors."""

from __future__ import annotations

from .bell import Bell, Ringer
from .database import Database, Listener
from .epochs import Tip

__all__ = ["Bell", "Database", "Listener", "Ringer", "Tip"]
