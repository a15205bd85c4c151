"""Channels of the server, on the one connection that subscribes: who takes their messages, and what is confirmed."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol

from .connection import ConnectionListener, RedisConnection, Reply
from .errors import Lost

__all__ = ["ChannelListener", "Subscriptions"]

logger = logging.getLogger(__name__)

_SUBSCRIBE_AT_ONCE: Final = 500
"""Channels in one SUBSCRIBE: its confirmations are about 25 KiB, far below the server's limit for a slow reader."""


class ChannelListener(Protocol):
    """Somebody who takes the messages of channels."""

    def on_message(self, channel: str, data: bytes) -> None:
        """Take a message; the channel is named without the prefix of all."""
        ...


class Subscriptions:
    """The channels subscribed to, while there is a connection. With it they are gone.

    :param prefix: what the names of all channels begin with.
    :param listener: is told that the connection is of no use, when what it says cannot be right.
    """

    def __init__(self, prefix: str, listener: ConnectionListener) -> None:
        self._prefix = prefix
        self._listener = listener
        self._connection: RedisConnection | None = None  # None while the link has none
        self._channels: dict[bytes, ChannelListener] = {}  # by full name
        # Confirmations that have to come, in this order; the last of each SUBSCRIBE has somebody who waits for it.
        self._confirmations: deque[tuple[bytes, asyncio.Future[None] | None]] = deque()

    def connect(self, connection: RedisConnection) -> None:
        """Use this connection from now on."""
        self._connection = connection

    def disconnect(self, why: str) -> None:
        """Forget all channels; who waits for a confirmation gets `Lost`."""
        self._connection = None
        confirmations, self._confirmations = self._confirmations, deque()
        for _, confirmed in confirmations:
            if confirmed is not None and not confirmed.done():
                confirmed.set_exception(Lost(why))
                confirmed.exception()  # whoever waited may be gone
        self._channels.clear()

    async def subscribe(self, names: Iterable[str], listener: ChannelListener) -> None:
        """Hand the messages of these channels to a listener from now on; returns when the server has confirmed.

        The commands leave before the first wait.

        :raises Lost: the connection is gone, or goes before it has.
        """
        connection, loop = self._current(), asyncio.get_running_loop()
        channels = [f"{self._prefix}{name}".encode() for name in names]
        confirmed: list[asyncio.Future[None]] = []
        for start in range(0, len(channels), _SUBSCRIBE_AT_ONCE):
            some = channels[start : start + _SUBSCRIBE_AT_ONCE]
            confirmed.append(loop.create_future())
            self._channels.update(dict.fromkeys(some, listener))
            self._confirmations.extend((channel, None) for channel in some[:-1])
            self._confirmations.append((some[-1], confirmed[-1]))
            connection.send("SUBSCRIBE", *some)
        if confirmed:
            await self.barrier()
            await asyncio.gather(*confirmed)

    def unsubscribe(self, names: Iterable[str]) -> None:
        """End the messages of these channels; a later `subscribe` is not undone by it."""
        channels = [f"{self._prefix}{name}".encode() for name in names]
        for channel in channels:
            self._channels.pop(channel, None)
        if self._connection is not None and self._connection.alive:
            for start in range(0, len(channels), _SUBSCRIBE_AT_ONCE):
                self._connection.send("UNSUBSCRIBE", *channels[start : start + _SUBSCRIBE_AT_ONCE])

    async def barrier(self) -> None:
        """Return when every message published before has arrived.

        :raises Lost: the connection is gone, or does not answer in time.
        """
        await self._current().call("PING")

    def on_push(self, reply: list[Reply]) -> None:
        """Take a message or a confirmation; see `PushListener`."""
        kind, channel, data = reply
        assert isinstance(channel, bytes)
        if kind == b"message":
            assert isinstance(data, bytes)
            if (listener := self._channels.get(channel)) is not None:
                try:
                    listener.on_message(channel[len(self._prefix) :].decode(), data)
                except Exception:
                    # Whatever it was, what follows it must not be passed on as if it had been taken.
                    logger.exception("a message could not be taken", extra={"channel": channel.decode()})
                    self._listener.on_lost("a message could not be taken")
        elif kind == b"subscribe":
            expected, confirmed = self._confirmations.popleft() if self._confirmations else (b"", None)
            if expected != channel:
                self._listener.on_lost("a subscription nobody asked for: messages may have been lost")
            elif confirmed is not None and not confirmed.done():
                confirmed.set_result(None)

    def _current(self) -> RedisConnection:
        if self._connection is None:
            raise Lost("not connected")
        return self._connection
