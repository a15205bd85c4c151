"""HTTP/1.1 as an attacker writes it: what is refused, what is ignored, and that nothing is held without bound."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from server.http_apps import echo
from servers import Server, uvicorn
from sseal.server.protocol import MAX_CHUNKS, MAX_PIECE, MAX_PIPELINED, StreamProtocol
from sseal.server.request_heads import MAX_LINES

OPTIONS = ("--http", "sseal.server.uvicorn:StreamProtocol", "--ws", "none", "--timeout-keep-alive", "1")
PATIENCE = 20.0


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An app that says what it got, on both event loops."""
    log = tmp_path_factory.mktemp("http") / "log"
    with uvicorn("server.http_apps:echo", log, *OPTIONS, "--loop", request.param) as running:
        yield running


async def exchange(port: int, *pieces: bytes) -> bytes:
    """Send these pieces in segments of their own, and read until the server closes."""
    loop, heard = asyncio.get_running_loop(), bytearray()
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        async def hear() -> None:
            with contextlib.suppress(ConnectionError):
                while piece := await loop.sock_recv(client, 65536):
                    heard.extend(piece)

        hearing = asyncio.create_task(hear())
        with contextlib.suppress(ConnectionError):  # it may close before it has heard all
            for number, piece in enumerate(pieces):
                if number:
                    await asyncio.sleep(0.02)  # so that it is a segment of its own
                await loop.sock_sendall(client, piece)
        async with asyncio.timeout(PATIENCE):
            await hearing
    return bytes(heard)


def answers(raw: bytes) -> list[tuple[int, Any]]:
    """Split what was read into answers with a length: status and decoded body of each."""
    found = []
    while raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        found.append((int(head.split()[1]), json.loads(raw[:length])))
        raw = raw[length:]
    return found


