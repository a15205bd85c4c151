"""Ends of streams as a real `sseal serve` makes them, in real time."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from running import SECRET, Running, serving
from sseal.auth.jwt import sign
from sseal.clock import SystemClock

STREAMS = 300
UNBOUND = {"limits__streams_per_subject": "0", "limits__connects_per_minute_per_subject": "0"}


@contextlib.contextmanager
def readers(server: Running, count: int) -> Iterator[list[socket.socket]]:
    """Open so many streams, each on a socket of its own."""
    now = SystemClock().wall()
    token = sign({"sub": "alice", "iat": int(now), "exp": int(now) + 600}, SECRET)
    head = f"GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nAuthorization: Bearer {token}\r\n\r\n"
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            stream = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10.0))
            stream.sendall(head.encode())
            text = b""
            while b"event: auth" not in text:
                text += (piece := stream.recv(65536))
                assert piece, text
            opened.append(stream)
        yield opened


def to_end(stream: socket.socket) -> bytes:
    """Read a stream to its end."""
    text = b""
    while piece := stream.recv(65536):
        text += piece
    return text


def ended(server: Running, reason: str) -> list[float]:
    """Return when the server ended streams for a reason, by its own log."""
    records = [record for record in server.records() if record.get("reason") == reason]
    return sorted(datetime.fromisoformat(record["time"]).timestamp() for record in records)


def test_a_drain_under_load_ends_streams_at_an_even_rate(tmp_path: Path, time_unit: float) -> None:
    """SIGTERM with 300 streams open: no piece of the window has more than twice its share of ends."""
    with (
        serving(tmp_path, time_unit, "--set", "drain_window=3", **UNBOUND) as server,
        readers(server, STREAMS) as streams,
    ):
        server.process.send_signal(signal.SIGTERM)
        said = [to_end(stream) for stream in streams]
        assert server.process.wait(100 * time_unit) == 0
    assert all(b'"reason":"draining","reconnect":true' in text for text in said)
    retries = {text.rpartition(b"retry: ")[2].partition(b"\n")[0] for text in said}
    assert len(retries) > STREAMS / 2  # jittered, so that they do not come back in step
    moments = ended(server, "draining")
    assert len(moments) == STREAMS
    assert moments[-1] - moments[0] > 2.5
    length = moments[-1] - moments[0] + 0.02
    counts = Counter(int((moment - moments[0]) / length * 6) for moment in moments)
    assert max(counts.values()) <= 2 * STREAMS / 6, counts
    assert max(later - earlier for earlier, later in pairwise(moments)) > 0.0


@pytest.mark.parametrize("age", [2.0])
def test_a_stream_that_is_old_enough_is_told_to_come_back(tmp_path: Path, time_unit: float, age: float) -> None:
    """`max_stream_age` ends streams over a real socket, each at its own moment, and lets them in again."""
    with serving(tmp_path, time_unit, "--set", f"max_stream_age={age}", **UNBOUND) as server:
        with readers(server, 20) as streams:
            for stream in streams:
                _, _, bye = to_end(stream).rpartition(b"event: bye\nretry: ")
                assert json.loads(bye.split(b"\n")[1].removeprefix(b"data: ")) == {
                    "reason": "max_age",
                    "reconnect": True,
                }
        with readers(server, 1):
            pass
        assert len(set(ended(server, "max_age"))) > 1
        seconds = [record["seconds"] for record in server.records() if record.get("reason") == "max_age"]
        assert min(seconds) >= 0.8 * age
