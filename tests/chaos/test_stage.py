"""The stage leaves nothing behind, also when a scenario fails."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from servers import free_port

from .processes import Process, processes, until

LISTENER = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"
PARENT = (
    "import socket, subprocess, sys, time;"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True);"
    "s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"
)


def process(folder: Path, script: str) -> Process:
    """Return a process that listens."""
    port = free_port()
    return Process("listener", [sys.executable, "-c", script, str(port)], port, folder, dict(os.environ))


async def test_a_scenario_that_fails_leaves_no_process(tmp_path: Path) -> None:
    """Whatever is raised on a stage, its processes have ended when it is left."""
    with pytest.raises(ZeroDivisionError):
        async with processes(tmp_path) as made:
            listener = await made.add(process(tmp_path, LISTENER))
            raise ZeroDivisionError
    assert not listener.running
    assert not psutil.pid_exists(listener.pid)


async def test_what_outlives_its_parent_is_ended_and_named(tmp_path: Path) -> None:
    """A process that nobody ends any more fails the scenario, and is ended all the same."""
    with pytest.raises(AssertionError, match="left behind"):
        async with processes(tmp_path) as made:
            parent = await made.add(process(tmp_path, PARENT))
            (child,) = psutil.Process(parent.pid).children()

    def ended() -> bool:
        try:
            return not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    await until(ended, 10.0, "the child to end")
