"""`sseal serve` against clients that hold connections: limits, deadlines, descriptors, signals, certificates."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from running import PATIENCE, Running, call, eventually, serving
from server.test_serve import NO_LIMITS, issue
from sseal.identity_sources.accounts import Accounts
from sseal.limits import address_key
from sseal.server.connections import HttpConnections, HttpLimits, proxies

MANY_LOGINS = {"limits__logins_per_minute_per_address": "0", "limits__logins_per_minute_per_user": "0"}


@pytest.fixture(autouse=True)
def opened() -> Iterator[list[socket.socket]]:
    """Close all connections of a test at its end."""
    yield _opened
    while _opened:
        _opened.pop().close()


_opened: list[socket.socket] = []


def connect(server: Running, sent: bytes = b"") -> socket.socket:
    """Open a connection and send something."""
    client = socket.create_connection(("127.0.0.1", server.port), 30.0)
    _opened.append(client)
    client.sendall(sent)
    return client


def is_closed(client: socket.socket) -> bool:
    """Tell whether the server has closed a connection on which it said nothing."""
    client.setblocking(False)
    try:
        return client.recv(65536) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def closed(server: Running, reason: str) -> int:
    """Return how many connections were closed for a reason, from the metrics."""
    text = call(f"{server.url}/metrics")[2].decode()
    found = re.search(rf'^sseal_connections_closed_total{{reason="{reason}"}} (\S+)$', text, re.MULTILINE)
    return 0 if found is None else int(float(found[1]))


def test_idle_connections_do_not_shut_others_out(tmp_path: Path, time_unit: float) -> None:
    """With 400 open files, 600 connections that say nothing: requests are answered, and the log says what goes on."""
    with limited_files(400), serving(tmp_path, time_unit) as server:
        idle = [connect(server) for _ in range(600)]
        for _ in range(20):
            assert call(f"{server.url}/readyz")[0] == 200
        assert sum(map(is_closed, idle)) >= 600 - 400
        assert closed(server, "descriptors") >= 200
        server.wait_for_record(level="warning", reason="descriptors")
        assert len([record for record in server.records() if record.get("reason") == "descriptors"]) == 1


@contextlib.contextmanager
def limited_files(number: int) -> Iterator[None]:
    """Start what is started here with so few open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    popen = subprocess.Popen.__init__

    def limited(self: Any, *args: Any, **options: Any) -> None:
        popen(self, *args, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (number, number)), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", limited)
        assert soft > 1200, f"{soft} open files are too few for this test, which needs 1,200; raise `ulimit -n`"
        assert hard >= soft
        yield


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_without_descriptors_it_is_logged_and_survived(loop: str, tmp_path: Path, time_unit: float) -> None:
    """When no file can be opened at all the log says so, once, and accepting goes on when there are some again."""
    hide = {} if loop == "uvloop" else {"PYTHONPATH": str(without_uvloop(tmp_path))}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in hide.items():
            patch.setenv(name, value)
        with serving(tmp_path, time_unit) as server:
            pid = server.process.pid
            assert call(f"{server.url}/readyz")[0] == 200  # with the first connection it learns how many it may have
            soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            used = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()) + 1
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, hard))
            for _ in range(used):
                connect(server)

            def said() -> bool:
                connect(server)  # a file that it had open for a moment may have been counted as used
                return any(record.get("reason") == "no_descriptors" for record in server.records())

            eventually(said, PATIENCE * time_unit, "the log says so")
            time.sleep(2.5)  # two more looks
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))

            def answers() -> bool:
                try:
                    return call(f"{server.url}/readyz")[0] == 200
                except OSError:
                    return False

            eventually(answers, PATIENCE * time_unit, "an answer")
            assert closed(server, "no_descriptors") >= 2
            assert len([record for record in server.records() if record.get("reason") == "no_descriptors"]) == 1


def without_uvloop(folder: Path) -> Path:
    """Return a folder that makes uvloop look as if it was not installed."""
    place = folder / "path"
    place.mkdir()
    (place / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'uvloop' else find(name, package)\n"
    )
    return place


