"""A process with a log and a store on a SQLite file, which does what the lines on its standard input say."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from sseal.clock import SystemClock
from sseal.errors import SsealError
from sseal.storage import Entry, IdempotencyKey, Publication, Retention
from sseal.storage.sqlite import Database, SqliteBroker, SqliteStore, watcher
from sseal.storage.sqlite.wakeups import Notifier

ANSWER_TIMEOUT = 20.0
"""Seconds an answer may take."""


class Recorder:
    """What a hub would be told."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, str, float]] = []
        self.epoch_changes = 0
        self.gaps: list[int] = []
        self.reconnects = 0
        self.revocation_signals = 0
        self.messages: list[bytes] = []

    def on_entries(self, entries: Sequence[Entry]) -> None:
        """Keep them, with the time."""
        now = time.monotonic()
        self.entries += [(entry.offset, entry.data, now) for entry in entries]

    def on_epoch_change(self) -> None:
        """Count."""
        self.epoch_changes += 1

    def on_gap(self, names: Sequence[str] | None, upto: int) -> None:
        """Keep how far."""
        self.gaps.append(upto)

    async def on_reconnect(self) -> None:
        """Count."""
        self.reconnects += 1

    def on_revocations(self) -> None:
        """Count."""
        self.revocation_signals += 1

    def on_message(self, body: bytes) -> None:
        """Keep it."""
        self.messages.append(body)

    @property
    def offsets(self) -> list[int]:
        """What was delivered."""
        return [offset for offset, _, _ in self.entries]


class Hub:
    """The commands of the child."""

    def __init__(self, path: str, node: str) -> None:
        clock = SystemClock()
        database = Database(path, clock)
        self.recorder = Recorder()
        self.node = node
        self.broker = SqliteBroker(database, clock, Retention(count=100_000))
        self.store = SqliteStore(database, clock)

    async def open(self) -> dict[str, Any]:
        """Open both."""
        await self.broker.open(self.recorder)
        await self.store.open(self.node, self.recorder)
        return {"epoch": self.broker.lineage.epoch, "head": self.broker.head}

    async def publish(self, count: int, name: str, together: int = 1, pause: float = 0.0) -> list[int]:
        """Publish so many events, some at the same time."""
        offsets: list[int] = []

        async def some(numbers: range) -> None:
            for number in numbers:
                data = f"{name} {number} {time.monotonic()}"
                offsets.extend(await self.broker.publish([Publication(topics=("t",), type="m", data=data)]))
                if pause:
                    await asyncio.sleep(pause)

        await asyncio.gather(*(some(range(start, count, together)) for start in range(together)))
        return offsets

    async def publish_for_ever(self) -> None:
        """Print every acknowledged offset until killed."""
        while True:
            (offset,) = await self.broker.publish([Publication(topics=("t",), type="m", data="x" * 200)])
            say(offset)

    async def publish_key(self, key: str, digest: str) -> list[int] | str:
        """Publish with a key."""
        claim = IdempotencyKey(scope=("", ""), key=key, digest=digest.encode())
        return await self.broker.publish([Publication(topics=("t",), type="m", data=digest, key=claim)])

    async def delivered(self, upto: int) -> list[tuple[int, str, float]]:
        """Return everything delivered once it goes as far as that."""
        while self.broker.head < upto:
            await asyncio.sleep(0.005)
        return self.recorder.entries

    async def fill(self, keys: list[str]) -> None:
        """Write records."""
        for key in keys:
            await self.store.put(key, b"old", time.time() + 60)

    async def send_mail(self, node: str, body: str) -> bool:
        """Send to a node."""
        return await self.store.send(node, body.encode())

    async def take(self, keys: list[str]) -> list[str]:
        """Return which of these records this process got."""
        taken = await asyncio.gather(*(self.store.take(key) for key in keys))
        return [key for key, value in zip(keys, taken, strict=True) if value is not None]

    async def swap(self, keys: list[str]) -> list[str]:
        """Return which of these records this process could change from old to its own."""
        mine = self.node.encode()
        done = await asyncio.gather(*(self.store.swap(key, b"old", mine, time.time() + 60) for key in keys))
        return [key for key, swapped in zip(keys, done, strict=True) if swapped]

    async def count(self, key: str, times: int) -> list[int]:
        """Count so often."""
        return [await self.store.count(key, 60.0) for _ in range(times)]

    async def messages(self, number: int) -> list[str]:
        """Return the mail once there is so much."""
        while len(self.recorder.messages) < number:
            await asyncio.sleep(0.005)
        return [body.decode() for body in self.recorder.messages]

    async def limit_files(self, size: int) -> None:
        """Let no file of this process grow beyond a size; 0 lets them grow again."""
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size or hard, hard))

    async def mute(self) -> None:
        """Lose every datagram to others from now on."""
        Notifier.wake = lambda self, addresses: []  # type: ignore[method-assign]

    async def listen_only(self) -> None:
        """Look at the version of the file so seldom that only a datagram brings anything soon."""
        watcher.POLL_INTERVAL = 5.0  # type: ignore[misc]

    async def close(self) -> None:
        """Close both."""
        await self.broker.close()
        await self.store.close()


def say(value: object) -> None:
    """Print a line of JSON."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def main(path: str, node: str) -> None:
    """Do what the lines say; answer each with a line of JSON."""
    hub = Hub(path, node)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        name, arguments = json.loads(line)
        try:
            answer = {"ok": await getattr(hub, name)(**arguments)}
        except SsealError as error:
            answer = {"error": error.code, "detail": error.detail}
        say(answer)


class Child:
    """Such a process, seen by a test."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def ask(self, command: str, /, **arguments: Any) -> Any:
        """Send a command and return its answer; the code of an error that is raised."""
        await self.send(command, **arguments)
        return await self.answer()

    async def send(self, command: str, /, **arguments: Any) -> None:
        """Send a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([command, arguments]).encode() + b"\n")
        await self.process.stdin.drain()

    async def answer(self) -> Any:
        """Return the answer to a command that was sent; the code of an error that is raised."""
        answer = json.loads(await self.line())
        return answer["ok"] if "ok" in answer else answer["error"]

    async def line(self) -> bytes:
        """Return the next line it prints; empty at its end."""
        assert self.process.stdout is not None
        return await asyncio.wait_for(self.process.stdout.readline(), ANSWER_TIMEOUT)


@asynccontextmanager
async def children(path: Path, number: int) -> AsyncIterator[list[Child]]:
    """Start processes on a file, opened one after the other; at the end they are gone, whatever happened."""
    started: list[Child] = []
    try:
        for index in range(number):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                __file__,
                str(path),
                f"node{index}",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=64 * 1024 * 1024,
            )
            started.append(Child(process))
        for child in started:
            assert "epoch" in await child.ask("open")
        yield started
    finally:
        for child in started:
            with suppress(ProcessLookupError):
                child.process.kill()
            await child.process.wait()
            child.process._transport.close()  # type: ignore[attr-defined]  # its pipes, before the loop ends


async def eventually(condition: Any, what: str) -> None:
    """Wait until something is true."""
    end = time.monotonic() + ANSWER_TIMEOUT
    while not condition():
        assert time.monotonic() < end, f"waited {ANSWER_TIMEOUT} s: {what}"
        await asyncio.sleep(0.005)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
