"""The link of one process to its server: three connections, lost and regained together.

Commands, reads of the history and messages have a connection each, so that a long answer delays no publish. All
lead to the same process, and when one is gone all are: what is regained is regained in order. First the server is
checked, then every client gets ready (checks the epoch, subscribes), then every client catches up (reads what was
missed).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple, Protocol, TypeVar

import msgspec
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, NoPermissionError, NoScriptError, RedisError, ResponseError

from ...clock import Clock
from ...errors import InvalidInput, Unavailable
from .address import Address
from .connection import REPLY_TIMEOUT, Argument, RedisConnection, Reply, make_connection
from .errors import Lost
from .script import Script
from .sentinel import locate_primary
from .server import Server, check_server, parse_info, require_primary
from .subscriptions import Subscriptions

__all__ = ["ConnectionClient", "Link"]

logger = logging.getLogger(__name__)

_FIRST_RETRY_INTERVAL: Final = 0.1
_LONGEST_RETRY_INTERVAL: Final = 2.0
"""Seconds between attempts to connect again: soon after a restart, and no hammering of a server that is down."""
_TRANSIENT: Final = ("OOM", "MISCONF", "NOREPLICAS", "BUSY", "READONLY", "UNKILLABLE")
"""Refusals that may be over soon."""
_NAMES: Final = {"store": ("the store", "store_lost")}
_LOG: Final = ("the log", "broker_lost")
"""What callers are told is out of reach: never where it is."""

Answer = TypeVar("Answer")


class ConnectionClient(Protocol):
    """A broker or a store, which is told of the connections it shares."""

    async def on_connect(self) -> None:
        """Get ready on new connections, before anything else is done with them."""
        ...

    async def on_reconnect(self) -> None:
        """Catch up, once everybody is ready again; not called after the first `on_connect`."""
        ...

    def on_disconnect(self) -> None:
        """Learn that the connections are gone."""
        ...


class _Connections(NamedTuple):
    """The connections to one process of a server."""

    commands: RedisConnection
    reads: RedisConnection
    messages: RedisConnection


class Link:
    """What the broker and the store of one process share.

    :param address: where the server is; see `Address`.
    :param field: the setting that named it, for errors.
    :raises InvalidInput: the address is none.
    """

    def __init__(self, address: str, clock: Clock, field: str = "broker") -> None:
        self.address = Address.parse(address, field)
        self.clock = clock
        self.prefix = self.address.prefix  # of all keys
        self.channels = f"{self.prefix}{self.address.db}:"  # prefix of channels, which all databases have in common
        self.subscriptions = Subscriptions(self.channels, self)
        self.lost_since: float | None = None  # monotonic
        self.server = Server("", "")  # as it was when last looked at
        self._connections: _Connections | None = None
        self._connected = asyncio.Event()  # set while there are connections
        self._clients: list[ConnectionClient] = []
        self._opening = asyncio.Lock()  # held while connections are made and clients get ready
        self._reconnecting: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()  # wait for sockets to close

    # -- opening and closing ----------------------------------------------------------------------------

    async def open(self, client: ConnectionClient, field: str = "broker") -> None:
        """Connect, unless another client has, and attach this one.

        :raises Unavailable: the server cannot be reached or used now; may be called again.
        :raises InvalidInput: it can never be used as it is set up; names ``field``.
        """
        async with self._opening:
            if self._clients and self._connections is None:
                raise _unavailable(field)
            try:
                if self._connections is None:
                    await self._connect(field)
                await client.on_connect()
            except (Lost, RedisError) as error:
                await self._abandon()
                raise self._refusal(error, field) from None
            except BaseException:
                await self._abandon()
                raise
            self._clients.append(client)
            if not self._connected.is_set() and self._reconnecting is None:
                self._start_reconnecting()

    async def _abandon(self) -> None:
        if not self._clients:
            self._drop("closed")
            self.lost_since = None
            await self._wait_closed()

    async def close(self, client: ConnectionClient) -> None:
        """Let this client go, and hang up after the last; idempotent."""
        if client in self._clients:
            self._clients.remove(client)
        if self._clients:
            return
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
            self._reconnecting = None
        self._drop("closed")
        self.lost_since = None
        await self._wait_closed()

    async def _connect(self, field: str) -> None:
        """Open three connections to one process, and examine it."""
        try:
            where = await locate_primary(self.address)
            connections = _Connections(
                RedisConnection(self._make(where), self),
                RedisConnection(self._make(where), self),
                RedisConnection(self._make(where), self, self.subscriptions),
            )
        except OSError as error:  # a certificate that cannot be read
            raise InvalidInput(field, str(error)) from None
        try:
            for connection in connections:
                await connection.open()
            servers = {check_server(await _info(connection), field) for connection in connections}
            if len({server.run_id for server in servers}) != 1:
                raise Lost("the address leads to different servers")
            await self._require_publish(connections.commands, field)
            if not all(connection.alive for connection in connections):
                raise Lost("hung up at once")
        except BaseException:
            for connection in connections:
                connection.close()
                await connection.wait_closed()
            raise
        self.server = servers.pop()
        self._connections = connections
        self.subscriptions.connect(connections.messages)
        self._connected.set()

    def _make(self, where: tuple[str, int] | None) -> AbstractConnection:
        to = self.address
        return make_connection(to, where, username=to.username, password=to.password, db=to.db)

    async def _require_publish(self, connection: RedisConnection, field: str) -> None:
        """Make sure that this user may publish; a log whose messages nobody gets shall not open.

        :raises InvalidInput: he may not.
        """
        try:
            await connection.call("PUBLISH", f"{self.channels}probe", "")
        except NoPermissionError as error:
            missing = f"give the user +publish and &{self.prefix}* (ACL SETUSER)"
            raise InvalidInput(field, f"the user of the address may not publish: {error}; {missing}") from None

    def _refusal(self, error: Exception, field: str) -> Unavailable | InvalidInput:
        """Return what the caller of `open` is told."""
        if isinstance(error, NoPermissionError):
            return InvalidInput(field, f"{error}; give the user this permission (ACL SETUSER)")
        if isinstance(error, AuthenticationError):
            return InvalidInput(field, f"{error}; check user and password in the address")
        if isinstance(error, ResponseError) and not str(error).startswith(_TRANSIENT):
            return InvalidInput(field, str(error))
        logger.warning("the server cannot be reached", extra={"address": str(self.address), "why": str(error)})
        return _unavailable(field)

    # -- losing and regaining ---------------------------------------------------------------------------

    def on_lost(self, why: str) -> None:
        """Learn that a connection is gone; see `ConnectionListener`."""
        self.lose(why)

    def lose(self, why: str) -> None:
        """Give the connections up; everything that waits for them learns of it, and the way back begins."""
        if self._connections is None:
            return
        self._drop(why)
        if self._clients and self._reconnecting is None:
            logger.warning("the server is lost", extra={"address": str(self.address), "why": why})
            self._start_reconnecting()

    def _drop(self, why: str) -> None:
        connections, self._connections = self._connections or (), None
        self._connected.clear()
        if self.lost_since is None:
            self.lost_since = self.clock.monotonic()
        for connection in connections:
            connection.close(why)
            task = asyncio.create_task(connection.wait_closed())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self.subscriptions.disconnect(why)
        for client in self._clients:
            client.on_disconnect()

    async def _wait_closed(self) -> None:
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _start_reconnecting(self) -> None:
        self._reconnecting = asyncio.create_task(self._reconnect_until_back(), name="sseal-redis-reconnect")

    async def _reconnect_until_back(self) -> None:
        pause, told = _FIRST_RETRY_INTERVAL, ""
        while True:
            # Jitter, because all hubs lose a server in the same moment.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause = min(2 * pause, _LONGEST_RETRY_INTERVAL)
            try:
                await self._reconnect()
            except Exception as error:  # noqa: BLE001 - whatever it is, there is no way but to try again
                if (text := str(error) or type(error).__name__) != told:
                    told = text
                    logger.warning("the server is not back", extra={"address": str(self.address), "why": text})
                self._drop(text)
                continue
            self._reconnecting, self.lost_since = None, None
            logger.warning("the server is back", extra={"address": str(self.address)})
            return

    async def _reconnect(self) -> None:
        async with self._opening:
            await self._connect("broker")
            for client in list(self._clients):
                await client.on_connect()
        for client in list(self._clients):
            await client.on_reconnect()
        if self._connections is None:
            raise Lost("lost again")

    # -- talking ----------------------------------------------------------------------------------------

    @property
    def lost_for_long(self) -> bool:
        """Whether it has been gone for longer than anybody wants to wait."""
        return self.lost_since is not None and self.clock.monotonic() - self.lost_since >= REPLY_TIMEOUT

    async def ready(self) -> None:
        """Wait until there are connections, while they are only just gone.

        :raises Lost: they have been gone for longer than anybody wants to wait.
        """
        if self._connected.is_set():
            return
        gone = 0.0 if self.lost_since is None else self.clock.monotonic() - self.lost_since
        try:
            async with asyncio.timeout(max(0.0, REPLY_TIMEOUT - gone)):
                await self._connected.wait()
        except TimeoutError:
            raise Lost("not connected") from None

    async def check_primary(self) -> bool:
        """See whether the server is still the primary; return whether its data may have come from another meanwhile.

        :raises Lost: it is not, or the connection is gone.
        """
        known = parse_info(msgspec.convert(await self.call("INFO", "replication"), bytes))
        try:
            require_primary(known)
        except Unavailable as error:
            self.lose(error.detail)
            raise Lost(error.detail) from None
        replid = known.get("master_replid", "")
        changed, self.server = replid != self.server.replid, replace(self.server, replid=replid)
        return changed

    async def call(self, *command: Argument) -> Reply:
        """Send a command and return its answer.

        :raises Lost: the connection is gone, or goes before the answer comes.
        :raises redis.exceptions.ResponseError: the server's refusal.
        """
        return await self._current().commands.call(*command)

    async def run(self, script: Script[Answer], *arguments: Argument) -> Answer:
        """Run a script; its one key is the prefix. Raises as `call`."""
        return script.decode(await self._run(self._current().commands, script, arguments))

    async def read(self, script: Script[Answer], *arguments: Argument) -> Answer:
        """Run a script whose answer may be long. Raises as `call`."""
        return script.decode(await self._run(self._current().reads, script, arguments))

    async def _run(self, connection: RedisConnection, script: Script[Answer], arguments: Sequence[Argument]) -> Reply:
        try:
            return await connection.call("EVALSHA", script.sha, 1, self.prefix, *arguments)
        except NoScriptError:
            return await connection.call("EVAL", script.source, 1, self.prefix, *arguments)

    def _current(self) -> _Connections:
        if self._connections is None:
            raise Lost("not connected")
        return self._connections


async def _info(connection: RedisConnection) -> bytes:
    return msgspec.convert(await connection.call("INFO"), bytes)


def _unavailable(field: str) -> Unavailable:
    name, code = _NAMES.get(field, _LOG)
    return Unavailable(f"{name} cannot be reached", code=code)
