"""One connection to a server, which never comes back by itself.

A library that reconnects and subscribes again on its own hides that messages were lost (W8), and one that repeats
a command may run it twice (W9). So here a connection lives once: whatever goes wrong with it, everything that waits
for an answer learns of it, and a new one is made by whoever knows what has to be done before.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import Final, Protocol, TypeAlias

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from .address import Address
from .errors import Lost

__all__ = [
    "REPLY_TIMEOUT",
    "Argument",
    "ConnectionListener",
    "PushListener",
    "RedisConnection",
    "Reply",
    "make_connection",
]

REPLY_TIMEOUT: Final = 2.0
"""Seconds a server may take for an answer, and to accept a connection (W9)."""
_PUSHES: Final = frozenset({b"message", b"subscribe", b"unsubscribe"})

Argument: TypeAlias = str | bytes | int | float
"""What a command may be made of."""
Reply: TypeAlias = bytes | int | list["Reply"] | None
"""What a server answers (RESP2, not decoded); `replies` says what it means."""


class ConnectionListener(Protocol):
    """Somebody who wants to know of the end of a connection."""

    def on_lost(self, why: str) -> None:
        """Learn, once, that the connection is gone; not called when it was closed."""
        ...


class PushListener(Protocol):
    """Somebody who takes what comes without having been asked for, on a connection that subscribes."""

    def on_push(self, reply: list[Reply]) -> None:
        """Take a message, or the confirmation of a subscription."""
        ...


class RedisConnection:
    """A connection: commands go out in order, answers come back in order.

    :param connection: not connected yet; used for this one only.
    :param pushes: who takes what is pushed, on a connection that subscribes.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        listener: ConnectionListener | None = None,
        pushes: PushListener | None = None,
    ) -> None:
        self._connection = connection
        self._listener = listener
        self._pushes = pushes
        self._waiting: deque[tuple[asyncio.Future[Reply], float]] = deque()  # who waits for an answer, until when
        self._out: list[bytes] = []  # commands that are not written yet
        self._wake = asyncio.Event()  # set when there are any
        self._tasks: list[asyncio.Task[None]] = []  # reading and writing; none before `open`
        self._closing: asyncio.Task[None] | None = None
        self._watchdog: asyncio.TimerHandle | None = None  # runs while somebody waits
        self._overdue: asyncio.Future[Reply] | None = None  # the answer whose time was over at the last look
        self._gone = ""  # why the connection is gone

    async def open(self) -> None:
        """Connect and log in.

        :raises Lost: nobody answers.
        :raises redis.exceptions.RedisError: the server refuses.
        """
        try:
            async with asyncio.timeout(REPLY_TIMEOUT):
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

    async def call(self, *command: Argument) -> Reply:
        """Send a command and return its answer.

        :raises Lost: the connection is gone, or goes before the answer comes.
        :raises redis.exceptions.RedisError: the server's refusal.
        """
        self.send(*command)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Reply] = loop.create_future()
        self._waiting.append((answer, loop.time() + REPLY_TIMEOUT))
        if self._watchdog is None:
            self._watchdog = loop.call_later(REPLY_TIMEOUT, self._watch)
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

    async def wait_closed(self) -> None:
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
            self._fail(f"no answer within {REPLY_TIMEOUT:g} s")
        else:  # this loop may have been the slow one: what has arrived is read first
            self._overdue = answer
            self._watchdog = loop.call_later(REPLY_TIMEOUT / 10, self._watch)

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
            reply: Reply | RedisError
            try:
                reply = await read(disable_decoding=True, timeout=math.inf)
            except ResponseError as error:
                reply = error
            except (RedisError, OSError) as error:
                if isinstance(error, AuthenticationError) and self._waiting:
                    self._answer(self._waiting.popleft()[0], error)
                self._fail(str(error))
                return
            if self._pushes is not None and type(reply) is list and reply[0] in _PUSHES:
                self._pushes.on_push(reply)
            elif self._waiting:
                self._answer(self._waiting.popleft()[0], reply)
            else:
                self._fail("an answer nobody waits for")
                return

    def _answer(self, waiting: asyncio.Future[Reply], reply: Reply | RedisError) -> None:
        if waiting.done():
            return
        if isinstance(reply, RedisError):
            waiting.set_exception(reply)
        else:
            waiting.set_result(reply)

    def _fail(self, why: str) -> None:
        if not self._gone:
            self._gone = why
            if self._listener is not None:
                self._listener.on_lost(why)
        self.close(why)


def make_connection(
    address: Address, where: tuple[str, int] | None, *, username: str | None, password: str | None, db: int = 0
) -> AbstractConnection:
    """Return a connection to the server at ``where`` (None: the address' Unix socket), not yet connected."""
    # No retries, no timeouts for reads, no answers in the newer protocol: `RedisConnection` decides these (W8, W9).
    options: dict[str, object] = {"username": username, "password": password, "db": db}
    options |= {"retry": Retry(NoBackoff(), 0), "socket_timeout": None, "protocol": 2}
    options |= {"socket_connect_timeout": REPLY_TIMEOUT, "driver_info": None}
    if where is None:
        return UnixDomainSocketConnection(path=address.path or "", **options)
    options |= {"host": where[0], "port": where[1]}
    if address.tls is None:
        return Connection(**options)  # type: ignore[arg-type]
    options |= address.tls
    return SSLConnection(**options)  # type: ignore[arg-type]
