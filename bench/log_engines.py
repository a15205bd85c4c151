"""Where sseal's log can live: how each engine is started, and what its hubs are told. A plain dict."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from contestants import SECRET, Contestant, bearer, own_topic
from machine import HERE

IN_MEMORY = ("tmpfs", "ramfs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine for log and store of some hubs.

    :param address: from a directory on disk and a free port to what ``SSEAL_BROKER`` says.
    :param server: from the same to the command line of a server of its own, if it has one.
    :param workers: processes of each hub.
    :param hubs: whether several hubs may share it, and a hub finds it again after a restart.
    :param whole: whether fan-out across hubs and replay are measured too, beside publishing.
    :param lacks: what is missing to run it, or None.
    """

    label: str
    address: Callable[[Path, int], str]
    server: Callable[[Path, int], list[str]] | None = None
    workers: int = 1
    hubs: bool = True
    whole: bool = True
    lacks: Callable[[], str | None] = lambda: None


def _redis_program() -> str | None:
    """Return the path of a Redis server, or of Valkey's."""
    return shutil.which(os.environ.get("REDIS_SERVER") or "redis-server") or shutil.which("valkey-server")


def _one_file(place: Path, port: int) -> str:
    del port
    return f"sqlite:///{place / 'log.db'}"


def _nowhere(place: Path, port: int) -> str:
    del place, port
    return "memory://"


def _redis(label: str, *, whole: bool = False, fsync: str | None = None) -> Engine:
    lasting = ["--appendonly", "no"] if fsync is None else ["--appendonly", "yes", "--appendfsync", fsync]

    def server(place: Path, port: int) -> list[str]:
        command = [str(_redis_program()), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(place)]
        return [*command, "--save", "", *lasting]

    return Engine(
        label=label,
        address=lambda _, port: f"redis://127.0.0.1:{port}/0",
        server=server,
        whole=whole,
        lacks=lambda: None if _redis_program() else "there is no redis-server on this machine (Debian: redis-server)",
    )


ENGINES: dict[str, Engine] = {
    "memory": Engine(label="memory", address=_nowhere, hubs=False),
    "sqlite": Engine(label="sqlite", address=_one_file),
    "sqlite-4": Engine(label="sqlite, 4 workers", address=_one_file, workers=4, whole=False),
    "redis": _redis("redis, in memory", whole=True),
    "redis-everysec": _redis("redis, AOF everysec", fsync="everysec"),
    "redis-always": _redis("redis, AOF always", fsync="always"),
}


def hub_command(engine: Engine, port: int) -> list[str]:
    """Return the command line of a hub: ``sseal serve`` as anybody runs it."""
    program = Path(sys.executable).with_name("sseal")
    return [str(program), "serve", "--port", str(port), "--workers", str(engine.workers)]


def hub_environment(address: str) -> dict[str, str]:
    """Return the settings of a hub: the defaults, but for limits that one load generator would run into."""
    limits = (
        "STREAMS_PER_ADDRESS",
        "CONNECTS_PER_MINUTE_PER_ADDRESS",
        "CONNECTS_PER_MINUTE_PER_SUBJECT",
        "PUBLISHES_PER_MINUTE_PER_SUBJECT",
    )
    return {
        "SSEAL_JWT_SECRET": SECRET,
        "SSEAL_BROKER": address,
        "SSEAL_STORE": address,
        "SSEAL_LOG_LEVEL": "warning",  # as the other apps: no line per request
        **{f"SSEAL_LIMITS__{name}": "0" for name in limits},
    }


def hub_streams(engine: Engine, *, private: bool) -> Contestant:
    """Return what the load generator has to know of such hubs: a common topic, and with ``private`` one's own."""
    return Contestant(
        label=engine.label,
        command=lambda port, _: hub_command(engine, port),
        stream=lambda index: (
            f"/events?topic=common&topic={own_topic(index)}" if private else "/events?topic=common",
            [bearer(index)],
        ),
        private=private,
        history=True,
        paced=True,
        strict=True,
    )


def program_version() -> dict[str, str]:
    """Return the versions of the engines that are no Python packages."""
    found = {"sqlite": sqlite3.sqlite_version}
    if (program := _redis_program()) is not None:
        told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        found["redis-server"] = told.partition("v=")[2].split()[0]
    return found


# -- disk -------------------------------------------------------------------------------------------------


def file_system(place: Path) -> str:
    """Return the kind of file system a directory is on."""
    mounts = [mount for mount in psutil.disk_partitions(all=True) if place.is_relative_to(mount.mountpoint)]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else "unknown"


@contextlib.contextmanager
def log_directory() -> Iterator[Path]:
    """Make a directory for logs, on a disk where there is one, and remove it afterwards."""
    places = (Path(tempfile.gettempdir()), Path("/var/tmp"), HERE)
    parent = next((place for place in places if file_system(place) not in IN_MEMORY), places[-1])
    with tempfile.TemporaryDirectory(prefix="bench-logs-", dir=parent) as name:
        yield Path(name)


def commit_times(place: Path, count: int = 200) -> dict[str, float]:
    """Return how long 4 KiB at the end of a file take to be on disk (fdatasync), in milliseconds."""
    file = place / "commits"
    took = []
    descriptor = os.open(file, os.O_CREAT | os.O_WRONLY)
    try:
        for _ in range(count):
            start = time.perf_counter()
            os.write(descriptor, bytes(4096))
            os.fdatasync(descriptor)
            took.append((time.perf_counter() - start) * 1e3)
    finally:
        os.close(descriptor)
        file.unlink()
    took.sort()
    return {"p50": took[count // 2], "p99": took[count * 99 // 100]}
