"""Real servers for tests: started as processes on free loopback ports, ended by id."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import secret_watch
from ports import free_port
from sseal import wire

__all__ = ["ROOT", "RawStream", "Server", "ask", "free_port", "serving", "uvicorn"]

ROOT = Path(__file__).parent.parent


@dataclass
class Server:
    """A server process."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def output(self) -> str:
        """Everything it printed."""
        return self.log.read_text()

    def stop(self, number: int = signal.SIGTERM, patience: float = 10.0) -> float:
        """Send a signal, wait for the end, return how long that took in seconds."""
        start = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(patience)
        return time.monotonic() - start


@contextlib.contextmanager
def serving(*argv: str, port: int, log: Path, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run a command until its port answers, and end it afterwards."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, env={**os.environ, **(env or {})}
        )
    try:
        deadline = time.monotonic() + 30.0
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
                break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield Server(process, port, log)
    finally:
        if process.poll() is None:
            process.terminate()  # so that it can end its own children
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5.0)
        if process.poll() is None:
            process.kill()
        process.wait(10.0)
        secret_watch.check(log.read_text(errors="replace"), " ".join(map(str, argv)))


@contextlib.contextmanager
def uvicorn(app: str, log: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Serve ``module:app`` with plain uvicorn; tests/ and the root are importable."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--host", "127.0.0.1", *options]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", secret_watch.HOOK)))
    with serving(*command, port=port, log=log, env={"PYTHONPATH": paths, **(env or {})}) as server:
        yield server


@dataclass
class RawStream:
    """One HTTP response read from a socket: status, headers, and the events of an endless body."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    events: list[wire.Event] = field(default_factory=list)
    body: bytes = b""
    decoder: wire.Decoder = field(default_factory=wire.Decoder)
    ended: bool = False

    async def chunk(self) -> bytes:
        """Read one piece of the body; empty at its end."""
        if self.headers.get("transfer-encoding") == "chunked":
            size = int((await self.reader.readline()).strip() or b"0", 16)
            data = await self.reader.readexactly(size)
            await self.reader.readline()
        else:
            data = await self.reader.read(65536)
        self.ended = not data
        self.body += data
        return data

    async def until(self, kind: str | None = None, data: str | None = None, patience: float = 10.0) -> wire.Event:
        """Read on until an event of that type or data has come, and return it."""
        seen = 0
        async with asyncio.timeout(patience):
            while True:
                while seen < len(self.events):
                    event = self.events[seen]
                    seen += 1
                    if (kind is None or event.type == kind) and (data is None or event.data == data):
                        return event
                piece = await self.chunk()
                assert piece, f"the stream ended; it had {self.events}"
                self.events += self.decoder.feed(piece)

    async def to_end(self, patience: float = 10.0) -> bytes:
        """Read to the end of the body, or of the connection."""
        async with asyncio.timeout(patience):
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while piece := await self.chunk():
                    self.events += self.decoder.feed(piece)
        return self.body

    def close(self) -> None:
        """Hang up."""
        self.writer.close()


@contextlib.asynccontextmanager
async def ask(
    port: int,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    host: str | None = None,
    version: str = "1.1",
) -> AsyncIterator[RawStream]:
    """Send one request over a real socket and read the head of its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"{method} {path} HTTP/{version}", f"Host: {host or f'127.0.0.1:{port}'}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body)
    stream = RawStream(reader, writer)
    try:
        async with asyncio.timeout(10.0):
            stream.status = int((await reader.readline()).split()[1])
            while (line := (await reader.readline()).strip()) != b"":
                name, _, value = line.decode("latin-1").partition(":")
                stream.headers[name.lower()] = value.strip()
        yield stream
    finally:
        writer.close()