CLOSE = b"Connection: close\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
REFUSED = {
    "no Host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    "two Hosts, HTTP/1.0": (400, b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"),
    "a Host that is none": (400, b"GET / HTTP/1.1\r\nHost: a/b@c\r\n\r\n"),
    "gzip, chunked": (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "chunked, gzip": (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    "gzip": (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"),
    "gzip and chunked in lines of their own": (
        501,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "identity before chunked": (
        501,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "chunked twice": (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    "chunked, HTTP/1.0": (400, b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunked and a length": (
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    "a length and chunked": (
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "two lengths": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"),
    "a signed length": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na"),
    "HTTP/2.0": (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    "HTTP/0.9": (505, b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
    "HTTP/1.2": (400, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    "the HTTP/2 preface": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "a folded line": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
    "bare LF": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "one bare LF": (400, b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
    "bare CR": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"),
    "NUL in a value": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
    "NUL in a path": (400, b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "space before a colon": (400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    "a line without a colon": (400, b"GET / HTTP/1.1\r\nHost: a\r\nfoo\r\n\r\n"),
    "space before the first line": (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    "a target that is no path": (400, b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a user in the target": (400, b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "CONNECT": (501, b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "CONNECT to a path": (501, b"CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "too many lines": (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a:\r\n" * MAX_LINES + b"\r\n"),
    "a chunk size with a space": (400, CHUNKED + b"1 \r\na\r\n0\r\n\r\n"),
    "a chunk size in C": (400, CHUNKED + b"0x1\r\na\r\n0\r\n\r\n"),
    "a chunk longer than it said": (400, CHUNKED + b"1\r\nab\r\n0\r\n\r\n"),
    "a bare LF behind a chunk size": (400, CHUNKED + b"1\na\r\n0\r\n\r\n"),
    "a length as a trailer": (400, CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n"),
}


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in two"])
@pytest.mark.parametrize("name", list(REFUSED))
async def test_a_request_that_two_servers_could_read_differently_is_refused(
    name: str, whole: bool, server: Server
) -> None:
    """It gets one answer that says why, the connection is closed, and what follows is not taken for a request."""
    status, raw = REFUSED[name]
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    pieces = [raw + smuggled] if whole else [raw[:20], raw[20:], smuggled]
    begun = time.monotonic()
    found = answers(await exchange(server.port, *pieces))
    assert [each[0] for each in found] == [status]
    assert found[0][1]["code"] == "malformed_http"
    assert time.monotonic() - begun < PATIENCE


async def test_lines_up_to_the_bound_are_fine(server: Server) -> None:
    """What is refused is the line too many, not the last that is allowed."""
    raw = b"GET / HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"a:\r\n" * (MAX_LINES - 2) + b"\r\n"
    assert [status for status, _ in answers(await exchange(server.port, raw))] == [200]


async def test_the_host_of_an_absolute_target_counts(server: Server) -> None:
    """A target that names its host replaces the header (RFC 9112 section 3.2.2)."""
    raw = b"GET http://b:1/x?y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    ((status, seen),) = answers(await exchange(server.port, raw))
    assert (status, seen["path"]) == (200, "/x")
    assert [value for name, value in seen["headers"] if name == "host"] == ["b:1"]


async def test_trailers_are_ignored(server: Server) -> None:
    """What comes behind a body authenticates nobody and overrides nothing."""
    trailers = b"Authorization: Bearer stolen\r\nX-Forwarded-For: 192.0.2.1\r\nHost: evil\r\n"
    ((status, seen),) = answers(await exchange(server.port, CHUNKED, b"1\r\na\r\n", b"0\r\n" + trailers + b"\r\n"))
    assert (status, seen["body"]) == (200, "a")
    assert [name for name, _ in seen["headers"]] == ["host", "connection", "transfer-encoding"]


@pytest.mark.parametrize(
    "endless", [b"1;x=" + b"a" * 400_000, b"0\r\nX: " + b"a" * 400_000, b"0\r\n" + b"a:\r\n" * 9000]
)
async def test_what_comes_beside_the_bytes_of_a_body_is_bounded(endless: bytes, server: Server) -> None:
    """A chunk extension, a trailer or trailers without end do not pile up."""
    found = await exchange(server.port, CHUNKED, endless)
    assert b" 200 " not in found


UPGRADE = b"POST /upgraded HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\nX-Long: %b\r\n\r\n" % (b"x" * 40)


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("cut", [0, 1, 30, len(HIDDEN)])
async def test_the_body_of_an_upgrade_is_a_body(framing: str, cut: int, server: Server) -> None:
    """However it is cut into segments: it is read as announced, and the request behind it is not answered."""
    if framing == "length":
        head, body = UPGRADE + b"Content-Length: %d\r\n\r\n" % len(HIDDEN), HIDDEN
    else:
        head, body = UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
    found = answers(await exchange(server.port, head + body[:cut], body[cut:] + HIDDEN, HIDDEN))
    assert [(status, seen["path"], seen["body"]) for status, seen in found] == [(200, "/upgraded", HIDDEN.decode())]


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0, h2c"])
async def test_nothing_behind_an_upgrade_is_a_request(protocol: bytes, server: Server) -> None:
    """Without a body, too: the request itself is answered in HTTP/1.1, and the connection closed."""
    raw = b"GET /upgraded HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"
    for pieces in ((raw + HIDDEN,), (raw, HIDDEN)):
        found = answers(await exchange(server.port, *pieces))
        assert [(status, seen["path"]) for status, seen in found] == [(200, "/upgraded")]


async def test_nothing_behind_a_last_request_is_one(server: Server) -> None:
    """Who says `Connection: close` has asked for the last time (RFC 9112 section 9.6)."""
    raw = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    for pieces in ((raw + HIDDEN,), (raw, HIDDEN)):
        assert [seen["path"] for _, seen in answers(await exchange(server.port, *pieces))] == ["/last"]


async def test_a_refusal_waits_for_the_answers_before_it(server: Server) -> None:
    """A malformed request behind good ones does not break into their answers."""
    good = b"".join(b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n%d" % (n, n) for n in range(4))
    found = answers(await exchange(server.port, good + REFUSED["NUL in a value"][1]))
    assert [status for status, _ in found] == [200, 200, 200, 200, 400]
    found = answers(await exchange(server.port, good + REFUSED["a chunk size in C"][1]))
    assert [status for status, _ in found] == [200, 200, 200, 200, 400]


@pytest.mark.parametrize("count", [MAX_PIPELINED, MAX_PIPELINED + 1, 3000])
async def test_pipelined_requests_are_all_answered_in_order(count: int, server: Server) -> None:
    """The bound on what waits is no bound on what is answered, for a client that reads."""
    asked = [b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\r\n\r\n" % n for n in range(count)]
    found = answers(
        await exchange(server.port, b"".join(asked) + b"GET /last HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n")
    )
    assert [seen["path"] for _, seen in found] == [*(f"/{n}" for n in range(count)), "/last"]


def memory(pid: int) -> int:
    """Return the resident set of a process, KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


async def ask(port: int, path: bytes) -> Any:
    """Ask for one path on a connection of its own."""
    ((status, seen),) = answers(await exchange(port, b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n"))
    assert status == 200
    return seen


async def test_a_client_that_pipelines_and_does_not_read_holds_up_nobody(server: Server) -> None:
    """Thousands of requests in 252 KB, again and again: others are answered, and memory stays where it was."""
    pid = (await ask(server.port, b"/process"))["pid"]
    flood = b"GET / HTTP/1.1\r\nHost:\r\n\r\n" * 10_000
    before, slowest = 0, 0.0
    for number in range(6):
        clients = []
        for _ in range(5):
            client = socket.create_connection(("127.0.0.1", server.port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.send(flood)
            clients.append(client)
        for _ in range(5):
            begun = time.monotonic()
            await ask(server.port, b"/")
            slowest = max(slowest, time.monotonic() - begun)
        for client in clients:
            client.close()
        if number == 0:
            before = memory(pid)
    assert memory(pid) - before < 16 * 1024
    assert slowest < 0.3, "the others waited"
    assert (await ask(server.port, b"/process"))["garbage"] < 2000


async def test_what_waits_behind_a_request_is_forgotten_with_its_connection(server: Server) -> None:
    """Requests that never had their turn leave no garbage for the collector to find."""
    await ask(server.port, b"/process")
    for _ in range(20):
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n" + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 500)
        client.close()
    await asyncio.sleep(0.1)
    await ask(server.port, b"/release")
    assert (await ask(server.port, b"/process"))["garbage"] < 500  # of 10,000 requests


async def held(port: int, *pieces: bytes, patience: float = PATIENCE) -> float:
    """Send pieces with a pause between them, over and over, read nothing; return seconds until cut off."""
    client = socket.create_connection(("127.0.0.1", port))
    client.setblocking(False)
    loop, begun, number = asyncio.get_running_loop(), time.monotonic(), 0
    try:
        async with asyncio.timeout(patience):
            while True:
                try:
                    await loop.sock_sendall(client, pieces[min(number, len(pieces) - 1)])
                    number += 1
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.2):
                            while await loop.sock_recv(client, 65536):
                                pass
                            return time.monotonic() - begun
                except ConnectionError:
                    return time.monotonic() - begun
    finally:
        client.close()


SLOW = {
    "nothing": (b"",),
    "blank lines before a request": (b"\r\n",),
    "a head in drops": (b"GET / HTTP/1.1\r\nHost: a\r\n", b"a: b\r\n"),
    "blank lines after an answer": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n"),
    "half a head after an answer": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HT", b""),
    "a body after its answer": (b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n", b"a"),
}


@pytest.mark.parametrize("name", list(SLOW))
async def test_who_is_slow_is_cut_off(name: str, server: Server) -> None:
    """A connection on which no request comes to an end is held for a bounded time, whatever drips in."""
    assert await held(server.port, *SLOW[name]) < 10.0


async def test_who_does_not_read_an_answer_is_cut_off(server: Server) -> None:
    """An answer of which nothing is taken is given up; one that is read slowly, but read, is not."""
    connections = []
    for _ in range(2):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        client.setblocking(False)
        connections.append(client)
    loop = asyncio.get_running_loop()
    stalled, slow = connections
    got = 0
    async with asyncio.timeout(60.0):
        while piece := await loop.sock_recv(slow, 262_144):
            got += len(piece)
            await asyncio.sleep(0.05)
    assert got > 8_000_000
    cut = 0
    with contextlib.suppress(ConnectionResetError):
        while piece := await loop.sock_recv(stalled, 262_144):
            cut += len(piece)
    assert cut < 8_000_000
    for client in connections:
        client.close()


async def test_a_request_that_was_answered_gets_no_second_answer(server: Server) -> None:
    """When the rest of its body is malformed, it is closed: a proxy would take a refusal for the next answer."""
    head = b"POST /unread HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
    assert [status for status, _ in answers(await exchange(server.port, head, b"no size\r\n"))] == [200]


async def test_http_1_0_hears_of_no_100(server: Server) -> None:
    """It does not know such answers, and would take one for the answer."""
    raw = b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na"
    assert [status for status, _ in answers(await exchange(server.port, raw))] == [200]


async def test_the_kernel_takes_little_of_an_answer_nobody_reads(server: Server) -> None:
    """A few hundred KiB, not what its buffer may grow to: a client has hundreds of connections."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        most, end = 0, time.monotonic() + 0.8  # it is cut off after a second
        while time.monotonic() < end:
            most = max(most, unsent(server.port, client.getsockname()[1]))
            await asyncio.sleep(0.02)
    assert 0 < most < 512 * 1024


def unsent(port: int, client: int) -> int:
    """Return how many bytes the kernel holds for a client of a local server."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues = line.split()[:5]
        if (int(local.split(":")[1], 16), int(remote.split(":")[1], 16)) == (port, client):
            return int(queues.split(":")[0], 16)
    return 0


async def test_nothing_that_comes_with_a_websocket_is_a_request(tmp_path: Path) -> None:
    """Bytes in the segment of its handshake are neither answered nor run."""
    options = ("--http", "sseal.server.uvicorn:StreamProtocol", "--ws", "wsproto")
    with uvicorn("server.http_apps:with_websocket", tmp_path / "log", *options) as server:
        upgrade = (
            b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        heard = await exchange(server.port, upgrade + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
    assert heard.startswith(b"HTTP/1.1 101 ")
    assert heard.count(b"HTTP/1.1 ") == 1


async def test_a_body_of_many_small_chunks_is_parsed_a_little_at_a_time() -> None:
    """A turn of the event loop takes a few thousand chunks of what was read, and the body still arrives whole."""
    turns: list[int] = []

    class Counted(StreamProtocol):
        def _take(self, data: bytes, start: int) -> None:
            super()._take(data, start)
            turns.append(self._chunks)

    config = Config(echo, http=Counted, ws="none", lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Counted(config, state, {}), "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        found = answers(await exchange(port, CHUNKED + b"1\r\na\r\n" * 200_000 + b"0\r\n\r\n"))
    assert found[0][1]["body"] == "a" * 200_000
    assert max(turns) < 2 * MAX_CHUNKS + MAX_PIECE // 6
