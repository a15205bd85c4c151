"""One thread with one connection, and the bounded queue before it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from ...errors import SsealError, Unavailable
from .errors import ErrorLog, lasting, translate

__all__ = ["CALL_TIMEOUT", "AnyJob", "Handler", "Item", "Job", "Outcome", "Result", "Worker"]

CALL_TIMEOUT: Final = 2.0
"""Seconds in which every call is answered (W9)."""
CLOSE_TIMEOUT: Final = 5.0
"""Seconds to wait for the end of the thread."""
MAX_JOBS: Final = 10_000
"""Jobs that wait: what a reconnect of all streams of a process asks for, with room; a few MiB."""
MAX_BYTES: Final = 64 * 1024 * 1024
"""Bytes of events that wait, beyond which publishers are told to come back."""
GROUP: Final = 500
"""Jobs of one commit: long enough to pay for its write to the disk, short enough that the next need not wait."""

Item = TypeVar("Item")
Result = TypeVar("Result")

Handler = Callable[[sqlite3.Connection, Sequence[Item]], Sequence[Result | SsealError]]
"""Does what several jobs of one kind ask for and returns as many results; one that is an exception is raised."""


@dataclass(slots=True, eq=False)
class Job(Generic[Item, Result]):
    """Something a thread shall do, and who waits for it.

    :param size: bytes it holds while it waits.
    :param wake: whether the other processes shall hear of it.
    :param reply: where the result goes; None when nobody waits.
    """

    handler: Handler[Item, Result]
    item: Item
    size: int = 0
    wake: bool = False
    reply: asyncio.Future[Result] | Future[Result] | None = None
    started: bool = False
    withdrawn: bool = False


AnyJob = Job[Any, Any]
"""A job in a queue, which holds jobs of all kinds."""
Outcome = tuple[AnyJob, object]
"""A job and its result, or the exception to raise."""


class Worker:
    """Takes what has gathered in its queue and does it, group by group.

    :param connect: makes the thread's connection, in the thread.
    :param error_log: where troubles of the file are logged.
    """

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection], error_log: ErrorLog) -> None:
        self.connect = connect
        self.error_log = error_log
        self._jobs: deque[AnyJob] = deque()  # what waits; guarded by _changed, as the next two
        self._bytes = 0  # sizes of what waits
        self._closed = False  # no job is taken any more; the thread ends when none waits
        self._changed = threading.Condition()  # also guards `started` and `withdrawn` of every job
        self._thread = threading.Thread(target=self._run, name=f"sseal-sqlite-{name}", daemon=True)
        self._ended: Future[None] = Future()  # done when the thread is
        self._ended.set_running_or_notify_cancel()  # who waits may be cancelled, the end of the thread may not

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def offer(self, job: AnyJob) -> None:
        """Queue a job; never waits.

        :raises Unavailable: too many wait already, or the thread has been told to end.
        """
        with self._changed:
            if self._closed:
                raise Unavailable("the log is closed", code="broker_closed")
            if len(self._jobs) >= MAX_JOBS or self._bytes + job.size > MAX_BYTES:
                raise Unavailable("too much waits for the file of the log already", code="busy")
            self._jobs.append(job)
            self._bytes += job.size
            self._changed.notify()

    async def call(self, handler: Handler[Item, Result], item: Item, *, size: int = 0, wake: bool = False) -> Result:
        """Have something done and return its result.

        :raises Unavailable: within 2 s.
        """
        reply: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        job = Job(handler, item, size, wake, reply)
        self.offer(job)
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                return await reply
        except TimeoutError:
            if self._withdraw(job):
                raise Unavailable("the file of the log is too busy", code="busy") from None
            raise self.overdue() from None
        except asyncio.CancelledError:
            self._withdraw(job)
            raise

    def overdue(self) -> Unavailable:
        """Return what a caller is told whose job had begun and took too long."""
        return Unavailable("the file of the log cannot be read now", code="busy")

    async def end(self) -> None:
        """Let it finish what waits, and end the thread; after 5 s it is left to end alone."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        try:
            await asyncio.wait_for(asyncio.wrap_future(self._ended), CLOSE_TIMEOUT)
        except TimeoutError:
            return
        self._thread.join()

    def begin(self, jobs: Sequence[AnyJob]) -> list[AnyJob]:
        """Return those that have not been withdrawn; from now on they cannot be."""
        with self._changed:
            kept = [job for job in jobs if not job.withdrawn]
            for job in kept:
                job.started = True
        return kept

    def serve(self, connection: sqlite3.Connection, jobs: Sequence[AnyJob]) -> list[Outcome]:
        """Do a group of jobs; reading needs no transaction of its own."""
        return run(connection, self.begin(jobs))

    def _withdraw(self, job: AnyJob) -> bool:
        with self._changed:
            job.withdrawn = not job.started
            return job.withdrawn

    def _take(self) -> list[AnyJob]:
        """Wait for jobs; none when it shall end."""
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            jobs = [self._jobs.popleft() for _ in range(min(GROUP, len(self._jobs)))]
            self._bytes -= sum(job.size for job in jobs)
            return jobs

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        while jobs := self._take():
            try:
                connection = connection or self.connect()
                outcomes = self.serve(connection, jobs)
            except sqlite3.Error as error:
                fault = translate(error)
                self.error_log.report(fault)
                outcomes = [(job, translate(error)) for job in jobs]
                if fault.code not in ("busy", "disk_full") and connection is not None:
                    connection.close()  # what it remembers of the file may be wrong
                    connection = None
            except Exception as error:  # noqa: BLE001 - goes to those who asked
                outcomes = [(job, error) for job in jobs]
            answer(outcomes)
        if connection is not None:
            connection.close()
        self._ended.set_result(None)


