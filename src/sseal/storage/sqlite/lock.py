"""The lock beside a file, which tells the first process that opens it (W10)."""

from __future__ import annotations

import fcntl
import os
import time
from typing import Final

from ...errors import Unavailable

__all__ = ["OpenLock"]

LOCK_TIMEOUT: Final = 10.0
"""Seconds to wait for the first process while it checks the file and makes the tables."""


class OpenLock:
    """Held by every process as long as it has the file open.

    It stands beside the file because SQLite loses its own locks when a process closes a second descriptor of it.

    :param path: the lock's own file; created readable by its owner only, and never removed.
    """

    def __init__(self, path: str) -> None:
        # The lock belongs to this descriptor: closing it lets go.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def acquire(self) -> bool:
        """Take the lock; tell whether nobody else holds it, so that the caller is alone until `share`.

        :raises Unavailable: another process has been preparing the file for a long time.
        """
        end = time.monotonic() + LOCK_TIMEOUT
        while True:
            if self._try(fcntl.LOCK_EX):
                return True
            if self._try(fcntl.LOCK_SH):
                return False
            if time.monotonic() > end:
                raise Unavailable("another process has been preparing the file of the log for long", code="busy")
            time.sleep(0.01)

    def share(self) -> None:
        """Let others in, and stay."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def release(self) -> None:
        """Let go."""
        os.close(self._descriptor)

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