def test_connections_that_are_no_streams_are_bounded(tmp_path: Path, time_unit: float) -> None:
    """One more than the limit closes the one that has waited longest; streams do not count."""
    with serving(tmp_path, time_unit, limits__http_connections="20", **NO_LIMITS) as server:
        head = f"GET /events?topic=a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {issue()}\r\n\r\n".encode()
        streams = [connect(server, head) for _ in range(40)]
        for stream in streams:
            assert stream.recv(15) == b"HTTP/1.1 200 OK"
        idle = [connect(server) for _ in range(20)]
        time.sleep(1.2)  # nobody is closed who has just come
        late = connect(server)
        eventually(lambda: is_closed(idle[0]), PATIENCE * time_unit, "the first to be closed")
        assert not any(map(is_closed, idle[1:]))
        assert not is_closed(late)
        assert call(f"{server.url}/readyz")[0] == 200
        assert closed(server, "too_many_connections") >= 2
        assert not [record for record in server.records() if record["message"] == "stream closed"]


def test_connections_of_one_address_are_bounded(tmp_path: Path, time_unit: float) -> None:
    """One more is closed; an address of a proxy, behind which there are many clients, is not counted."""
    for proxy, wanted in (("", 5), ("127.0.0.0/8", 0)):
        options = {"limits__http_connections_per_address": "10", "forwarded_allow_ips": proxy}
        with serving(tmp_path, time_unit, **options) as server:
            clients = [connect(server) for _ in range(10)]
            assert answers(server) is not bool(wanted)
            clients += [connect(server) for _ in range(wanted)]
            if wanted:
                eventually(partial(is_closed, clients[-1]), PATIENCE * time_unit, "the last to be closed")
                clients.pop(0).close()
            eventually(partial(answers, server), PATIENCE * time_unit, "a free place")
            assert sum(map(is_closed, clients)) == wanted


def answers(server: Running) -> bool:
    """Tell whether a request is answered."""
    try:
        return call(f"{server.url}/healthz")[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix:", "unix:"),
        ("", ""),
    ],
)
def test_an_address_counts_as_what_one_client_has(address: str, key: str) -> None:
    """IPv6 counts by /64, IPv4 by address, however it is written."""
    assert address_key(address) == key


def test_proxies_are_addresses_networks_or_all() -> None:
    """As uvicorn reads the same setting."""
    some = proxies(["10.0.0.0/8", "192.0.2.1", "::1"])
    assert [some(each) for each in ("10.9.9.9", "192.0.2.1", "::1", "192.0.2.2", "", "name")] == [True] * 3 + [
        False
    ] * 3
    assert proxies(["*"])("192.0.2.2")


def test_a_body_has_a_time(tmp_path: Path, time_unit: float) -> None:
    """Who announces a body and sends it in drops gets 408, and is then disconnected."""
    with serving(tmp_path, time_unit, body_timeout="1") as server:
        head = f"POST /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {issue()}\r\n"
        client = connect(server, f"{head}Content-Type: application/json\r\nContent-Length: 9999\r\n\r\n".encode())
        client.settimeout(0.2)
        heard = b""
        deadline = time.monotonic() + PATIENCE * time_unit
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:
                client.sendall(b" ")
                with contextlib.suppress(TimeoutError):
                    if not (piece := client.recv(65536)):
                        break
                    heard += piece
        assert time.monotonic() < deadline
        assert heard.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"body_timeout"' in heard


