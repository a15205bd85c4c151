"""``sseal serve --workers``: several processes that are one hub."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import running as stage
from running import SECRET, Running, call, eventually, serving
from servers import RawStream, ask
from sseal.auth.jwt import sign
from sseal.server import workers

WORKERS = 4


def headers() -> dict[str, str]:
    """Return what somebody sends who may do everything."""
    grants = {"subscribe": ["**"], "publish": ["**"], "admin": True}
    token = sign({"sub": "root", "exp": time.time() + 3600, "sseal": grants}, SECRET)
    return {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}


@pytest.fixture
def server(tmp_path: Path, time_unit: float) -> Iterator[Running]:
    """Serve with four workers on a file."""
    limits = {"limits__streams_per_subject": "0", "limits__connects_per_minute_per_subject": "0"}
    with serving(tmp_path, time_unit, "--workers", str(WORKERS), **limits) as running:
        yield running


def children(server: Running) -> dict[int, str]:
    """Return the processes of the workers, with the node each is; those that are no workers are left out."""
    found = {}
    for record in server.records():
        if record["message"] == "hub started":
            found[record["process"]] = record["node"]
    alive = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return {int(pid): found[int(pid)] for pid in alive if int(pid) in found}


async def opened(port: int, count: int, stack: contextlib.AsyncExitStack) -> dict[str, list[RawStream]]:
    """Open streams; return them by the node that holds them."""
    found: dict[str, list[RawStream]] = {}
    for _ in range(count):
        stream = await stack.enter_async_context(ask(port, "/events?topic=a", headers=headers()))
        auth = await stream.until("auth")
        found.setdefault(json.loads(auth.data)["connection"].partition(".")[0], []).append(stream)
    return found


def publish(server: Running, data: str) -> None:
    """Publish one event."""
    status, _, body = call(f"{server.url}/events", {"topic": "a", "data": data}, headers=headers())
    assert status == 201, body


async def test_workers_are_one_hub(server: Running) -> None:
    """Clients are spread over all workers, and an event published in one reaches the streams of all."""
    async with contextlib.AsyncExitStack() as stack:
        streams = await opened(server.port, 40, stack)
        assert set(streams) == set(children(server).values())
        for number in range(5):
            await asyncio.to_thread(publish, server, str(number))
        for stream in (each for some in streams.values() for each in some):
            await stream.until(data="4")
            assert [event.data for event in stream.events if event.type == "message"] == list("01234")


async def test_a_worker_that_is_killed_is_replaced_and_the_others_go_on(server: Running) -> None:
    """Its streams end and may go on elsewhere without a loss; those of the others notice nothing."""
    async with contextlib.AsyncExitStack() as stack:
        streams = await opened(server.port, 40, stack)
        await asyncio.to_thread(publish, server, "before")
        for stream in (each for some in streams.values() for each in some):
            last = (await stream.until(data="before")).last_event_id
        before = children(server)
        victim, node = next(iter(before.items()))
        os.kill(victim, signal.SIGKILL)
        await asyncio.to_thread(publish, server, "during")
        for stream in streams.pop(node):
            await stream.to_end()
        for stream in (each for some in streams.values() for each in some):
            await stream.until(data="during")

        def replaced() -> bool:
            now = children(server)
            return len(now) == WORKERS and victim not in now

        await asyncio.to_thread(eventually, replaced, 20.0, "a new worker")
        again = {**headers(), "Last-Event-ID": last}
        async with ask(server.port, "/events?topic=a", headers=again) as stream:
            await stream.until(data="during")
            assert all(event.type != "gap" for event in stream.events)
    server.wait_for("a worker died")


async def test_a_hangup_replaces_all_workers_one_by_one(server: Running) -> None:
    """SIGHUP is a deploy: streams get a `bye`, and events are taken all the time."""
    async with contextlib.AsyncExitStack() as stack:
        streams = await opened(server.port, 8, stack)
        before = set(children(server))
        os.kill(server.process.pid, signal.SIGHUP)

        def all_new() -> bool:
            publish(server, "meanwhile")
            now = set(children(server))
            return len(now) == WORKERS and not now & before

        await asyncio.to_thread(eventually, all_new, 60.0, "four new workers")
        for stream in (each for some in streams.values() for each in some):
            await stream.to_end()
            assert stream.events[-1].type == "bye"
    assert "Traceback" not in server.output()


@pytest.fixture
def impatient(tmp_path: Path, time_unit: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """Serve with two workers, which have little time to say that they live and to end, but as ever to start."""
    command = tmp_path / "impatient"
    lines = [
        f"#!{sys.executable}",
        "if __name__ == '__main__':",
        "    from sseal.cli import main",
        "    from sseal.server import workers",
        "    workers.SILENCE, workers.END_TIMEOUT = 5.0, 2.0",
        "    raise SystemExit(main())",
    ]
    command.write_text("\n".join(lines))
    command.chmod(0o700)
    monkeypatch.setattr(stage, "SSEAL", command)
    with serving(tmp_path, time_unit, "--workers", "2") as running:
        yield running


def test_a_worker_that_hangs_is_killed_and_replaced(impatient: Running) -> None:
    """It would hold its clients and answer nobody; one that lives is left alone."""
    victim, other = children(impatient)
    os.kill(victim, signal.SIGSTOP)

    def replaced() -> bool:
        now = children(impatient)
        return len(now) == 2 and victim not in now

    eventually(replaced, 60.0, "a new worker")
    assert other in children(impatient)
    impatient.wait_for("a worker hangs and is killed")
    assert impatient.end() == 0


def test_the_end_does_not_wait_for_a_worker_that_is_being_started(impatient: Running) -> None:
    """SIGTERM in the middle of a deploy is obeyed at once, also when the new worker hangs (it has 30 s to start)."""
    listed = Path(f"/proc/{impatient.process.pid}/task/{impatient.process.pid}/children")
    before = set(listed.read_text().split())
    os.kill(impatient.process.pid, signal.SIGHUP)
    (fresh,) = eventually(lambda: set(listed.read_text().split()) - before, 10.0, "the new worker")
    # Until the child is a program of its own, the kernel holds its parent (vfork(2)).
    eventually(lambda: b"spawn_main" in Path(f"/proc/{fresh}/cmdline").read_bytes(), 10.0, "the new worker's program")
    os.kill(int(fresh), signal.SIGSTOP)
    started = time.monotonic()
    assert impatient.end() == 0
    assert time.monotonic() - started < 15.0
    assert not Path(f"/proc/{fresh}").exists()


async def test_the_end_is_one_for_all(server: Running) -> None:
    """SIGTERM to the supervisor says `bye` on every worker and leaves no process behind."""
    async with contextlib.AsyncExitStack() as stack:
        streams = await opened(server.port, 12, stack)
        pids = children(server)
        assert await asyncio.to_thread(server.end) == 0
        for stream in (each for some in streams.values() for each in some):
            await stream.to_end()
            assert stream.events[-1].type == "bye"
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert "Traceback" not in server.output()


async def test_workers_do_not_outlive_a_supervisor_that_was_killed(server: Running) -> None:
    """Nobody else would end them."""
    pids = children(server)
    assert len(pids) == WORKERS
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(10.0)
    eventually(lambda: not any(_runs(pid) for pid in pids), 20.0, "the workers' end")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_worker_that_cannot_start_stops_all(tmp_path: Path, time_unit: float) -> None:
    """A setting that only shows its fault at the start ends with one sentence, not with a loop of new workers."""
    (tmp_path / "log.db").write_text("this is no database, though it has some length to it" * 100)
    from running import running

    settings = {"jwt_secret": SECRET, "broker": "sqlite:///log.db"}
    with running(tmp_path, time_unit, "serve", "--port", "0", "--workers", "2", **settings) as process:
        assert process.process.wait(60) == 1
        (line,) = process.output().splitlines()
        assert re.match(r"sseal: error: broker: \S+log\.db is damaged or no SQLite file", line)


def test_two_serves_do_not_share_a_port_by_accident(server: Running, tmp_path: Path, time_unit: float) -> None:
    """Workers share an address with each other and with nobody else."""
    from running import sseal

    done = sseal("serve", "--port", str(server.port), "--workers", "2", cwd=tmp_path, jwt_secret=SECRET)
    assert done.returncode != 0
    assert "choose another" in done.stderr


class Pretended:
    """A worker that says nothing, and notes that it is killed."""

    pid, exitcode = 1, None

    def __init__(self, *, ready: bool, silent: float) -> None:
        self.ready, self.silent, self.killed = ready, silent, False
        self.process = self

    def heard(self) -> bool:
        """Say nothing."""
        return False

    def is_alive(self) -> bool:
        """Live until killed."""
        return not self.killed

    def kill(self) -> None:
        """Note it."""
        self.killed = True

    def join(self, timeout: float) -> None:
        """Be gone at once."""


def test_a_replacement_has_the_time_to_start_that_the_first_workers_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its first sign of life it is starting, not hanging."""
    monkeypatch.setattr(workers, "SILENCE_TIMEOUT", 3.0)
    monkeypatch.setattr(workers, "START_TIMEOUT", 30.0)
    starting, hanging, stuck = (
        Pretended(ready=False, silent=10.0),
        Pretended(ready=True, silent=10.0),
        Pretended(ready=False, silent=30.0),
    )
    supervisor = workers._Supervisor(lambda index: None)  # type: ignore[arg-type, return-value]
    supervisor.workers = [starting, hanging, stuck]  # type: ignore[list-item]
    supervisor._kill_silent(1.0)
    assert [worker.killed for worker in (starting, hanging, stuck)] == [False, True, True]


