"""The direct path: who owns the transport, what is on it, and that nothing goes to the wrong socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from servers import RawStream, Server, ask, uvicorn
from sseal.server import direct as direct_path
from sseal.server import uvicorn_internals
from sseal.server.direct import MAX_SURPLUS, DirectSink
from sseal.server.request_heads import MAX_HEAD
from sseal.server.uvicorn_internals import missing

HTTP = ("--http", "sseal.server.uvicorn:StreamProtocol")
HEADERS = {"X-User": "alice", "Accept": "text/event-stream"}
JSON = {"X-User": "alice", "Content-Type": "application/json"}


async def publish(port: int, topic: str, *data: object) -> None:
    """Publish over HTTP."""
    body = json.dumps([{"topic": topic, "data": item} for item in data]).encode()
    async with ask(port, "/events", method="POST", headers=JSON, body=body) as answer:
        assert answer.status == 201


async def streams(port: int) -> list[dict[str, Any]]:
    """Return what the hub says of its open streams."""
    async with ask(port, "/admin/connections", headers=JSON) as answer:
        assert answer.status == 200
        raw = await answer.reader.readexactly(int(answer.headers["content-length"]))
        found: list[dict[str, Any]] = json.loads(raw)["connections"]
        return found


async def gone(port: int, count: int = 0) -> None:
    """Wait until so many streams are left."""
    async with asyncio.timeout(10.0):
        while len(await streams(port)) != count:
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Serve the plain hub on the direct path, for all tests that leave it as it was."""
    with uvicorn("server.apps:app", tmp_path_factory.mktemp("direct") / "log", *HTTP) as running:
        yield running


async def test_a_stream_is_detached_and_its_events_are_chunks_of_their_own(server: Server) -> None:
    """After the opening the hub owns the transport, and the framing stays exact."""
    async with ask(server.port, "/events?topic=a", headers=HEADERS) as stream:
        assert stream.headers["connection"] == "close"
        assert stream.headers["transfer-encoding"] == "chunked"
        await stream.until("auth")
        assert [found["direct"] for found in await streams(server.port)] == [True]
        await publish(server.port, "a", "1", "2")
        await stream.until(data="2")
        await publish(server.port, "a", "3")
        await stream.until(data="3")
        assert [event.data for event in stream.events if event.type == "message"] == ["1", "2", "3"]
    await gone(server.port)


@pytest.mark.parametrize(("app", "direct"), [("late", True), ("detached_late", False), ("rewriting", False)])
async def test_middleware_decides_whether_a_stream_is_detached(app: str, direct: bool, tmp_path: Path) -> None:
    """Only what the server itself has on its transport counts; nothing ever precedes the head (W3)."""
    with uvicorn(f"server.apps:{app}", tmp_path / "log", *HTTP) as running:
        async with ask(running.port, "/events?topic=a", headers=HEADERS) as stream:
            assert stream.status == 200
            publishing = asyncio.create_task(publish(running.port, "a", "early"))
            await stream.until("auth")
            await publishing
            await publish(running.port, "a", "late")
            await stream.until(data="late")
            assert [found["direct"] for found in await streams(running.port)] == [direct]
        await gone(running.port)


