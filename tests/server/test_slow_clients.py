"""Clients that are slow, or do not read, or say what is not meant for them, while good streams go on.

``SSEAL_CHAOS=long`` makes it 1,000 streams and 15,000 idle connections; `make chaos` runs that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import resource
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from running import Running, serving
from server import fronts
from server.test_serve import NO_LIMITS, issue

LONG = os.environ.get("SSEAL_CHAOS") == "long"
STREAMS = 1000 if LONG else 200
IDLE = 15_000 if LONG else 1500
ATTACK = 30.0 if LONG else 4.0
"""Seconds."""
LATENCY = 5.0 if LONG else 2.5
"""Seconds an event may take to all streams, at most; a quiet machine needs 20 to 100 ms for 200, 200 ms for 1,000."""
SLOWER = 20.0
"""What it may take on a machine that has much else to do: so many times what it takes there without an attack."""


async def connect(port: int, *, receive: int = 0) -> socket.socket:
    """Open a connection that is not read unless somebody does."""
    client = socket.socket()
    if receive:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    client.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    except BaseException:
        client.close()
        raise
    return client


async def drip(port: int, first: bytes, more: bytes, *, pause: float = 0.2, receive: int = 0) -> None:
    """Send something, and then more of it in drops; begin anew when cut off."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            client = await connect(port, receive=receive)
        except OSError:
            await asyncio.sleep(pause)
            continue
        try:
            await loop.sock_sendall(client, first)
            while True:
                await asyncio.sleep(pause)
                await loop.sock_sendall(client, more)
        except OSError:
            pass
        finally:
            client.close()


def request(port: int, line: str, *headers: str) -> bytes:
    """Return the head of a request."""
    return "\r\n".join([f"{line} HTTP/1.1", f"Host: 127.0.0.1:{port}", *headers, "", ""]).encode()


def attacks(port: int) -> dict[str, Callable[[], Awaitable[None]]]:
    """Return what one attacker does, over and over, by name."""
    bearer = f"Authorization: Bearer {issue('mallory')}"
    post = "POST /events", bearer, "Content-Type: application/json"
    body = request(port, *post, "Content-Length: 99999")
    chunked = request(port, *post, "Transfer-Encoding: chunked")
    hidden = request(port, "GET /healthz")
    upgrade = request(port, "POST /events", "Connection: Upgrade", "Upgrade: h2c", f"Content-Length: {len(hidden)}")
    trailer = b"2\r\n{}\r\n0\r\n" + f"{bearer}\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n".encode()
    return {
        "head": lambda: drip(port, request(port, "GET /healthz")[:-2], b"X: y\r\n"),
        "body": lambda: drip(port, body, b" "),
        "chunks": lambda: drip(port, chunked, b"1\r\n \r\n"),
        "answer": lambda: drip(port, request(port, "GET /metrics") * 500, hidden, receive=4096),
        "pipelining": lambda: drip(port, b"GET / HTTP/1.1\r\nHost:\r\n\r\n" * 10_000, hidden, receive=4096),
        "upgrade": lambda: drip(port, upgrade, hidden, pause=0.02),
        "trailers": lambda: drip(
            port, request(port, "POST /events", "Transfer-Encoding: chunked"), trailer, pause=0.02
        ),
        "nothing": lambda: drip(port, b"", b"\r\n"),
    }


class Reader:
    """One good stream, and when it got which event."""

    def __init__(self) -> None:
        self.got: dict[int, float] = {}
        self.opened = asyncio.Event()

    async def run(self, port: int, name: str) -> None:
        """Read until cancelled."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = ("Accept: text/event-stream", f"Authorization: Bearer {issue(name)}")
        writer.write(request(port, "GET /events?topic=news", *head))
        try:
            while line := await reader.readline():
                if line.startswith(b"event: auth"):
                    self.opened.set()
                elif line.startswith(b'data: {"n"'):
                    self.got[json.loads(line[6:])["n"]] = time.monotonic()
        finally:
            writer.close()


async def ask(port: int, raw: bytes) -> tuple[int, Any]:
    """Send one request and read its answer: status and decoded body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await exchange(reader, writer, raw)
    finally:
        writer.close()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, raw: bytes) -> tuple[int, Any]:
    """Do so on a connection that is used again."""
    writer.write(raw)
    async with asyncio.timeout(20.0):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        if b"content-length" in lines:
            body = await reader.readexactly(int(lines[b"content-length"]))
        else:  # Caddy and HAProxy may pass chunks on
            body = b""
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
    return int(head.split()[1]), json.loads(body)


