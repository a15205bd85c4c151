"""The stage: hubs, proxies and logs as real processes on loopback, all of them gone at the end whatever happened."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import psutil  # type: ignore[import-untyped]

import secret_watch
from running import SECRET, SSEAL, environment
from servers import free_port
from sseal import storage
from sseal.clock import SystemClock
from sseal.subscription import TopicSet

from .calls import Address, NotSentError, request

__all__ = ["Hub", "Process", "Processes", "processes", "read_log", "until"]

MARK: Final = "CHAOS_STAGE"
"""In the environment of every process of a stage, so that none is overlooked, whoever started it."""
START: Final = 30.0
"""Seconds a process may take to become ready on a busy machine."""
END: Final = 15.0
"""Seconds it may take to end when asked to."""
BAD_SIGNS: Final = ("Traceback (most recent call last)", "was never retrieved", "was never awaited", "never closed")

Some = TypeVar("Some", bound="Process")

SETTINGS: Final[Mapping[str, str]] = {
    "jwt_secret": SECRET,
    "insecure_cookies": "true",
    "heartbeat": "1",
    "retry_ms": "500",
    "log_count": "200000",  # what the checker compares with is the whole log
    "log_size": str(1 << 30),
    "log_format": "json",
    "limits__streams_per_address": "0",
    "limits__connects_per_minute_per_address": "0",
    "limits__connects_per_minute_per_subject": "0",
    "limits__tickets_per_minute_per_subject": "0",
}
"""A thousand readers from one address are the test's doing, and nobody wants to wait for heartbeats."""


async def until(condition: Callable[[], object], seconds: float, what: Callable[[], str] | str) -> None:
    """Wait for something to be true; fail after so many seconds, saying what was waited for."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s: {what if isinstance(what, str) else what()}"
        await asyncio.sleep(0.02)


class Process:
    """A process with one command line, started as often as it is ended, on the same port.

    :ivar log: what all its runs have printed.
    """

    def __init__(
        self, name: str, command: Sequence[str], port: int, folder: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = list(command)
        self.address = Address(port)
        self.log = folder / f"{name}.log"
        self._folder = folder
        self._env = dict(environment() if env is None else env)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def mark(self, text: str) -> None:
        """Put the stage's mark into its environment."""
        self._env[MARK] = text

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        self.launch()
        end = time.monotonic() + START
        while not await self.ready():
            assert self.running, f"{self.name} ended with {self._process and self._process.returncode}: {self.tail()}"
            assert time.monotonic() < end, f"{self.name} did not become ready: {self.tail()}"
            await asyncio.sleep(0.03)

    def launch(self) -> None:
        """Start it."""
        assert not self.running, f"{self.name} is running"
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                self.command,
                cwd=self._folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests, which end everything in order
            )

    async def ready(self) -> bool:
        """Tell whether it answers."""
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(self.address.host, self.address.port)
            writer.close()
            return True
        return False

    def send(self, number: int) -> None:
        """Send it a signal."""
        if self.running:
            assert self._process is not None
            self._process.send_signal(number)

    async def end(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal and wait for its end."""
        self.send(number)
        await until(lambda: not self.running, END, f"{self.name} to end by signal {number}: {self.tail()}")
        secret_watch.check(self.log.read_text(errors="replace"), self.name)

    def kill(self) -> None:
        """End it in whatever state it is; returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(END)

    def tail(self, count: int = 3000) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-count:] if self.log.exists() else ""