def test_missing_internals_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The installed uvicorn has everything; one that does not is told by name."""
    assert missing() == []

    class Older:
        """A request as some other version has it."""

        def __init__(self) -> None:
            self.disconnected = self.response_started = False

    monkeypatch.setattr(uvicorn_internals, "RequestResponseCycle", Older)
    assert missing() == [
        "RequestResponseCycle.send",
        "RequestResponseCycle.response_complete",
        "RequestResponseCycle.chunked_encoding",
        "RequestResponseCycle.keep_alive",
    ]
    assert RequestResponseCycle is not Older


async def test_a_client_that_hangs_up_is_gone_at_once(server: Server) -> None:
    """FIN and RST both end a stream without waiting for a heartbeat (W33)."""
    async with ask(server.port, "/events?topic=a", headers=HEADERS) as stream:
        await stream.until("auth")
        stream.writer.write_eof()
        await gone(server.port)
    async with ask(server.port, "/events?topic=a", headers=HEADERS) as stream:
        await stream.until("auth")
        raw: socket.socket = stream.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        stream.writer.transport.abort()
        await gone(server.port)


async def test_surplus_bytes_end_a_stream(server: Server) -> None:
    """A stream asks for nothing more: a little is dropped, more than 4 KiB ends it (W33)."""
    async with ask(server.port, "/events?topic=a", headers=HEADERS) as stream:
        await stream.until("auth")
        stream.writer.write(b"x" * MAX_SURPLUS)
        await publish(server.port, "a", "still here")
        await stream.until(data="still here")
        stream.writer.write(b"x")
        await gone(server.port)


async def test_a_pipelined_request_does_not_hide_that_the_client_left(server: Server) -> None:
    """A second request behind the first is dropped, and reading goes on, so that the end is seen (W33)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"GET /events?topic=a HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nX-User: alice\r\n\r\n"
    writer.write(head.encode() + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" in await reader.readline()
    await gone(server.port, 1)
    writer.close()
    await gone(server.port)


@pytest.mark.parametrize("path", ["/events?topic=a", "/events/aaaaaaaaaaaaaaaaaaaaaaaaaa"])
async def test_head_opens_nothing(path: str, server: Server) -> None:
    """HEAD is answered and authenticates nothing."""
    async with ask(server.port, path, method="HEAD", headers=HEADERS) as answer:
        assert answer.status == 401
    assert await streams(server.port) == []


async def test_http_1_0_gets_no_chunks(server: Server) -> None:
    """A client of the older version gets bare bytes until the connection closes (RFC 9112 section 6.1)."""
    async with ask(server.port, "/events?topic=a", headers=HEADERS, version="1.0") as stream:
        assert stream.status == 200
        assert "transfer-encoding" not in stream.headers
        await stream.until("auth")
        assert [found["direct"] for found in await streams(server.port)] == [False]
        await publish(server.port, "a", "1")
        await stream.until(data="1")
        assert b"\r\n" not in stream.body
    await gone(server.port)


async def test_tls_uses_the_plain_path(tmp_path: Path) -> None:
    """Behind the server's own TLS bytes go through the transport, with the same events."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
    command += ["-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True)
    options = (*HTTP, "--ssl-keyfile", str(key), "--ssl-certfile", str(certificate))
    with uvicorn("server.apps:app", tmp_path / "log", *options) as running:
        context = ssl.create_default_context(cafile=str(certificate))
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", running.port, ssl=context, server_hostname="localhost"
        )
        writer.write(b"GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\nX-User: alice\r\n\r\n")
        stream = RawStream(reader, writer)
        while (line := (await reader.readline()).strip()) != b"":
            name, _, value = line.decode().partition(":")
            stream.headers[name.lower()] = value.strip()
        await stream.until("auth")
        running.process.terminate()
        await stream.until("bye")
        await stream.to_end()
        writer.close()
        assert await asyncio.to_thread(running.process.wait, 5.0) is not None


async def test_stalled_readers_get_every_event_once_they_read_again(server: Server) -> None:
    """Readers that stop reading cost the others nothing, and then get all, once and in order (W32)."""
    count, size = 400, 4000
    stalled = []
    for _ in range(10):
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", server.port))
        head = f"GET /events?topic=big HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nX-User: alice\r\n\r\n"
        await asyncio.get_running_loop().sock_sendall(raw, head.encode())
        stalled.append(raw)
    await gone(server.port, 10)
    async with ask(server.port, "/events?topic=big", headers=HEADERS) as stream:
        await stream.until("auth")
        for start in range(0, count, 50):
            await publish(server.port, "big", *[f"{index:05}" + "x" * size for index in range(start, start + 50)])
        await stream.until(data=f"{count - 1:05}" + "x" * size)
        found = await streams(server.port)
        assert sum(item["state"] == "catching_up" for item in found) == 10
        assert max(item["buffered"] for item in found) < 128 * 1024
        for raw in stalled:
            reader, writer = await asyncio.open_connection(sock=raw)
            late = RawStream(reader, writer)
            while (line := (await reader.readline()).strip()) != b"":
                name, _, value = line.decode().partition(":")
                late.headers[name.lower()] = value.strip()
            await late.until(data=f"{count - 1:05}" + "x" * size, patience=30.0)
            numbers = [int(event.data[:5]) for event in late.events if event.type == "message"]
            assert numbers == list(range(count))
            writer.close()
    await gone(server.port)


class Owner:
    """Notes what a sink says."""

    close_timeout = 0.2

    def __init__(self) -> None:
        self.pumped = 0
        self.left = 0

    def on_drained(self, connection: object) -> None:
        """Count."""
        self.pumped += 1

    def on_disconnect(self, connection: object) -> None:
        """Count."""
        self.left += 1


class Pair:
    """A sink on a real connection, and the client's end of it."""

    def __init__(self) -> None:
        self.owner = Owner()
        self.sinks: list[DirectSink] = []
        self.clients: list[socket.socket] = []
        self.port = 0

    async def connect(self, receive_buffer: int = 0) -> tuple[DirectSink, socket.socket]:
        """Open one more connection."""
        before = len(self.sinks)
        client = socket.socket()
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self.port))
        while len(self.sinks) == before:
            await asyncio.sleep(0)
        self.clients.append(client)
        return self.sinks[-1], client


