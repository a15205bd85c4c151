"""The log on a Redis or Valkey server: what is one log there, and what a hub sees of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from redis.exceptions import ResponseError

from ...clock import Clock
from ...errors import Unavailable
from ...position import EPOCH_ALPHABET, EPOCH_LENGTH, Lineage, Position
from ...subscription import TopicSet
from ..broker import LogListener, Page, Publication, Retention
from .append import Appender
from .codec import query_of
from .connection import REPLY_TIMEOUT, Argument
from .delivery import Delivery
from .errors import Lost
from .link import Link
from .log_scripts import CHECK, HISTORY, OPEN
from .script import Script

__all__ = ["RedisBroker"]

logger = logging.getLogger(__name__)

CHECK_INTERVAL: Final = 5.0
"""Seconds between comparisons of what has come with what the log holds (W8)."""
_MIN_CHECK_INTERVAL: Final = 1.0
"""Seconds at least between two of them, however many canaries pass."""
_PAGE_SIZE: Final = 1024 * 1024
"""Bytes in a page of the history, so that no page takes long on its way."""

Answer = TypeVar("Answer")


class RedisBroker:
    """One log for all hubs that share a server and a prefix.

    :param link: the connections, shared with the store of the same server.
    :param retention: what a hub wants kept; None for what the log was told last.
    """

    def __init__(
        self, link: Link, clock: Clock, retention: Retention | None = None, *, check_interval: float = CHECK_INTERVAL
    ) -> None:
        self._link = link
        self._clock = clock
        self._retention = retention
        self._check_interval = check_interval
        self._lineage = Lineage("")
        self._read_head = 0  # the head when the epoch was last opened, for a broker that only publishes
        self._ahead = 0.0  # seconds by which the server's time is ahead of the monotonic clock
        self._appender = Appender(link, self)
        self._listener: LogListener | None = None  # None for a broker that only publishes
        self._delivery: Delivery | None = None  # None for a broker that only publishes
        self._attached = asyncio.Event()  # set while the epoch is known to be that of the connections
        self._opening_epoch = asyncio.Lock()
        self._check_soon = asyncio.Event()  # set by a canary
        self._checking: asyncio.Task[None] | None = None
        self._may_tell = False  # the hub may be told of a new epoch at once, and not only by `on_reconnect`
        self._has_new_epoch = False  # the hub is to be told of one
        self._open = False

    async def open(self, listener: LogListener | None) -> None:
        """Connect and hand every later entry of the topics listened to to ``listener``; see `Broker.open`."""
        if self._open:
            return
        self._listener, self._lineage = listener, Lineage("")
        if listener is not None:
            self._delivery = Delivery(self._link, listener, self, self)
        await self._link.open(self)
        self._open, self._may_tell, self._has_new_epoch = True, True, False
        if listener is not None:
            self._checking = asyncio.create_task(self._check_forever(), name="sseal-redis-check")

    async def close(self) -> None:
        """Finish what is being published and let go; idempotent."""
        if not self._open:
            return
        self._open = False
        await self._appender.close()
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)
        if self._delivery is not None:
            await self._delivery.close()
        await self._link.close(self)
        self._attached.clear()

    # -- what the link tells, see `ConnectionClient` ----------------------------------------------------

    async def on_connect(self) -> None:
        """Find out which epoch the log is in, and subscribe."""
        if await self._open_epoch(resuming=True):
            self._has_new_epoch = True
        if self._delivery is not None:
            await self._delivery.attach()
        self._attached.set()

    async def on_reconnect(self) -> None:
        """Hand out what was missed, after what has to come first (W17)."""
        if self._listener is None or self._delivery is None:
            return
        await self._listener.on_reconnect()
        self._may_tell = True
        if self._has_new_epoch:
            self._has_new_epoch = False
            self._listener.on_epoch_change()
        await self._delivery.resume()

    def on_disconnect(self) -> None:
        """Stop using the connections."""
        self._attached.clear()
        self._may_tell = False
        if self._delivery is not None:
            self._delivery.detach()

    # -- the epoch --------------------------------------------------------------------------------------

    async def _open_epoch(self, *, resuming: bool = False) -> bool:
        """Prove that this is the log it was, or go over to a new epoch (W10); tell whether it is a new one.

        :param resuming: `on_reconnect` follows and hands out what is missing, so the log counts as handed out up to
            where this hub and the new epoch agree: streams that have all of that need not read it again.
        """
        async with self._opening_epoch:
            keep = self._retention or Retention()
            fresh = "".join(secrets.choice(EPOCH_ALPHABET) for _ in range(EPOCH_LENGTH))
            server = self._link.server
            rules = 0 if self._retention is None else 1
            seen = " ".join(f"{epoch}:{last}" for epoch, last in self._lineage.known())
            log = await self._link.run(
                OPEN, server.run_id, server.replid, fresh, keep.count, keep.age, keep.size, rules, seen
            )
            self._set_time(log.time)
            before, self._lineage = self._lineage.epoch, log.lineage
            if log.lineage.epoch == before:
                return False
            self._read_head = log.head
            if self._delivery is not None:
                handed_out = self._lineage.resolve(Position(before, self._delivery.head), log.head).offset
                self._delivery.begin(log.lineage.epoch, handed_out if resuming and before else log.head)
            return before != ""

    async def check_epoch(self) -> None:
        """Look at the epoch again, and tell the hub if it is another; see `EpochSource`."""
        # With what this hub knew it would take the log back from one that knows better.
        await self._link.check_primary()
        if await self._open_epoch() and self._listener is not None:
            if self._may_tell:
                self._listener.on_epoch_change()
            else:
                self._has_new_epoch = True

    async def writable_epoch(self) -> str:
        """Return the epoch once it is known to be that of the connections; see `EpochSource`."""
        await self._link.ready()
        try:
            async with asyncio.timeout(REPLY_TIMEOUT):
                await self._attached.wait()
        except TimeoutError:
            raise Lost("not connected") from None
        return self._lineage.epoch

    @property
    def lineage(self) -> Lineage:
        """The current epoch and those it continues."""
        return self._lineage

    @property
    def head(self) -> int:
        """The offset of the last entry handed out."""
        return self._read_head if self._delivery is None else self._delivery.head

    @property
    def lost_since(self) -> float | None:
        """Since when the server cannot be reached."""
        return self._link.lost_since

    def now(self) -> float:
        """Return the server's time, as read at the last check."""
        return self._clock.monotonic() + self._ahead

    def _set_time(self, time: float) -> None:
        self._ahead = time - self._clock.monotonic()

    # -- publishing and reading -------------------------------------------------------------------------

    async def publish(self, publications: Sequence[Publication]) -> list[int]:
        """Append all or nothing; see `Broker.publish`."""
        if not self._open:
            raise Unavailable("the log is closed", code="broker_closed")
        return await self._appender.publish(publications)

    async def newest(self) -> int:
        """Ask the log for the offset of its newest entry; see `Broker.newest`."""
        log = await self._read(CHECK)
        if log.epoch != self._lineage.epoch:
            await _reachable(self.check_epoch())
            return self.head
        return log.head

    async def history(
        self, topics: TopicSet, after: int, upto: int | None = None, *, limit: int, since: Mapping[str, float]
    ) -> Page:
        """Read one snapshot; see `Broker.history`."""
        query = query_of(topics, since)
        last = "" if upto is None else upto
        for attempt in range(2):
            try:
                return await self._read(HISTORY, self._lineage.epoch, after, last, limit, _PAGE_SIZE, query)
            except ResponseError as error:
                if attempt or not str(error).startswith("EPOCH"):
                    raise Unavailable(f"the log cannot be read: {error}", code="broker_refused") from None
                await _reachable(self.check_epoch())
        raise AssertionError("unreachable")

    async def _read(self, script: Script[Answer], *arguments: Argument) -> Answer:
        if not self._open:
            raise Unavailable("the log is closed", code="broker_closed")
        try:
            await self.writable_epoch()
            return await self._link.read(script, *arguments)
        except Lost:  # the link has logged why, which may name the server
            raise _out_of_reach() from None

    # -- listening --------------------------------------------------------------------------------------

    async def listen(self, names: Iterable[str]) -> int:
        """Make sure that these are delivered; see `Broker.listen`."""
        if self._delivery is None:
            return self.head
        return await self._delivery.listen(names)

    async def forget(self, names: Iterable[str]) -> None:
        """Stop delivering these; see `Broker.forget`."""
        if self._delivery is not None:
            self._delivery.forget(names)

    # -- comparing --------------------------------------------------------------------------------------

    def on_canary(self) -> None:
        """Compare soon; see `CanaryListener`."""
        self._check_soon.set()

    async def _check_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._check_interval):
                    await self._check_soon.wait()
            if self._link.lost_since is None:
                try:
                    await self._check()
                except Lost:
                    pass  # the link knows
                except ResponseError as error:
                    logger.warning("the log could not be checked", extra={"why": str(error)})
            await asyncio.sleep(min(_MIN_CHECK_INTERVAL, self._check_interval / 2))
            self._check_soon.clear()

    async def _check(self) -> None:
        assert self._delivery is not None
        if await self._link.check_primary():
            await self.check_epoch()
        log = await self._link.run(CHECK)
        self._set_time(log.time)
        if log.epoch != self._lineage.epoch:
            await self.check_epoch()
        else:
            await self._delivery.compare(log.head)


def _out_of_reach() -> Unavailable:
    return Unavailable("the log cannot be reached", code="broker_lost")


async def _reachable(work: Awaitable[None]) -> None:
    try:
        await work
    except (Lost, ResponseError):
        raise _out_of_reach() from None