def run(connection: sqlite3.Connection, jobs: Sequence[AnyJob]) -> list[Outcome]:
    """Do the jobs of each handler at once; when that fails for another reason than the file, one by one.

    :raises sqlite3.Error: the file or the disk is at fault.
    """
    kinds: dict[Handler[Any, Any], list[AnyJob]] = {}
    for job in jobs:
        kinds.setdefault(job.handler, []).append(job)
    return [outcome for kind in kinds.values() for outcome in _run_kind(connection, kind)]


def _run_kind(connection: sqlite3.Connection, jobs: list[AnyJob]) -> list[Outcome]:
    connection.execute("SAVEPOINT kind")
    try:
        results = jobs[0].handler(connection, [job.item for job in jobs])
    except Exception as error:
        if isinstance(error, sqlite3.Error) and lasting(error):
            raise
        connection.execute("ROLLBACK TO kind")
        connection.execute("RELEASE kind")
        if len(jobs) == 1:
            return [(jobs[0], error)]
        return [outcome for job in jobs for outcome in _run_kind(connection, [job])]
    connection.execute("RELEASE kind")
    return list(zip(jobs, results, strict=True))


def answer(outcomes: Sequence[Outcome]) -> None:
    """Give every caller its result, with one wake-up for each event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], object]]] = {}
    for job, result in outcomes:
        if isinstance(job.reply, Future):
            _resolve(job.reply, result)
        elif job.reply is not None:
            loops.setdefault(job.reply.get_loop(), []).append((job.reply, result))
    for loop, replies in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve_all, replies)
        except RuntimeError:
            continue  # that loop is closed, and with it everybody who waited


def _resolve_all(replies: Sequence[tuple[asyncio.Future[Any], object]]) -> None:
    for reply, result in replies:
        _resolve(reply, result)


def _resolve(reply: asyncio.Future[Any] | Future[Any], result: object) -> None:
    if reply.done():
        return
    if isinstance(result, BaseException):
        reply.set_exception(result)
    else:
        reply.set_result(result)