@pytest_asyncio.fixture
async def pair() -> AsyncIterator[Pair]:
    """Offer sinks on real sockets."""
    made = Pair()
    loop = asyncio.get_running_loop()

    class Accept(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            sink = DirectSink(transport, set())
            sink.begin(made.owner, None)  # type: ignore[arg-type]
            transport.set_write_buffer_limits(high=0)
            transport.set_protocol(sink)
            made.sinks.append(sink)

    listener = await loop.create_server(Accept, "127.0.0.1", 0)
    made.port = listener.sockets[0].getsockname()[1]
    yield made
    for client in made.clients:
        client.close()
    for sink in made.sinks:
        sink.abort()
    listener.close()
    await asyncio.sleep(0)


async def read(client: socket.socket, size: int) -> bytes:
    """Read exactly so many bytes."""
    data = bytearray()
    async with asyncio.timeout(60.0):
        while len(data) < size:
            piece = await asyncio.get_running_loop().sock_recv(client, size - len(data))
            assert piece, f"closed after {len(data)} bytes"
            data += piece
    return bytes(data)


async def test_a_dead_sink_writes_to_nobody_elses_descriptor(pair: Pair) -> None:
    """Alice's connection is closed and bob's gets her descriptor: her events go nowhere (W4)."""
    alice, alices_end = await pair.connect()
    view = alice._view
    assert view is not None
    number = view.fileno()
    alice.abort()
    assert alice._view is None
    assert view.fileno() == -1, "not even who still holds it reaches the descriptor"
    alices_end.close()
    for _ in range(20):
        await asyncio.sleep(0)
    bob = None
    for _ in range(50):
        candidate, end = await pair.connect()
        if candidate._view is not None and candidate._view.fileno() == number:
            bob = end
            break
    assert bob is not None, "the kernel did not give the descriptor out again"
    alice.put(b"2\r\nhi\r\n")
    alice.write(b"for alice only")
    alice.close()
    candidate.write(b"for bob")
    assert await read(bob, 12) == b"7\r\nfor bob\r\n"


@pytest.mark.parametrize("end", ["abort", "close", "shutdown", "connection_lost", "eof_received"])
async def test_a_sink_forgets_its_descriptor_in_the_step_that_ends_it(end: str, pair: Pair) -> None:
    """However a stream ends, in the same synchronous step nothing can be written any more (W4)."""
    sink, client = await pair.connect()
    if end == "connection_lost":
        sink.connection_lost(None)
    else:
        getattr(sink, end)()
    assert sink._view is None
    assert not sink.clear
    assert sink.buffered == 0
    sink.put(b"6\r\nsecret\r\n")
    expected = b"0\r\n\r\n" if end in ("close", "shutdown") else b""
    sink.abort() if end in ("connection_lost", "eof_received") else None  # what its owner does
    received = b""
    try:
        async with asyncio.timeout(5.0):
            while piece := await asyncio.get_running_loop().sock_recv(client, 4096):
                received += piece
    except ConnectionResetError:
        pass
    assert received == expected


async def test_what_is_left_of_a_sink_closes_no_descriptor(pair: Pair) -> None:
    """A sink whose end nobody told it of takes nothing with it: its descriptor is its transport's (W4)."""
    sink, client = await pair.connect()
    view = direct_path.View(client.fileno())
    del view
    sink._view = None
    sink._transport.write(b"still there")
    assert await read(client, 11) == b"still there"


async def test_a_short_write_goes_on_through_the_transport_in_order(pair: Pair) -> None:
    """What the kernel does not take at once is handed on, later writes queue behind it, nothing is lost."""
    sink, client = await pair.connect(receive_buffer=4096)
    big = os.urandom(8 * 1024 * 1024)
    sink.put(big)
    assert not sink.clear
    assert sink.buffered > 0
    sink.put(b"behind")
    assert await read(client, len(big) + 6) == big + b"behind"
    while pair.owner.pumped == 0:
        await asyncio.sleep(0)
    assert sink.clear
    assert sink.buffered == 0
    sink.put(b"direct again")
    assert await read(client, 12) == b"direct again"


async def test_nothing_passes_what_an_abort_has_dropped(pair: Pair) -> None:
    """Whoever aborts a transport that holds a rest: what is put before the sink hears of it goes nowhere either."""
    sink, client = await pair.connect(receive_buffer=4096)
    sink.put(b"x" * (8 * 1024 * 1024))
    assert not sink.clear
    sink._transport.abort()
    received = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            received += client.recv(65536)  # so that the kernel has room again
    sink.put(b"late")
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10.0):
            while piece := await asyncio.get_running_loop().sock_recv(client, 65536):
                received += piece
    assert set(received) == {ord("x")}


