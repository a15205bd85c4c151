"""``make cluster``: Redis, two hubs and nginx, as people try them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ports import four_free_ports
from servers import ROOT, ask

DOCS = ROOT / "docs" / "how-to" / "scale.md"


@pytest.fixture
def cluster(
    tmp_path: Path, nginx_path: str, redis_path: str
) -> Iterator[tuple[int, str, list[int], subprocess.Popen[bytes]]]:
    """Run the script; yield its first port, the token, the hubs' processes and its own."""
    port = four_free_ports()
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, ROOT / "scripts" / "cluster", "--port", str(port)], cwd=ROOT, stdout=out, stderr=out
        )
    try:
        deadline = time.monotonic() + 60.0
        while "Ctrl-C ends everything" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        text = log.read_text()
        hubs = re.search(r"processes (\d+) and (\d+)", text)
        token = re.search(r"TOKEN=(\S+)", text)
        assert hubs is not None
        assert token is not None
        yield port, token[1], [int(hubs[1]), int(hubs[2])], process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30.0)


async def test_two_hubs_behind_nginx_survive_the_end_of_one(
    cluster: tuple[int, str, list[int], subprocess.Popen[bytes]],
) -> None:
    """A stream through nginx goes on at the other hub when its own is ended, and no event is lost (W36)."""
    front, token, hubs, process = cluster
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    posts = {**headers, "Content-Type": "application/json", "Accept": "*/*"}

    async def publish(data: str) -> None:
        body = json.dumps({"topic": "room/cluster", "data": data, "key": data}).encode()
        status = 503  # so nginx says when the hub it chose ends before it has read the request
        async with asyncio.timeout(10.0):
            while status == 503:
                async with ask(front, "/events", method="POST", headers=posts, body=body) as answer:
                    status = answer.status
        assert status == 201

    nodes = {}
    for hub, port in zip(hubs, (front + 1, front + 2), strict=True):
        async with ask(port, "/events?topic=room/cluster", headers=headers) as stream:
            nodes[json.loads((await stream.until("auth")).data)["connection"].partition(".")[0]] = hub
    async with ask(front, "/events?topic=room/cluster", headers=headers) as stream:
        node = json.loads((await stream.until("auth")).data)["connection"].partition(".")[0]
        await publish("1")
        last = (await stream.until(data="1")).last_event_id
        os.kill(nodes[node], signal.SIGTERM)
        await stream.to_end()
        assert stream.events[-1].type == "bye"
    await publish("2")
    again = {**headers, "Last-Event-ID": last, "Accept": "text/event-stream, application/problem+json"}
    status = 503  # a hub that is ending says so until it has ended; to who wants a status by a plain 503 (W52)
    while status == 503:
        async with ask(front, "/events?topic=room/cluster", headers=again) as stream:
            status = stream.status
            if status == 200:
                await stream.until(data="2")
                assert [event.type for event in stream.events] == ["auth", "message"]
    assert status == 200
    process.terminate()
    await asyncio.to_thread(process.wait, 30.0)
    for hub in hubs:
        with pytest.raises(ProcessLookupError):
            os.kill(hub, 0)


def test_the_configuration_in_the_docs_is_the_one_that_runs() -> None:
    """Whoever copies it from the page gets what `make cluster` was tried with."""
    conf = (ROOT / "examples" / "cluster" / "nginx.conf").read_text()
    assert f"```nginx\n{conf}```" in DOCS.read_text()
