"""Disconnects free everything: memory and file descriptors of a real server process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil

from servers import Server, ask, uvicorn

APP = "mounted.leak_app:app"
CYCLES = 10_000
AT_ONCE = 50


def memory(server: Server) -> int:
    """Return the memory that is the server's own, in bytes.

    Not all of its PSS: that of libraries grows when other processes end that shared them.
    """
    for line in Path(f"/proc/{server.process.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss_Anon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Pss_Anon in smaps_rollup")


async def collect(port: int) -> None:
    """Let the server collect its garbage."""
    async with ask(port, "/collect", method="POST") as answer:
        assert answer.status == 200


async def cycle(port: int, number: int) -> None:
    """Open one stream of a subject of its own, read its head, and hang up."""
    async with ask(port, "/sse/events", headers={"X-User": f"user{number}"}) as stream:
        assert stream.status == 200
        await stream.until("auth")


async def run(port: int, cycles: int) -> None:
    """Connect and disconnect, some at a time."""
    numbers = iter(range(cycles))

    async def worker() -> None:
        for number in numbers:
            await cycle(port, number)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())


async def test_ten_thousand_connects_leave_no_memory_behind(tmp_path: Path) -> None:
    """After 10,000 connect/disconnect cycles memory after gc is within 2 MiB of what it was, descriptors too (W50)."""
    with uvicorn(APP, tmp_path / "log", "--log-level", "warning", "--no-access-log") as server:
        await run(server.port, 3_000)  # until allocator and caches have their size
        await collect(server.port)
        before, files = memory(server), psutil.Process(server.process.pid).num_fds()
        await run(server.port, CYCLES)
        await collect(server.port)
        grown = memory(server) - before
        assert psutil.Process(server.process.pid).num_fds() <= files + 2
        assert grown <= 2 * 1024 * 1024, f"grew by {grown / 1024:.0f} KiB"