async def test_a_send_never_waits_whatever_the_default_timeout_of_the_app(pair: Pair) -> None:
    """`socket.setdefaulttimeout` is the app's: the event loop must not wait for a reader because of it."""
    socket.setdefaulttimeout(5.0)
    try:
        sink, _ = await pair.connect(receive_buffer=4096)
    finally:
        socket.setdefaulttimeout(None)
    view = sink._view
    assert view is not None
    with pytest.raises(BlockingIOError):  # and not TimeoutError, five seconds later
        while True:
            view.send(b"x" * 65536)
    sink.put(b"the rest")
    assert sink.buffered == len(b"the rest"), "it waits in the transport, and the stream goes on"


async def test_closing_cannot_hang_on_a_reader_that_does_not_read(pair: Pair) -> None:
    """A close with a full buffer is given up after its time (W32)."""
    sink, client = await pair.connect(receive_buffer=4096)
    sink.put(b"x" * (8 * 1024 * 1024))
    sink.close()
    transport = sink._transport
    async with asyncio.timeout(5.0):
        while transport.get_write_buffer_size():
            await asyncio.sleep(0.02)
    assert client.fileno() >= 0


async def test_a_write_to_a_reset_connection_ends_the_sink(pair: Pair) -> None:
    """Any error but a full socket ends the stream, and its owner is told once (W4)."""
    sink, client = await pair.connect()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    client.close()
    async with asyncio.timeout(5.0):
        while sink._view is not None:
            sink.put(b"x")
            await asyncio.sleep(0)
        while not pair.owner.left:
            await asyncio.sleep(0)
    sink.connection_lost(None)
    assert pair.owner.left == 1