class Hub(Process):
    """``sseal serve``."""

    def __init__(self, name: str, folder: Path, *, launcher: Sequence[str] = (str(SSEAL),), **settings: str) -> None:
        port = free_port()
        command = [*launcher, "serve", "--port", str(port)]
        super().__init__(name, command, port, folder, environment(**{**SETTINGS, **settings}))

    async def ready(self) -> bool:
        """Tell whether a canary flies."""
        try:
            answer = await request(self.address, "GET", "/readyz", headers={})
        except (NotSentError, OSError):
            return False
        return answer.status == 200

    def workers(self) -> list[int]:
        """Return the process ids of its workers, oldest first."""
        children = psutil.Process(self.pid).children()
        return [child.pid for child in children if any("spawn_main" in word for word in _command_of(child))]

    def bad_signs(self) -> list[str]:
        """Return the lines of its log that no hub should ever write."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line[:3000] for line in lines if any(sign in line for sign in BAD_SIGNS)]


class Processes:
    """Everything one scenario has started.

    :ivar folder: where its files are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[Process] = []
        self._mark = secrets.token_hex(8)

    @property
    def hubs(self) -> list[Hub]:
        """The hubs, in the order they were added."""
        return [process for process in self.processes if isinstance(process, Hub)]

    async def add(self, process: Some) -> Some:
        """Start a process that this stage will end."""
        process.mark(self._mark)
        self.processes.append(process)
        await process.start()
        return process

    def hub(self, name: str, *, launcher: Sequence[str] = (str(SSEAL),), **settings: str) -> Hub:
        """Return a hub that is not yet started."""
        return Hub(name, self.folder, launcher=launcher, **settings)

    async def nginx(self, program: str, hubs: Sequence[Hub]) -> Process:
        """Put nginx in front of hubs, as docs/how-to/nginx.md has it."""
        port = free_port()
        path = self.folder / "nginx.conf"
        path.write_text(_nginx(port, [hub.address for hub in hubs], self.folder))
        return await self.add(Process("nginx", [program, "-p", str(self.folder), "-c", str(path)], port, self.folder))

    async def all_ready(self) -> None:
        """Wait until every hub is healthy, and look through their logs."""
        for hub in self.hubs:
            end = time.monotonic() + START
            while not await hub.ready():
                assert time.monotonic() < end, f"{hub.name} is not healthy at the end: {hub.tail()}"
                await asyncio.sleep(0.05)
            assert not (bad := hub.bad_signs()), f"{hub.name} logged {len(bad)} faults, the first: {bad[0]}"

    async def close(self) -> None:
        """End everything, the last that was added first."""
        for process in reversed(self.processes):
            process.send(signal.SIGCONT)
            process.send(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                await until(lambda p=process: not p.running, END, process.name)  # type: ignore[misc]
            finally:
                process.kill()

    def orphans(self) -> list[psutil.Process]:
        """Return the processes of this stage that are still there, whoever started them."""
        return [process for process in psutil.process_iter() if _environment_of(process).get(MARK) == self._mark]


@contextlib.asynccontextmanager
async def processes(folder: Path) -> AsyncIterator[Processes]:
    """Make a stage, and leave nothing of it behind.

    :raises AssertionError: something went on running that should have ended with its parent; it is ended, too.
    """
    made = Processes(folder)
    try:
        yield made
    finally:
        try:
            await made.close()
        finally:
            for process in made.processes:
                process.kill()
            await _end_orphans(made)


async def _end_orphans(made: Processes) -> None:
    end = time.monotonic() + 2.0  # workers see the end of their parent and end themselves
    while (left := made.orphans()) and time.monotonic() < end:
        await asyncio.sleep(0.05)
    names = [f"{process.pid} {' '.join(_command_of(process))[:200]}" for process in left]
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    assert not names, f"processes were left behind: {names}"


def _environment_of(process: psutil.Process) -> dict[str, str]:
    with contextlib.suppress(psutil.Error):
        return dict(process.environ()) if process.pid != os.getpid() else {}
    return {}


def _command_of(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return list(process.cmdline())
    return []


async def read_log(address: str) -> dict[str, list[int]]:
    """Read a log from its first event to its last; return the payloads, each with the offsets it stands at."""
    broker = storage.open(address, SystemClock()).broker()
    await broker.open(None)
    found: dict[str, list[int]] = {}
    try:
        after, more = 0, True
        while more:
            page = await broker.history(TopicSet.of("**"), after, limit=500, since={})
            for entry in page.entries:
                found.setdefault(entry.data.partition(" ")[0], []).append(entry.offset)
            after, more = page.upto, page.more
    finally:
        await broker.close()
    return found


def python(script: str) -> tuple[str, str, str]:
    """Return the command that runs a script of this folder."""
    return sys.executable, "-P", str(Path(__file__).with_name(script))


def _nginx(port: int, hubs: Sequence[Address], folder: Path) -> str:
    """Return the configuration of the docs, without TLS and for several hubs.

    ``max_fails=0``: nginx forgives a failure only when a later request has *ended* well. When all hubs were away and
    the request it lets through once per ``fail_timeout`` is a stream, it goes on refusing everybody else.
    """
    servers = "\n".join(f"        server {hub.host}:{hub.port} max_fails=0;" for hub in hubs)
    temporary = "\n".join(
        f"    {kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
{temporary}
    upstream hubs {{
{servers}
    }}
    map "$request_method $http_accept" $sseal_later {{
        default 0;
        "~^GET (.*, *)?text/event-stream" 1;
    }}
    server {{
        listen 127.0.0.1:{port};
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header Connection "";
        proxy_buffering off;
        proxy_connect_timeout 2s;
        proxy_read_timeout 60s;
        client_max_body_size 1m;
        error_page 502 503 504 = @later;
        location / {{ proxy_pass http://hubs; }}
        location @later {{
            internal;
            default_type text/event-stream;
            add_header Cache-Control no-store;
            if ($sseal_later = 0) {{ return 503; }}
            return 200 "retry: 1000\\n\\n";
        }}
    }}
}}
"""