def test_a_connection_without_a_request_is_closed_in_its_time(tmp_path: Path, time_unit: float) -> None:
    """After an answer it may idle for `keep_alive_timeout`, whatever blank lines it sends."""
    with serving(tmp_path, time_unit, keep_alive_timeout="0.5") as server:
        client = connect(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        client.settimeout(0.1)
        deadline = time.monotonic() + PATIENCE * time_unit
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:
                client.sendall(b"\r\n")
                with contextlib.suppress(TimeoutError):
                    if not client.recv(65536):
                        break
        assert time.monotonic() < deadline


def test_a_request_for_another_host_is_refused(tmp_path: Path, time_unit: float) -> None:
    """Once the hub knows its names, a page of another one cannot use it, were it pointed at its address."""

    def status(server: Running, host: str, path: str = "/events") -> int:
        return call(f"{server.url}{path}", headers={"Host": host})[0]

    with serving(
        tmp_path, time_unit, allowed_origins="https://app.example:8443", public_url="https://hub.example"
    ) as hub:
        good = ("app.example", "HUB.example:99", "localhost:1", "a.localhost", "127.0.0.1", "[::1]:80", "192.0.2.1")
        assert [status(hub, host) for host in good] == [401] * len(good)
        bad = ("evil.example", "app.example.evil.example", "xhub.example", "hub.example.", "127.0.0.1.evil.example")
        assert [status(hub, host) for host in bad] == [421, 421, 421, 401, 421]
        assert json.loads(call(f"{hub.url}/events", headers={"Host": "evil.example"})[2])["code"] == "host_refused"
        assert status(hub, "some-probe", "/healthz") == 200
    with serving(tmp_path, time_unit, allowed_origins="https://app.example", allowed_hosts="*.example.org") as hub:
        assert [status(hub, host) for host in ("a.example.org", "app.example", "example.org")] == [401, 421, 421]
    with serving(tmp_path, time_unit) as hub:
        assert status(hub, "anything.example") == 401


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate for localhost and its key."""
    key, chain = folder / f"{name}.key", folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={name}"]
    subprocess.run([*command, "-keyout", key, "-out", chain], check=True, capture_output=True)
    return key, chain


def shown(server: Running) -> str:
    """Return the certificate a server shows."""
    return ssl.get_server_certificate(("127.0.0.1", server.port))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_certificate_is_reloaded_on_sighup(workers: str, tmp_path: Path, time_unit: float) -> None:
    """New connections get the certificate that is in the file now; one that cannot be used changes nothing."""
    first, second = certificate(tmp_path, "first"), certificate(tmp_path, "second")
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    key.write_bytes(first[0].read_bytes())
    chain.write_bytes(first[1].read_bytes())
    files = ("--tls-cert-file", str(chain), "--tls-key-file", str(key))
    with serving(tmp_path, time_unit, *files, "--workers", workers) as server:
        assert shown(server) == first[1].read_text()
        if workers == "1":
            chain.write_bytes(second[1].read_bytes())  # and not yet its key
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("the certificate was not reloaded")
            assert shown(server) == first[1].read_text()
        chain.write_bytes(second[1].read_bytes())
        key.write_bytes(second[0].read_bytes())
        server.process.send_signal(signal.SIGHUP)

        def renewed() -> bool:
            with contextlib.suppress(OSError):
                return [shown(server) for _ in range(8)] == [second[1].read_text()] * 8
            return False

        eventually(renewed, PATIENCE * time_unit, "the new certificate")
        assert server.end() == 0


def test_handshakes_count_as_connections(tmp_path: Path, time_unit: float) -> None:
    """A client that begins no handshake has as many connections as one that sends no request, and no more."""
    key, chain = certificate(tmp_path, "hub")
    files = ("--tls-cert-file", str(chain), "--tls-key-file", str(key))
    options = {"limits__http_connections_per_address": "10", "forwarded_allow_ips": ""}
    with serving(tmp_path, time_unit, *files, **options) as server:
        silent = [connect(server) for _ in range(15)]
        eventually(lambda: sum(map(is_closed, silent)) == 5, PATIENCE * time_unit, "five to be closed")
        for client in silent:
            client.close()
        eventually(lambda: len(secured(server)) > 0, PATIENCE * time_unit, "a free place")
        for _ in range(50):
            assert secured(server).startswith(b"HTTP/1.1 200 OK")


def secured(server: Running, raw: bytes = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") -> bytes:
    """Send a request over TLS and return the answer, nothing if there is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(OSError), context.wrap_socket(socket.create_connection(("127.0.0.1", server.port))) as it:
        it.sendall(raw)
        return it.recv(65536)
    return b""


def test_a_stream_over_tls_takes_little_from_its_client(tmp_path: Path, time_unit: float) -> None:
    """What comes behind the request is no request; more than 4 KiB of it ends the stream (W33)."""
    key, chain = certificate(tmp_path, "hub")
    files = ("--tls-cert-file", str(chain), "--tls-key-file", str(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with serving(tmp_path, time_unit, *files, **NO_LIMITS) as server:
        head = f"GET /events?topic=a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {issue()}\r\n\r\n".encode()
        surplus = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
        with context.wrap_socket(connect(server)) as client:
            client.sendall(head)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
            client.sendall(surplus * 50)
            time.sleep(0.2)  # they would be answered
            assert not [record for record in server.records() if record["message"] == "stream closed"]
            with contextlib.suppress(OSError):
                client.sendall(surplus * 500)
            assert server.wait_for_record(message="stream closed")["reason"] == "client_gone"
            assert not [record for record in server.records() if record.get("path") == "/healthz"]


class Waiting:
    """A connection that waits for a request."""

    due = 0.0

    def __init__(self) -> None:
        self.transport: Any = self
        self.aborted = False

    def abort(self) -> None:
        """Note that it was closed."""
        self.aborted = True

    def get_write_buffer_size(self) -> int:
        """Have nothing to be read."""
        return 0

    def expire(self) -> str:
        """Never be over."""
        raise AssertionError


async def test_who_has_waited_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that has just had a request is not in the way of those that wait longer."""
    monkeypatch.setattr("sseal.server.connections.FIRST_REQUEST_TIMEOUT", 0.0)
    connections = HttpConnections(set(), HttpLimits(connections=2), lambda address: False)
    busy, idle, late = Waiting(), Waiting(), Waiting()
    assert connections.enter(busy, "192.0.2.1")
    connections.on_request(busy)
    connections.on_idle(busy)  # the answer came before the end of the body
    assert connections.enter(idle, "192.0.2.2")
    connections.on_idle(busy)  # and this is that end
    assert connections.enter(late, "192.0.2.3")
    assert (busy.aborted, idle.aborted) == (False, True)
    connections.leave(busy)
    connections.leave(late)


def test_answers_carry_the_headers_that_protect_them(tmp_path: Path, time_unit: float) -> None:
    """No address leaks to other sites, nothing is kept, and with TLS the browser stays with it."""
    key, chain = certificate(tmp_path, "localhost")
    for files in ((), ("--tls-cert-file", str(chain), "--tls-key-file", str(key))):
        with serving(tmp_path, time_unit, *files) as server:
            context = ssl.create_default_context(cafile=str(chain))
            context.check_hostname = False
            for path in ("/healthz", "/events", "/nothing", "/admin/stats"):
                raw: socket.socket = connect(server)
                client = context.wrap_socket(raw) if files else raw
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                text = b""
                while piece := client.recv(65536):
                    text += piece
                client.close()
                head = text.lower().partition(b"\r\n\r\n")[0]
                assert b"referrer-policy: no-referrer" in head
                assert b"cross-origin-resource-policy: same-origin" in head
                assert b"cache-control: no-store" in head
                assert (b"strict-transport-security: max-age=" in head) is bool(files)


def test_the_end_comes_quietly_while_logins_wait(tmp_path: Path, time_unit: float) -> None:
    """Logins whose turn has not come are refused when the process ends, without a traceback for each."""
    Accounts(tmp_path / "a.db").add("a", "x" * 12)
    with serving(tmp_path, time_unit, accounts="a.db", insecure_cookies="true", **MANY_LOGINS) as server:
        body = json.dumps({"username": "a", "password": "wrong" * 4}).encode()
        head = f"POST /auth/login HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nOrigin: {server.url}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        clients = [connect(server, head.encode() + body) for _ in range(120)]
        assert clients[0].recv(9) == b"HTTP/1.1 "
        begun = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - begun < 10.0
        assert "Traceback" not in server.output()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(workers: str, number: int, tmp_path: Path, time_unit: float) -> None:
    """Who cannot wait for the streams sends it again; the exit code says that a signal ended it."""
    with serving(tmp_path, time_unit, "--workers", workers, drain_window="30", **NO_LIMITS) as server:
        token = issue()
        head = f"GET /events?topic=a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        clients = [connect(server, head) for _ in range(50)]
        for client in clients:
            assert client.recv(15) == b"HTTP/1.1 200 OK"
        server.process.send_signal(number)
        bye = b""
        while b"bye" not in bye:
            bye = b"".join(read_some(client) for client in clients)
        begun = time.monotonic()
        assert server.end(number) == -number
        assert time.monotonic() - begun < 5.0
        eventually(lambda: not answers(server), PATIENCE * time_unit, "the workers to be gone")
        assert "Traceback" not in server.output()


def read_some(client: socket.socket) -> bytes:
    """Return what has arrived."""
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError, ConnectionError):
        return client.recv(65536)
    return b""
