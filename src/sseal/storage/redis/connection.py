"""One connection to a server, which never comes back by itself.

A library that reconnects and subscribes again on its own hides that messages were lost (W8), and one that repeats
a command may run it twice (W9). So here a connection lives once: whatever goes wrong with it, everything that waits
for an answer learns of it, and a new one is made by whoever knows what has to be done before.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from .errors import Lost

__all__ = ["PATIENCE", "Wire"]

PATIENCE: Final = 2.0
"""Seconds a server may take for an answer, and to accept a connection (W9)."""
_PUSHES: Final = frozenset({b"message", b"subscribe", b"unsubscribe"})

Argument = str | bytes | int | float


class Wire:
    """A connection: commands go out in order, answers come back in order.

    :param connection: not connected yet; used for this wire only.
    :param lost: called once when the connection is gone, unless it was closed.
    :param pushed: takes what comes without having been asked for, on a connection that subscribes.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        lost: Callable[[str], None],
        pushed: Callable[[list[Any]], None] | None = None,
    ) -> None:
        self._connection = connection
        self._lost = lost
        self._pushed = pushed
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._out: list[bytes] = []
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: asyncio.Task[None] | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._overdue: asyncio.Future[Any] | None = None
        self._gone = ""

    async def open(self) -> None:
        """Connect and log in.

        :raises Lost: nobody answers.
        :raises redis.exceptions.RedisError: the server refuses.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                await self._connection.connect()  # type: ignore[no-untyped-call]
        except TimeoutError:
            await self._connection.disconnect(nowait=True)
            raise Lost("no answer to the connection") from None
        except OSError as error:
            raise Lost(str(error)) from None
        self._tasks = [
            asyncio.create_task(self._read(), name="sseal-redis-read"),
            asyncio.create_task(self._write(), name="sseal-redis-write"),
        ]

    @property
    def alive(self) -> bool:
        """Whether it is connected, as far as one can know."""
        return bool(self._tasks) and not self._gone

    async def call(self, *command: Argument) -> Any:
        """Send a command and return its answer.

        :raises Lost: the connection is gone, or goes before the answer comes.
        :raises redis.exceptions.RedisError: the server's refusal.
        """
        self.send(*command)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((answer, loop.time() + PATIENCE))
        if self._watchdog is None:
            self._watchdog = loop.call_later(PATIENCE, self._watch)
        return await answer

    def send(self, *command: Argument) -> None:
        """Send a command whose answers are pushed. Commands leave in the order of the calls.

        :raises Lost: the connection is gone; nothing was sent.
        """
        if self._gone or not self._tasks:
            raise Lost(self._gone or "not connected")
        self._out += self._connection.pack_command(*command)
        self._wake.set()

    def close(self, why: str = "closed") -> None:
        """Hang up; who waits for an answer gets `Lost`."""
        if self._closing is not None:
            return
        self._gone = self._gone or why
        if self._watchdog is not None:
            self._watchdog.cancel()
        waiting, self._waiting = self._waiting, deque()
        for answer, _ in waiting:
            if not answer.done():
                answer.set_exception(Lost(self._gone, sent=True))
                answer.exception()  # whoever waited may be gone
        self._closing = asyncio.create_task(self._hang_up(), name="sseal-redis-close")

    async def closed(self) -> None:
        """Wait until the socket is closed."""
        if self._closing is not None:
            await asyncio.gather(self._closing, return_exceptions=True)

    async def _hang_up(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.disconnect(nowait=True)

    def _watch(self) -> None:
        """Give up on a server that is silent: stopped, or behind a connection that only looks open."""
        loop = asyncio.get_running_loop()
        self._watchdog = None
        if not self._waiting:
            return
        answer, due = self._waiting[0]
        if due > loop.time():
            self._watchdog = loop.call_at(due, self._watch)
        elif answer is self._overdue:
            self._fail(f"no answer within {PATIENCE:g} s")
        else:  # this loop may have been the slow one: what has arrived is read first
            self._overdue = answer
            self._watchdog = loop.call_later(PATIENCE / 10, self._watch)

    async def _write(self) -> None:
        """Write what has gathered; a task of its own, so that a caller who gives up leaves no half command."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            data, self._out = b"".join(self._out), []
            try:
                await self._connection.send_packed_command(data, check_health=False)
            except (RedisError, OSError) as error:
                self._fail(str(error))
                return

    async def _read(self) -> None:
        read = self._connection.read_response
        while True:
            reply: Any
            try:
                reply = await read(disable_decoding=True, timeout=math.inf)
            except ResponseError as error:
                reply = error
            except (RedisError, OSError) as error:
                if isinstance(error, AuthenticationError) and self._waiting:
                    self._answer(self._waiting.popleft()[0], error)
                self._fail(str(error))
                return
            if self._pushed is not None and type(reply) is list and reply[0] in _PUSHES:
                self._pushed(reply)
            elif self._waiting:
                self._answer(self._waiting.popleft()[0], reply)
            else:
                self._fail("an answer nobody waits for")
                return

    def _answer(self, waiting: asyncio.Future[Any], reply: Any) -> None:
        if waiting.done():
            return
        if isinstance(reply, RedisError):
            waiting.set_exception(reply)
        else:
            waiting.set_result(reply)

    def _fail(self, why: str) -> None:
        if not self._gone:
            self._gone = why
            self._lost(why)
        self.close(why)
