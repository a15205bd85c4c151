"""Processes, processors and memory: starting, pinning, measuring and ending, and the load generator's pipe."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

HERE = Path(__file__).parent
SERVER_CPU = 0
LOAD_CPU = 1
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class IncompleteError(Exception):
    """A measurement that cannot count: something did not start, open, arrive or answer."""


def compiled(name: str, place: Path, *libraries: str) -> Path:
    """Compile one of the C files next to this one; return the program."""
    program = place / name
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(HERE / f"{name}.c"), *libraries]
    subprocess.run(command, check=True)
    return program


def pinned(cpu: int) -> Any:
    """Return what a child does before it runs: stay on one processor, with all descriptors it may have."""

    def prepare() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.sched_setaffinity(0, {cpu})
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    return prepare


def end(process: subprocess.Popen[Any]) -> None:
    """End a process and its children by their ids: politely, and after five seconds for good."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        for left in [*family, psutil.Process(process.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)


class Server:
    """A contestant at work, pinned to its processor; ``SSEAL_*`` variables of whoever runs this do not reach it."""

    def __init__(
        self, command: Sequence[str], place: Path, environment: dict[str, str], *, cpu: int = SERVER_CPU
    ) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SSEAL_")}
        self._log = (place / "server.log").open("ab")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd=place,
            env={**inherited, **environment},
            preexec_fn=pinned(cpu),
        )

    def family(self) -> list[int]:
        """Return the ids of the server and its children."""
        if self._process.poll() is not None:
            raise IncompleteError("the server has ended")
        try:
            own = psutil.Process(self._process.pid)
            return [own.pid, *(child.pid for child in own.children(recursive=True))]
        except psutil.NoSuchProcess:
            raise IncompleteError("the server has ended") from None

    def cpu(self) -> float:
        """Return the processor seconds, user and system, of the whole server so far (proc(5))."""
        total = 0
        for pid in self.family():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def wait_until_it_listens(self, port: int) -> None:
        """Wait for a port of it to be open.

        :raises IncompleteError: it has ended, or does not listen within twenty seconds.
        """
        for _ in range(200):
            try:
                with socket.create_connection(("127.0.0.1", port), 1):
                    return
            except OSError:
                self.family()
                time.sleep(0.1)
        raise IncompleteError("the server does not listen")

    def pss(self) -> int:
        """Return the bytes of memory of the whole server, shared pages by their share (proc(5))."""
        total = 0
        for pid in self.family():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total

    def close(self) -> None:
        """End it."""
        end(self._process)
        self._log.close()


class Servers:
    """Several at work, counted as one."""

    def __init__(self, each: Sequence[Server]) -> None:
        self._each = each

    def family(self) -> list[int]:
        """Return the ids of all of them and their children."""
        return [pid for server in self._each for pid in server.family()]

    def cpu(self) -> float:
        """Return the processor seconds of all of them so far."""
        return sum(server.cpu() for server in self._each)

    def pss(self) -> int:
        """Return the bytes of memory of all of them."""
        return sum(server.pss() for server in self._each)

    def close(self) -> None:
        """End them."""
        for server in self._each:
            server.close()


def socket_memory() -> int:
    """Return the bytes the kernel holds in TCP buffers, both ends and of the whole machine."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            return int(line.split()[-1]) * PAGE
    return 0


@dataclass(frozen=True, slots=True)
class Span:
    """What a measured stretch cost: seconds of clock, of the server's processor, and of the generator's.

    :param others: seconds of the server's processor that went to neither, but to other work on the machine.
    """

    clock: float
    server: float
    load: float
    others: float = 0.0

    @property
    def load_busy(self) -> float:
        """How busy the load generator's processor was with it."""
        return self.load / self.clock if self.clock else 0.0


def busy_seconds() -> float:
    """Return how long the server's processor has worked for processes, or for other machines (steal), so far."""
    spent = psutil.cpu_times(percpu=True)[SERVER_CPU]
    return float(spent.user + spent.nice + spent.system + getattr(spent, "steal", 0.0))


class Load:
    """The load generator; see ``load.c`` for its commands."""

    def __init__(self, program: Path, *ports: int, tls: bool = False, urgent: bool = False) -> None:
        self._process = subprocess.Popen(
            [str(program), "127.0.0.1", ",".join(map(str, ports)), *(["tls"] if tls else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # what is buffered here, select() would not see
            preexec_fn=pinned(LOAD_CPU),
        )
        if urgent:  # the probe must not wait for the generator that shares its processor
            with contextlib.suppress(PermissionError):
                os.sched_setscheduler(self._process.pid, os.SCHED_FIFO, os.sched_param(1))

    def send(self, command: str) -> None:
        """Give a command without waiting for its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise IncompleteError("the load generator has ended") from None

    def receive(self, patience: float = 150.0) -> dict[str, Any]:
        """Return the answer to the oldest unanswered command."""
        out = self._process.stdout
        assert out is not None
        if not select.select([out], [], [], patience)[0]:
            raise IncompleteError("the load generator does not answer")
        line = out.readline()
        if not line:
            raise IncompleteError("the load generator has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def do(self, command: str) -> dict[str, Any]:
        """Give a command and return its answer."""
        self.send(command)
        return self.receive()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(IncompleteError):
            self.send("quit")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        end(self._process)


class Watch:
    """Measures a `Span`: ``with Watch(server, load) as watch: ...; watch.span``."""

    def __init__(self, server: Server | Servers, load: Load) -> None:
        self._server = server
        self._load = load
        self.span = Span(0.0, 0.0, 0.0)

    def __enter__(self) -> Watch:
        """Start."""
        self._own = self._load.do("run 0")
        self._cpu, self._busy = self._server.cpu(), busy_seconds()
        self._start = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; keeps the span unless something went wrong."""
        if error is None:
            clock = time.monotonic() - self._start
            server = self._server.cpu() - self._cpu
            others = max(0.0, busy_seconds() - self._busy - server)
            self.span = Span(clock, server, self._load.do("run 0")["cpu"] - self._own["cpu"], others)