async def test_limits_hold_among_workers(tmp_path: Path, time_unit: float) -> None:
    """Of many streams of one subject that all workers let in at once, the newest are left within seconds."""
    most = {"limits__streams_per_subject": "6"}
    with serving(tmp_path, time_unit, "--workers", str(WORKERS), **most) as server:
        eventually(lambda: len(children(server)) == WORKERS, 200 * time_unit, "all workers have started")
        async with contextlib.AsyncExitStack() as stack:
            held = await opened(server.port, 30, stack)
            assert len(held) > 1  # else there was nothing to compare
            last: list[str] = []

            def few() -> bool:
                last[:] = [each["id"] for each in listed(server)]
                return len(last) <= 6

            await asyncio.to_thread(eventually, few, 200 * time_unit, "no more streams than there may be")
            assert len(last) == 6


def listed(server: Running) -> list[dict[str, str]]:
    """Return the streams of all workers."""
    status, _, body = call(f"{server.url}/admin/connections", headers=headers())
    assert status == 200, body
    found: list[dict[str, str]] = json.loads(body)["connections"]
    return found


def test_a_new_worker_that_cannot_start_says_why(tmp_path: Path, time_unit: float) -> None:
    """On SIGHUP the old workers go on where a new one finds a fault, and the log has its sentence."""
    with serving(tmp_path, time_unit, "--workers", "2", accounts="book.db") as server:
        (tmp_path / "book.db").write_text("this is no database, though it has some length to it" * 100)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(r"a new worker did not become ready; the old one goes on: book\.db: cannot be used")
        assert call(f"{server.url}/healthz")[0] == 200
        assert "Traceback" not in server.output()
