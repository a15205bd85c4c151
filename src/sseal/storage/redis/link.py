"""The link of one process to its server: three connections, lost and regained together.

Commands, reads of the history and messages have a connection each, so that a long answer delays no publish. All
lead to the same process, and when one is gone all are: what is regained is regained in order. First the server is
examined, then everybody attaches (checks the epoch, subscribes), then everybody resumes (reads what was missed).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from redis.exceptions import AuthenticationError, NoPermissionError, NoScriptError, RedisError, ResponseError

from ...clock import Clock
from ...errors import InvalidInput, Unavailable
from .address import Address
from .connecting import connection_to, locate
from .connection import PATIENCE, Argument, Wire
from .errors import Lost
from .script import Script
from .server import Server, examine, facts, role_of

__all__ = ["Link", "User"]

logger = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0
"""Seconds between attempts to connect again: soon after a restart, and no hammering of a server that is down."""
_SUBSCRIBE_AT_ONCE: Final = 500
"""Channels in one SUBSCRIBE: its confirmations are about 25 KiB, far below the server's limit for a slow reader."""
_PASSING: Final = ("OOM", "MISCONF", "NOREPLICAS", "BUSY", "READONLY", "UNKILLABLE")
"""Refusals that may be over soon."""
_NAMES: Final = {"store": ("the store", "store_lost")}
_LOG: Final = ("the log", "broker_lost")
"""What callers are told is out of reach: never where it is."""


Handler = Callable[[str, bytes], None]
"""Takes a message: the channel's name without what is common to all, and the body."""


class User(Protocol):
    """A broker or a store, as the link sees it."""

    async def attach(self) -> None:
        """Get ready on new connections, before anything else is done with them."""
        ...

    async def resume(self) -> None:
        """Catch up, once everybody is attached again; not called after the first `attach`."""
        ...

    def detach(self) -> None:
        """Learn that the connections are gone."""
        ...