def test_streams_have_the_socket_options_that_bound_them() -> None:
    """Keep-alive, a user timeout of a minute, and little unsent in the kernel (W32)."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        direct_path._tune(client)
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
        assert client.getsockopt(socket.IPPROTO_TCP, direct_path._TCP_NOTSENT_LOWAT) == 16 * 1024


async def test_a_request_head_without_end_is_refused_and_its_connection_closed(server: Server) -> None:
    """Headers are not collected without bound: at 64 KiB there is a 431, and nobody else notices."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
    line = b"X-Filler: " + b"x" * 1000 + b"\r\n"
    try:
        for _ in range(2 * MAX_HEAD // len(line)):
            writer.write(line)
            await writer.drain()
    except ConnectionError:
        pass  # it did not even wait for all of it
    async with asyncio.timeout(10.0):
        try:
            answer = await reader.read()
        except ConnectionError:
            answer = b"HTTP/1.1 431 "  # the rest that was on its way made the kernel reset it
    assert answer.startswith(b"HTTP/1.1 431 ")
    writer.close()
    async with ask(server.port, "/healthz", headers={}) as fine:
        assert fine.status == 200


async def test_an_endless_header_line_is_cut_off(server: Server) -> None:
    """A header that never ends is not collected either."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nX-Filler: ")
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(10.0):
            for _ in range(1000):
                writer.write(b"x" * 16 * 1024)
                await writer.drain()
    writer.close()


async def test_as_many_topics_as_are_allowed_fit_into_a_request(server: Server) -> None:
    """The bound on heads is above what an honest stream may ask for."""
    topics = "&".join(f"topic={'%C3%A9' * 120}{number}" for number in range(64))
    async with ask(server.port, f"/events?{topics}", headers=HEADERS) as stream:
        assert stream.status == 200


async def test_a_request_head_that_does_not_come_to_an_end_is_cut_off(tmp_path: Path) -> None:
    """Who sends half a head and waits holds a descriptor for a bounded time only."""
    with uvicorn("server.hurried:app", tmp_path / "log", *HTTP) as running:
        for half in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(half)
            async with asyncio.timeout(10.0):
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            writer.close()
        async with ask(running.port, "/events?topic=a", headers=HEADERS) as stream:
            await stream.until("auth")
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            half = b"GET /events?topic=a HTTP/1.1\r\nHost: x\r\nX-User: alice\r\n\r\nGET /healthz HTTP/1.1\r\n"
            writer.write(half)  # of a second request, which is dropped and not waited for (W33)
            async with asyncio.timeout(10.0):
                await reader.readuntil(b"event: auth\n")
            await asyncio.sleep(1.5)  # longer than a head may take: that a stream lives is what is promised
            await publish(running.port, "a", "1")
            await stream.until(data="1")
            async with asyncio.timeout(10.0):
                await reader.readuntil(b"data: 1\n")
            writer.close()


@pytest.mark.parametrize("sends", [True, False])
async def test_who_connected_before_the_end_is_answered_and_waited_for_a_moment_only(
    sends: bool, tmp_path: Path
) -> None:
    """During a deploy a publisher's request is not cut off unread; one that never comes does not hold the process."""
    with uvicorn("server.patient:app" if sends else "server.apps:app", tmp_path / "log", *HTTP) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        async with ask(running.port, "/healthz") as answer:  # connections are accepted in order
            assert answer.status == 200
        running.process.terminate()
        async with asyncio.timeout(10.0):
            with contextlib.suppress(ConnectionError):
                while True:
                    _, other = await asyncio.open_connection("127.0.0.1", running.port)
                    other.close()
                    await asyncio.sleep(0.02)
            if sends:
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            text = (await reader.read()).lower()
            await asyncio.to_thread(running.process.wait, 10.0)
        assert text.startswith(b"http/1.1 200") is sends
        assert (b"connection: close" in text) is sends
        writer.close()
