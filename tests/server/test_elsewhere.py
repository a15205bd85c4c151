"""Other servers and protocols: the plain path, with the same events and the same ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from servers import ROOT, Server, ask, free_port, serving
from sseal import wire

PLACE = Path(sys.executable).parent
HEADERS = {"X-User": "alice", "Accept": "text/event-stream"}
JSON = {"X-User": "alice", "Content-Type": "application/json"}
SERVERS = {
    "granian": (PLACE / "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}", "server.apps:app"),
    # Its asyncio worker waits for the last stream on Python 3.12.1 and newer (docs/how-to/mount.md).
    "hypercorn": (PLACE / "hypercorn", "--worker-class", "uvloop", "--bind", "127.0.0.1:{port}", "server.apps:app"),
    "zttp": (PLACE / "uvicorn", "--http", "zttp", "--http2", "--port", "{port}", "server.apps:app"),
    "h11": (PLACE / "uvicorn", "--http", "h11", "--loop", "asyncio", "--port", "{port}", "server.apps:app"),
}


@contextlib.contextmanager
def elsewhere(name: str, log: Path) -> Iterator[Server]:
    """Serve the hub on another server."""
    port = free_port()
    command = [str(part).format(port=port) for part in SERVERS[name]]
    paths = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    with serving(*command, port=port, log=log, env={"PYTHONPATH": paths}) as server:
        yield server


async def publish(port: int, topic: str, data: object) -> None:
    """Publish over HTTP/1.1."""
    body = json.dumps({"topic": topic, "data": data}).encode()
    async with ask(port, "/events", method="POST", headers=JSON, body=body) as answer:
        assert answer.status == 201


async def streams(port: int) -> int:
    """Count the open streams."""
    async with ask(port, "/admin/stats", headers=JSON) as answer:
        raw = await answer.reader.readexactly(int(answer.headers["content-length"]))
        return int(json.loads(raw)["streams"])


@pytest.mark.parametrize("name", SERVERS)
async def test_another_server_gives_the_same_stream(name: str, tmp_path: Path) -> None:
    """Opening, events in order, replay after a cut, and a client that leaves is noticed."""
    with elsewhere(name, tmp_path / "log") as server:
        async with ask(server.port, "/events?topic=a", headers=HEADERS) as stream:
            assert stream.status == 200
            await stream.until("auth")
            for number in range(3):
                await publish(server.port, "a", str(number))
            last = await stream.until(data="2")
            assert [event.data for event in stream.events if event.type == "message"] == ["0", "1", "2"]
        async with asyncio.timeout(10.0):
            while await streams(server.port):
                await asyncio.sleep(0.05)
        await publish(server.port, "a", "missed")
        again = {**HEADERS, "Last-Event-ID": last.last_event_id}
        async with ask(server.port, "/events?topic=a", headers=again) as stream:
            assert [(await stream.until("message")).data] == ["missed"]


@pytest.mark.parametrize(
    ("name", "says_bye"), [("granian", False), ("hypercorn", False), ("zttp", True), ("h11", True)]
)
async def test_another_server_ends_its_streams_on_sigterm(name: str, says_bye: bool, tmp_path: Path) -> None:
    """With an open stream the server is told to stop: the stream ends, and so does the server (W34).

    Servers that keep the signal in a parent process do not tell the hub; there the app calls `hub.drain()`.
    """
    with elsewhere(name, tmp_path / "log") as server:
        async with ask(server.port, "/events?topic=a", headers=HEADERS) as stream:
            await stream.until("auth")
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            if says_bye:
                await stream.until("bye")
            await stream.to_end()
            assert await stopping < 10.0


def test_http_2_gives_the_same_stream(tmp_path: Path) -> None:
    """Over HTTP/2 a stream has no Connection header and the same events (RFC 9113 section 8.2.2)."""
    with elsewhere("zttp", tmp_path / "log") as server, socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.settimeout(10.0)
        client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        client.initiate_connection()
        head = [(":method", "GET"), (":path", "/events?topic=a"), (":scheme", "http"), (":authority", "127.0.0.1")]
        client.send_headers(1, [*head, ("x-user", "alice"), ("accept", "text/event-stream")], end_stream=True)
        raw.sendall(client.data_to_send())
        decoder, headers, events = wire.Decoder(), {}, []
        asked = False
        while not any(event.data == "over h2" for event in events):
            data = raw.recv(65536)
            assert data
            for event in client.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    headers = dict(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    events += decoder.feed(event.data)
            raw.sendall(client.data_to_send())
            if events and not asked:
                asked = True
                asyncio.run(publish(server.port, "a", "over h2"))
        assert headers[":status"] == "200"
        assert "connection" not in headers
        assert [event.type for event in events] == ["auth", "message"]