class Link:
    """What the broker and the store of one process share.

    :param address: where the server is; see `Address`.
    :param field: the setting that named it, for errors.
    :raises InvalidInput: the address is none.
    """

    def __init__(self, address: str, clock: Clock, field: str = "broker") -> None:
        self.address = Address.parse(address, field)
        self.clock = clock
        self.prefix = self.address.prefix
        # Channels, unlike keys, are common to all databases of a server.
        self.channels = f"{self.prefix}{self.address.db}:"
        self.lost_since: float | None = None
        self.server = Server("", "")
        self._wires: tuple[Wire, Wire, Wire] | None = None
        self._up = asyncio.Event()
        self._users: list[User] = []
        self._handlers: dict[bytes, Handler] = {}
        self._confirmations: deque[tuple[bytes, asyncio.Future[None] | None]] = deque()
        self._turn = asyncio.Lock()
        self._returning: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    # -- opening and closing ----------------------------------------------------------------------------

    async def open(self, user: User, field: str = "broker") -> None:
        """Connect, unless another user has, and attach this one.

        :raises Unavailable: the server cannot be reached or used now; may be called again.
        :raises InvalidInput: it can never be used as it is set up; names ``field``.
        """
        async with self._turn:
            if self._users and self._wires is None:
                raise _unavailable(field)
            try:
                if self._wires is None:
                    await self._connect(field)
                await user.attach()
            except (Lost, RedisError) as error:
                await self._abandon()
                raise self._refusal(error, field) from None
            except BaseException:
                await self._abandon()
                raise
            self._users.append(user)
            if not self._up.is_set() and self._returning is None:
                self._start_to_return()

    async def _abandon(self) -> None:
        if not self._users:
            self._drop("closed")
            self.lost_since = None
            await self._closed()

    async def close(self, user: User) -> None:
        """Let this user go, and hang up after the last; idempotent."""
        if user in self._users:
            self._users.remove(user)
        if self._users:
            return
        if self._returning is not None:
            self._returning.cancel()
            await asyncio.gather(self._returning, return_exceptions=True)
            self._returning = None
        self._drop("closed")
        self.lost_since = None
        await self._closed()

    async def _connect(self, field: str) -> None:
        """Open three connections to one process, and examine it."""
        try:
            where = await locate(self.address)
            wires = (
                Wire(connection_to(self.address, where), self.lose),
                Wire(connection_to(self.address, where), self.lose),
                Wire(connection_to(self.address, where), self.lose, self._pushed),
            )
        except OSError as error:  # a certificate that cannot be read
            raise InvalidInput(field, str(error)) from None
        try:
            for wire in wires:
                await wire.open()
            servers = {examine(await wire.call("INFO"), field) for wire in wires}
            if len({server.run_id for server in servers}) != 1:
                raise Lost("the address leads to different servers")
            await self._probe(wires[0], field)
            if not all(wire.alive for wire in wires):
                raise Lost("hung up at once")
        except BaseException:
            for wire in wires:
                wire.close()
                await wire.closed()
            raise
        self.server = servers.pop()
        self._wires = wires
        self._up.set()

    async def _probe(self, wire: Wire, field: str) -> None:
        """See whether this user may publish; a log whose messages nobody gets shall not open.

        :raises InvalidInput: he may not.
        """
        try:
            await wire.call("PUBLISH", f"{self.channels}probe", "")
        except NoPermissionError as error:
            missing = f"give the user +publish and &{self.prefix}* (ACL SETUSER)"
            raise InvalidInput(field, f"the user of the address may not publish: {error}; {missing}") from None

    def _refusal(self, error: Exception, field: str) -> Unavailable | InvalidInput:
        """Return what the caller of `open` is told."""
        if isinstance(error, NoPermissionError):
            return InvalidInput(field, f"{error}; give the user this permission (ACL SETUSER)")
        if isinstance(error, AuthenticationError):
            return InvalidInput(field, f"{error}; check user and password in the address")
        if isinstance(error, ResponseError) and not str(error).startswith(_PASSING):
            return InvalidInput(field, str(error))
        logger.warning("the server cannot be reached", extra={"address": str(self.address), "why": str(error)})
        return _unavailable(field)

    # -- losing and regaining ---------------------------------------------------------------------------

    def lose(self, why: str) -> None:
        """Give the connections up; everything that waits for them learns of it, and the way back begins."""
        if self._wires is None:
            return
        self._drop(why)
        if self._users and self._returning is None:
            logger.warning("the server is lost", extra={"address": str(self.address), "why": why})
            self._start_to_return()

    def _drop(self, why: str) -> None:
        wires, self._wires = self._wires or (), None
        self._up.clear()
        if self.lost_since is None:
            self.lost_since = self.clock.monotonic()
        for wire in wires:
            wire.close(why)
            task = asyncio.create_task(wire.closed())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        confirmations, self._confirmations = self._confirmations, deque()
        for _, confirmed in confirmations:
            if confirmed is not None and not confirmed.done():
                confirmed.set_exception(Lost(why))
                confirmed.exception()  # whoever waited may be gone
        self._handlers.clear()
        for user in self._users:
            user.detach()

    async def _closed(self) -> None:
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _start_to_return(self) -> None:
        self._returning = asyncio.create_task(self._return(), name="sseal-redis-return")

    async def _return(self) -> None:
        pause, told = _FIRST_PAUSE, ""
        while True:
            # Jitter, because all hubs lose a server in the same moment.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause = min(2 * pause, _LONGEST_PAUSE)
            try:
                await self._regain()
            except Exception as error:  # noqa: BLE001 - whatever it is, there is no way but to try again
                if (text := str(error) or type(error).__name__) != told:
                    told = text
                    logger.warning("the server is not back", extra={"address": str(self.address), "why": text})
                self._drop(text)
                continue
            self._returning, self.lost_since = None, None
            logger.warning("the server is back", extra={"address": str(self.address)})
            return

    async def _regain(self) -> None:
        async with self._turn:
            await self._connect("broker")
            for user in list(self._users):
                await user.attach()
        for user in list(self._users):
            await user.resume()
        if self._wires is None:
            raise Lost("lost again")

    # -- talking ----------------------------------------------------------------------------------------

    @property
    def lost_for_long(self) -> bool:
        """Whether it has been gone for longer than anybody wants to wait."""
        return self.lost_since is not None and self.clock.monotonic() - self.lost_since >= PATIENCE

    async def ready(self) -> None:
        """Wait until there are connections, while they are only just gone.

        :raises Lost: they have been gone for longer than anybody wants to wait.
        """
        if self._up.is_set():
            return
        gone = 0.0 if self.lost_since is None else self.clock.monotonic() - self.lost_since
        try:
            async with asyncio.timeout(max(0.0, PATIENCE - gone)):
                await self._up.wait()
        except TimeoutError:
            raise Lost("not connected") from None

    async def look(self) -> bool:
        """See whether the server is still the primary; return whether its data may have come from another meanwhile.

        :raises Lost: it is not, or the connection is gone.
        """
        known = facts(await self.call("INFO", "replication"))
        try:
            role_of(known)
        except Unavailable as error:
            self.lose(error.detail)
            raise Lost(error.detail) from None
        replid = known.get("master_replid", "")
        changed, self.server = replid != self.server.replid, replace(self.server, replid=replid)
        return changed

    async def call(self, *command: Argument) -> Any:
        """Send a command and return its answer.

        :raises Lost: the connection is gone, or goes before the answer comes.
        :raises redis.exceptions.ResponseError: the server's refusal.
        """
        return await self._wire(0).call(*command)

    async def run(self, script: Script, *arguments: Argument) -> Any:
        """Run a script; its one key is the prefix. Raises as `call`."""
        return await self._run(self._wire(0), script, arguments)

    async def read(self, script: Script, *arguments: Argument) -> Any:
        """Run a script whose answer may be long. Raises as `call`."""
        return await self._run(self._wire(1), script, arguments)

    async def _run(self, wire: Wire, script: Script, arguments: Sequence[Argument]) -> Any:
        try:
            return await wire.call("EVALSHA", script.sha, 1, self.prefix, *arguments)
        except NoScriptError:
            return await wire.call("EVAL", script.source, 1, self.prefix, *arguments)

    def _wire(self, index: int) -> Wire:
        if self._wires is None:
            raise Lost("not connected")
        return self._wires[index]

    # -- messages ---------------------------------------------------------------------------------------

    async def subscribe(self, names: Iterable[str], handler: Handler) -> None:
        """Hand the messages of these channels to ``handler`` from now on; returns when the server has confirmed.

        The commands leave before the first wait.

        :raises Lost: the connection is gone, or goes before it has.
        """
        wire, loop = self._wire(2), asyncio.get_running_loop()
        channels = [f"{self.channels}{name}".encode() for name in names]
        confirmed = []
        for start in range(0, len(channels), _SUBSCRIBE_AT_ONCE):
            some = channels[start : start + _SUBSCRIBE_AT_ONCE]
            confirmed.append(loop.create_future())
            self._handlers.update(dict.fromkeys(some, handler))
            self._confirmations.extend((channel, None) for channel in some[:-1])
            self._confirmations.append((some[-1], confirmed[-1]))
            wire.send("SUBSCRIBE", *some)
        if confirmed:
            await self.barrier()
            await asyncio.gather(*confirmed)

    def unsubscribe(self, names: Iterable[str]) -> None:
        """End the messages of these channels; a later `subscribe` is not undone by it."""
        channels = [f"{self.channels}{name}".encode() for name in names]
        for channel in channels:
            self._handlers.pop(channel, None)
        if self._wires is not None and self._wires[2].alive:
            for start in range(0, len(channels), _SUBSCRIBE_AT_ONCE):
                self._wires[2].send("UNSUBSCRIBE", *channels[start : start + _SUBSCRIBE_AT_ONCE])

    async def barrier(self) -> None:
        """Return when every message published before has arrived.

        :raises Lost: the connection is gone, or does not answer in time.
        """
        await self._wire(2).call("PING")

    def _pushed(self, reply: list[Any]) -> None:
        kind, channel = reply[0], reply[1]
        if kind == b"message":
            if (handler := self._handlers.get(channel)) is not None:
                try:
                    handler(channel[len(self.channels) :].decode(), reply[2])
                except Exception:
                    # Whatever it was, what follows it must not be passed on as if it had been taken.
                    logger.exception("a message could not be taken", extra={"channel": channel.decode()})
                    self.lose("a message could not be taken")
        elif kind == b"subscribe":
            expected, confirmed = self._confirmations.popleft() if self._confirmations else (b"", None)
            if expected != channel:
                self.lose("a subscription nobody asked for: messages may have been lost")
            elif confirmed is not None and not confirmed.done():
                confirmed.set_result(None)


def _unavailable(field: str) -> Unavailable:
    name, code = _NAMES.get(field, _LOG)
    return Unavailable(f"{name} cannot be reached", code=code)