async def publish(port: int, number: int) -> None:
    """Publish one event of the good ones."""
    body = json.dumps({"topic": "news", "data": {"n": number}}).encode()
    headers = (
        f"Authorization: Bearer {issue('editor')}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    status, _ = await ask(port, request(port, "POST /events", *headers) + body)
    assert status == 201


@contextlib.asynccontextmanager
async def good_streams(port: int) -> AsyncIterator[list[Reader]]:
    """Open the streams that nothing is to happen to."""
    readers = [Reader() for _ in range(STREAMS)]
    tasks = [asyncio.create_task(reader.run(port, f"user{number}")) for number, reader in enumerate(readers)]
    try:
        async with asyncio.timeout(60.0):
            await asyncio.gather(*(reader.opened.wait() for reader in readers))
        yield readers
        assert not [task for task in tasks if task.done()], "a stream has ended"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def events_reach(port: int, readers: list[Reader], seconds: float) -> float:
    """Publish for so long; every event reaches every stream. Return how long the slowest took."""
    sent: dict[int, float] = {}
    first = len(readers[0].got)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        number = first + len(sent)
        sent[number] = time.monotonic()
        await publish(port, number)
        await asyncio.sleep(0.1)
    async with asyncio.timeout(30.0):
        while any(len(reader.got) < first + len(sent) for reader in readers):
            await asyncio.sleep(0.02)
    assert all(list(reader.got) == sorted(reader.got) for reader in readers)
    return max(reader.got[number] - at for reader in readers for number, at in sent.items())


@pytest.fixture
def hub(tmp_path: Path, time_unit: float) -> Any:
    """A hub that lets in any number of streams, and gives everybody little time."""
    options = {"body_timeout": "2", "keep_alive_timeout": "1", "response_timeout": "2", "broker": "memory://"}
    with serving(tmp_path, time_unit, **NO_LIMITS, **options) as server:
        yield server


def raise_limit(number: int) -> None:
    """Allow this process so many open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number:
        assert hard >= number, f"this needs {number} open files, and {hard} are allowed; raise `ulimit -Hn`"
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))


@pytest.mark.parametrize("front", ["none", "nginx", "haproxy", "caddy"])
async def test_good_streams_go_on_whatever_bad_clients_do(
    front: str, hub: Running, tmp_path: Path, nginx_path: str, haproxy_path: str, caddy_path: str
) -> None:
    """Ten of each kind of attacker, all at once: every event reaches every stream in time, and others are answered."""
    raise_limit(4 * STREAMS + 1000)
    with contextlib.ExitStack() as stack:
        port = hub.port
        if front == "nginx":
            port = stack.enter_context(fronts.nginx(nginx_path, tmp_path, hub.port))
        elif front == "haproxy":
            port = stack.enter_context(fronts.haproxy(haproxy_path, tmp_path, hub.port))
        elif front == "caddy":
            port = stack.enter_context(fronts.caddy(caddy_path, tmp_path, hub.port))
        async with good_streams(port) as readers:
            before = await events_reach(hub.port, readers, 1.0)
            bad = [asyncio.create_task(attack()) for attack in attacks(port).values() for _ in range(10)]
            try:
                slowest = await events_reach(hub.port, readers, ATTACK)
                assert (await ask(port, request(port, "GET /readyz")))[0] == 200
            finally:
                for task in bad:
                    task.cancel()
                await asyncio.gather(*bad, return_exceptions=True)
        assert slowest < max(LATENCY, SLOWER * before)
    assert "Traceback" not in hub.output()


async def test_idle_connections_are_many_and_cost_nobody_anything(hub: Running) -> None:
    """More than a thousand that say nothing, or a blank line now and then, beside streams that go on."""
    raise_limit(IDLE + 2 * STREAMS + 1000)
    loop, idle = asyncio.get_running_loop(), []
    try:
        async with good_streams(hub.port) as readers:
            before = await events_reach(hub.port, readers, 1.0)
            for number in range(IDLE):
                idle.append(await connect(hub.port))
                if number % 2:
                    await loop.sock_sendall(idle[-1], b"\r\n")
            assert await events_reach(hub.port, readers, ATTACK) < max(LATENCY, SLOWER * before)
            assert (await ask(hub.port, request(hub.port, "GET /readyz")))[0] == 200
    finally:
        for client in idle:
            client.close()


async def test_behind_a_proxy_that_passes_upgrades_on_everybody_gets_their_own_answer(
    hub: Running, tmp_path: Path, nginx_path: str
) -> None:
    """Requests hidden in the body of an upgrade: no victim on the connections nginx shares gets their answer."""
    with fronts.nginx(nginx_path, tmp_path, hub.port, upgrades=True) as port:
        hidden = request(port, "GET /healthz")
        upgrade = request(port, "POST /events", "Connection: Upgrade", "Upgrade: h2c", f"Content-Length: {len(hidden)}")

        async def attack() -> None:
            loop = asyncio.get_running_loop()
            while True:
                client = await connect(port)
                try:
                    await loop.sock_sendall(client, upgrade)
                    await asyncio.sleep(random.random() * 0.01)
                    await loop.sock_sendall(client, hidden)
                    await loop.sock_recv(client, 4096)
                except OSError:
                    pass
                finally:
                    client.close()

        async def victim(name: str) -> int:
            """Ask again and again for an answer that names who asked; return how often."""
            headers = (f"Authorization: Bearer {issue(name)}", "Content-Type: application/json")
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            asked, ends = 0, time.monotonic() + ATTACK
            while time.monotonic() < ends:
                field = f"{name}-{asked}"
                body = json.dumps({field: 1}).encode()
                raw = request(port, "POST /auth/sse", *headers, f"Content-Length: {len(body)}") + body
                status, answer = await exchange(reader, writer, raw)
                assert (status, answer.get("field")) == (400, field)
                asked += 1
                if asked % 500 == 0:  # nginx itself ends a connection after a thousand requests
                    writer.close()
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.sleep(0.005)
            writer.close()
            return asked

        bad = [asyncio.create_task(attack()) for _ in range(10)]
        try:
            asked = await asyncio.gather(*(victim(f"victim{number}") for number in range(20)))
        finally:
            for task in bad:
                task.cancel()
            await asyncio.gather(*bad, return_exceptions=True)
        assert sum(asked) > 200
