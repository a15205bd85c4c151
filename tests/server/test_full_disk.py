"""Two workers of a real `sseal serve` whose file cannot grow any more: a revocation ends streams at both (W17)."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from running import SECRET, Running, bearer, call, eventually, serving
from sseal.auth.jwt import sign
from sseal.clock import SystemClock

PAGE = 4096


def issue(subject: str, *, admin: bool = False) -> str:
    """Return a token that is older than the leeway."""
    now = int(SystemClock().wall())
    return sign({"sub": subject, "iat": now - 60, "exp": now + 600, "sseal": {"admin": admin}}, SECRET)


def opened(server: Running, token: str) -> tuple[socket.socket, str]:
    """Open a stream; return its socket and the node it is at."""
    stream = socket.create_connection(("127.0.0.1", server.port), 30.0)
    head = f"GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nAuthorization: Bearer {token}\r\n\r\n"
    stream.sendall(head.encode())
    text = b""
    while not (b"\ndata: " in text and text.rstrip(b"\r").endswith(b"\n")):
        text += (piece := stream.recv(65536))
        assert piece, text
    data = text.partition(b"\ndata: ")[2].partition(b"\n")[0]
    return stream, json.loads(data)["connection"].partition(".")[0]


@pytest.fixture
def server(tmp_path: Path, time_unit: float) -> Iterator[Running]:
    """Run two workers on one file."""
    unbound = {"limits__streams_per_subject": "0", "limits__connects_per_minute_per_subject": "0"}
    with serving(tmp_path, time_unit, "--workers", "2", **unbound) as running:
        yield running


def workers(server: Running) -> list[int]:
    """Return the processes of a server, itself included."""
    tasks = Path(f"/proc/{server.process.pid}/task")
    children = {int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()}
    return [server.process.pid, *children]


def test_a_revocation_reaches_the_other_worker_though_the_disk_is_full(server: Running, time_unit: float) -> None:
    """The answer is 503 and says that it is not stored; streams end at both workers; later it is stored by itself."""
    with contextlib.ExitStack() as stack:
        streams: dict[str, socket.socket] = {}

        def at_both() -> bool:
            stream, node = opened(server, issue("mallory"))
            streams[node] = stack.enter_context(stream)
            return len(streams) == 2

        eventually(at_both, 200 * time_unit, "streams at both workers")
        processes = workers(server)
        before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in processes}
        for pid, (_, hard) in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (PAGE, hard))
        headers = bearer(issue("root", admin=True))
        status, _, body = call(f"{server.url}/admin/revocations", {"subject": "mallory"}, headers=headers)
        assert status == 503, body
        assert "is not stored yet" in json.loads(body)["detail"]
        for stream in streams.values():
            text = b""
            while piece := stream.recv(65536):
                text += piece
            assert b'"reason":"revoked"' in text
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)

        def stored() -> bool:
            return call(f"{server.url}/readyz")[0] == 200

        eventually(stored, 200 * time_unit, "room on the disk")
        for _ in range(8):
            assert call(f"{server.url}/events", headers=bearer(issue("mallory")))[0] == 401
    server.wait_for_record(message="revocations written back", count=1)
