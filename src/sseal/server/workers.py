"""Several processes on one address: started, replaced when they die, ended together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Final

from ..errors import SsealError
from .loop import end_at_once

__all__ = ["Work", "supervise"]

START_TIMEOUT: Final = 30.0
"""Seconds a worker has to become ready."""
END_TIMEOUT: Final = 8.0
"""Seconds a worker has to end by itself: drain, the grace of open requests, and some."""
HEARTBEAT_INTERVAL: Final = 1.0
"""Seconds between two signs of life of a worker."""
SILENCE_TIMEOUT: Final = 30.0
"""Seconds without one after which a worker is killed; no callback of a healthy event loop takes as long."""
RESTART_INTERVAL: Final = 1.0
"""Seconds between two replacements of the same worker, so that one that dies at once does not eat the machine."""

Work = Callable[[dict[str, object], socket.socket, Callable[[], None]], None]
"""What a worker does, importable by name: settings, the socket, and what to call, in its event loop, when it answers
requests."""

_context = multiprocessing.get_context("spawn")
logger = logging.getLogger("sseal.server")


class _Worker:
    """One process and the pipe on which it says that it is ready, and then that it lives.

    :ivar silent: seconds for which nothing was heard of it while the supervisor listened.
    :ivar ready: whether anything ever was.
    :ivar fault: why it ended, in a sentence, if it said so.
    """

    def __init__(self, work: Work, settings: dict[str, object], listener: socket.socket) -> None:
        self.signs: Connection  # our end of the pipe
        self.signs, told = _context.Pipe(duplex=False)
        self.started_at = time.monotonic()  # seconds
        self.silent = 0.0
        self.ready = False
        self.fault = ""
        self.process: SpawnProcess = _context.Process(
            target=_run, args=(work, settings, listener, told), name="sseal-worker"
        )
        self.process.start()
        told.close()

    def heard(self) -> bool:
        """Take the signs it has given; return whether it lives, and the first time that it is ready.

        A sign of life is empty; one that is not says why it ends.
        """
        some = False
        try:
            while self.signs.poll():
                if sign := self.signs.recv_bytes():
                    self.fault = sign.decode()
                else:
                    some = self.ready = True
        except (EOFError, OSError):
            return some
        return some

    def end(self) -> None:
        """Ask it to end."""
        if self.process.is_alive():
            self.process.terminate()

    def join(self, deadline: float) -> None:
        """Wait until it has ended; kill it when it does not."""
        self.process.join(max(0.0, deadline - time.monotonic()))
        if self.process.is_alive():
            logger.warning("a worker did not end and is killed", extra={"worker": self.process.pid})
            self.process.kill()
            self.process.join()
        self.signs.close()


class _Supervisor:
    """Keeps as many workers running as were asked for, until a signal."""

    def __init__(self, start: Callable[[int], _Worker]) -> None:
        self._start = start
        self.workers: list[_Worker] = []
        self._signals: list[int] = []  # that came and were not obeyed yet
        self._ending = False  # a signal to end came
        # A pipe from the signal handler to `watch`.
        self._wake, self._woken = _context.Pipe(duplex=False)

    def signalled(self, number: int, frame: FrameType | None) -> None:
        """Note a signal and wake the loop below; a second one that ends ends everything at once."""
        del frame
        self._signals.append(number)
        if number != signal.SIGHUP:
            if self._ending:
                for worker in self.workers:
                    worker.process.kill()
                end_at_once(number)
            self._ending = True
        self._woken.send_bytes(b"")

    def start(self, count: int) -> bool:
        """Start the workers; return False when a signal came before all were ready.

        :raises SsealError: one of them did not become ready.
        """
        self.workers = [self._start(index) for index in range(count)]
        for worker in self.workers:
            if not self._wait(worker.signs, worker.process.sentinel, seconds=START_TIMEOUT):
                return False
            if not worker.heard():
                fault = worker.fault or "a worker did not start; the log says why"
                raise SsealError(fault, code="not_started")
        return True

    def watch(self) -> None:
        """Replace workers that die or hang, and on SIGHUP all of them one by one; return on any other signal."""
        looked = time.monotonic()
        while True:
            if not self._signals:
                wait([self._wake, *(worker.process.sentinel for worker in self.workers)], HEARTBEAT_INTERVAL)
            self._drain()
            while self._signals:
                if self._signals.pop(0) != signal.SIGHUP:
                    return
                if not all(self._replace(index) for index in range(len(self.workers))):
                    return
            now = time.monotonic()
            # More than two intervals is time in which this process itself did not run.
            self._kill_silent(min(now - looked, 2 * HEARTBEAT_INTERVAL))
            looked = now
            for index, worker in enumerate(self.workers):
                if not worker.process.is_alive():
                    worker.heard()
                    why = {"why": worker.fault} if worker.fault else {}
                    what = {"worker": worker.process.pid, "exit": worker.process.exitcode, **why}
                    logger.error("a worker died", extra=what)
                    if not self._revive(index):
                        return

    def _kill_silent(self, passed: float) -> None:
        for worker in self.workers:
            worker.silent = 0.0 if worker.heard() else worker.silent + passed
            timeout = SILENCE_TIMEOUT if worker.ready else START_TIMEOUT
            if worker.silent > timeout and worker.process.is_alive():
                logger.error("a worker hangs and is killed", extra={"worker": worker.process.pid})
                worker.process.kill()
                worker.process.join(HEARTBEAT_INTERVAL)

    def _revive(self, index: int) -> bool:
        """Put a new worker in the place of a dead one; return False when a signal came meanwhile."""
        early = RESTART_INTERVAL - (time.monotonic() - self.workers[index].started_at)
        if early > 0 and not self._wait(seconds=early):
            return False
        self.workers[index].join(time.monotonic())
        self.workers[index] = self._start(index)
        return True

    def _replace(self, index: int) -> bool:
        """Start a new worker, and end the old one once the new one answers; return False when a signal came.

        Both are then ended with all the others.
        """
        fresh = self._start(index)
        self.workers.append(fresh)
        if not self._wait(fresh.signs, fresh.process.sentinel, seconds=START_TIMEOUT):
            return False
        leaving = self.workers[index] if fresh.heard() else fresh
        if leaving is fresh:
            why = f": {fresh.fault}" if fresh.fault else ""
            logger.error("a new worker did not become ready; the old one goes on%s", why)
        leaving.end()
        if not self._wait(leaving.process.sentinel, seconds=END_TIMEOUT):
            return False
        leaving.join(time.monotonic())
        self.workers.pop()
        if leaving is not fresh:
            self.workers[index] = fresh
        return True

    def _wait(self, *things: Connection | int, seconds: float) -> bool:
        """Wait for one of these, at most so long; return False as soon as there is a signal to end."""
        deadline = time.monotonic() + seconds
        while all(number == signal.SIGHUP for number in self._signals):
            ready = wait([self._wake, *things], max(0.0, deadline - time.monotonic()))
            if not ready or any(thing in ready for thing in things):
                return True
            self._drain()
        return False

    def _drain(self) -> None:
        while self._wake.poll():
            self._wake.recv_bytes()

    def end(self) -> None:
        """End all workers; those that take too long are killed."""
        deadline = time.monotonic() + END_TIMEOUT
        for worker in self.workers:
            worker.end()
        for worker in self.workers:
            worker.join(deadline)
        self._wake.close()
        self._woken.close()


def supervise(
    work: Work, settings: dict[str, object], listeners: Sequence[socket.socket], *, ready: Callable[[], None]
) -> None:
    """Run ``work`` in a process per socket until SIGTERM or SIGINT; SIGHUP replaces them one by one.

    The sockets stay open here: who connects while a worker is being replaced waits for the new one. uvicorn's own
    supervisor runs its own server class, and waits for workers that wait for their streams.

    :param settings: handed to each worker; must be picklable.
    :param ready: called once all answer requests.
    :raises SsealError: a worker did not start.
    """
    supervisor = _Supervisor(lambda index: _Worker(work, settings, listeners[index]))
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    previous = {number: signal.signal(number, supervisor.signalled) for number in numbers}
    try:
        if supervisor.start(len(listeners)):
            ready()
            supervisor.watch()
    finally:
        supervisor.end()
        for listener in listeners:
            listener.close()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _run(work: Work, settings: dict[str, object], listener: socket.socket, told: Connection) -> None:
    """Be a worker. Signals of the terminal reach the supervisor alone, which ends its workers politely."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _end_with_parent()
    os.set_blocking(told.fileno(), False)  # a supervisor that does not read shall not stop its workers
    try:
        work(settings, listener, lambda: _live(told))
    except SsealError as error:
        with contextlib.suppress(OSError):
            told.send_bytes(str(error).encode())
        raise SystemExit(1) from None


def _live(told: Connection) -> None:
    """Give signs of life from the event loop, as long as it runs: a thread would speak for a loop that hangs."""
    with contextlib.suppress(OSError):
        told.send_bytes(b"")
    asyncio.get_running_loop().call_later(HEARTBEAT_INTERVAL, _live, told)


def _end_with_parent() -> None:
    """End this worker when its supervisor was killed: nobody else would."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="sseal-parent", daemon=True).start()
