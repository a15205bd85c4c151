"""A log or store in memory is for one process: refuse to be one of several workers that each have their own (W30)."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from .errors import Unavailable
from .hub_settings import HubSettings
from .storage.address import engine_of

__all__ = ["ensure_single_worker"]


def ensure_single_worker(settings: HubSettings) -> socket.socket | None:
    """Make sure that no other worker of the same server has a log of its own; does nothing for shared engines.

    The first worker holds a name in the kernel that its siblings, children of the same parent, then cannot take. Where
    there are no abstract socket names, the environment must say it.

    :returns: what holds that name, to be closed when the hub ends; None where none is needed.
    :raises Unavailable: this is one of several; code ``several_workers``.
    """
    if "memory" not in (engine_of(settings.broker), engine_of(settings.store or settings.broker)):
        return None
    workers = os.environ.get("WEB_CONCURRENCY", "1")
    several = workers.isdecimal() and int(workers) > 1
    lock = None
    if sys.platform == "linux" and _is_worker():
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            lock.bind(f"\0sseal-memory-{os.getuid()}-{os.getppid()}")
        except OSError:
            several = True
    if several:
        if lock is not None:
            lock.close()
        raise Unavailable(
            "broker: memory:// keeps what it knows in one process, and this is one of several workers; "
            "run one worker, or choose a broker that workers share: sqlite:///file",
            code="several_workers",
        )
    return lock


def _is_worker() -> bool:
    """Tell whether this process was started by a server as one of its workers."""
    from multiprocessing import parent_process  # brings pickle and more, and is asked once

    if parent_process() is not None:
        return True
    try:
        own = Path("/proc/self/cmdline").read_bytes()
        return own == Path(f"/proc/{os.getppid()}/cmdline").read_bytes()
    except OSError:
        return False
