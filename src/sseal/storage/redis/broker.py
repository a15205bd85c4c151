"""The log on a Redis or Valkey server: what is one log there, and what a hub sees of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from redis.exceptions import ResponseError

from ...clock import Clock
from ...errors import Unavailable
from ...position import EPOCH_ALPHABET, EPOCH_LENGTH, Lineage, Position
from ...subscription import TopicSet
from ..broker import LogListener, Page, Publication, Retention
from .append import Appender
from .codec import entry_of, query_of
from .connection import PATIENCE, Argument
from .errors import Lost
from .link import Link
from .listening import Listener
from .script import Script
from .scripts import CHECK, HISTORY, OPEN

__all__ = ["RedisBroker"]

logger = logging.getLogger(__name__)

CHECK_EVERY: Final = 5.0
"""Seconds between comparisons of what has come with what the log holds (W8)."""
_CANARY_REST: Final = 1.0
"""Seconds at least between two of them, however many canaries pass."""
_PAGE_SIZE: Final = 1024 * 1024
"""Bytes in a page of the history, so that no page takes long on its way."""


class RedisBroker:
    """One log for all hubs that share a server and a prefix.

    :param link: the connections, shared with the store of the same server.
    :param retention: what a hub wants kept; None for what the log was told last.
    """

    def __init__(
        self, link: Link, clock: Clock, retention: Retention | None = None, *, check_every: float = CHECK_EVERY
    ) -> None:
        self._link = link
        self._clock = clock
        self._retention = retention
        self._check_every = check_every
        self._lineage = Lineage("")
        self._read_head = 0
        self._ahead = 0.0
        self._appender = Appender(link, self._writable, self._turn)
        self._intake: LogListener | None = None
        self._listener: Listener | None = None
        self._attached = asyncio.Event()
        self._verifying = asyncio.Lock()
        self._poke = asyncio.Event()
        self._checking: asyncio.Task[None] | None = None
        self._may_tell = False
        self._has_turned = False
        self._open = False

    async def open(self, intake: LogListener | None) -> None:
        """Connect and hand every later entry of the topics listened to to ``intake``; see `Broker.open`."""
        if self._open:
            return
        self._intake, self._lineage = intake, Lineage("")
        if intake is not None:
            self._listener = Listener(self._link, intake, self._turn, self._poke.set)
        await self._link.open(self)
        self._open, self._may_tell, self._has_turned = True, True, False
        if intake is not None:
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
        if self._listener is not None:
            await self._listener.close()
        await self._link.close(self)
        self._attached.clear()

    # -- what the link asks -----------------------------------------------------------------------------

    async def attach(self) -> None:
        """Find out which epoch the log is in, and subscribe; see `User`."""
        if await self._verify(resuming=True):
            self._has_turned = True
        if self._listener is not None:
            await self._listener.attach()
        self._attached.set()

    async def resume(self) -> None:
        """Hand out what was missed, after what has to come first (W17); see `User`."""
        if self._intake is None or self._listener is None:
            return
        await self._intake.on_reconnect()
        self._may_tell = True
        if self._has_turned:
            self._has_turned = False
            self._intake.on_epoch_change()
        await self._listener.resume()

    def detach(self) -> None:
        """Stop using the connections; see `User`."""
        self._attached.clear()
        self._may_tell = False
        if self._listener is not None:
            self._listener.detach()

    # -- the epoch --------------------------------------------------------------------------------------

    async def _verify(self, *, resuming: bool = False) -> bool:
        """Prove that this is the log it was, or go over to a new epoch (W10); tell whether it is a new one.

        :param resuming: `resume` follows and hands out what is missing, so the log counts as handed out up to where
            this hub and the new epoch agree: streams that have all of that need not read it again.
        """
        async with self._verifying:
            keep = self._retention or Retention()
            fresh = "".join(secrets.choice(EPOCH_ALPHABET) for _ in range(EPOCH_LENGTH))
            server = self._link.server
            rules = 0 if self._retention is None else 1
            seen = " ".join(f"{epoch}:{last}" for epoch, last in self._lineage.known())
            answer = await self._link.run(
                OPEN, server.run_id, server.replid, fresh, keep.count, keep.age, keep.size, rules, seen
            )
            epoch, head = answer[0].decode(), int(answer[1])
            self._set_time(answer[3])
            older = (pair.partition(":") for pair in answer[2].decode().split())
            before = self._lineage.epoch
            self._lineage = Lineage(epoch, tuple((name, int(last)) for name, _, last in older))
            if epoch == before:
                return False
            self._read_head = head
            if self._listener is not None:
                handed_out = self._lineage.resolve(Position(before, self._listener.head), head).offset
                self._listener.begin(epoch, handed_out if resuming and before else head)
            return before != ""

    async def _turn(self) -> None:
        """Look at the epoch again, and tell the hub if it is another.

        :raises Lost: the connection is gone.
        """
        await self._link.look()  # with what this hub knew it would take the log back from one that knows better
        if await self._verify() and self._intake is not None:
            if self._may_tell:
                self._intake.on_epoch_change()
            else:
                self._has_turned = True

    async def _writable(self) -> str:
        """Return the epoch once the connection has been verified.

        :raises Lost: there is none in time.
        """
        await self._link.ready()
        try:
            async with asyncio.timeout(PATIENCE):
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
        return self._read_head if self._listener is None else self._listener.head

    @property
    def lost_since(self) -> float | None:
        """Since when the server cannot be reached."""
        return self._link.lost_since

    def now(self) -> float:
        """Return the server's time, as read at the last check."""
        return self._clock.monotonic() + self._ahead

    def _set_time(self, text: bytes) -> None:
        self._ahead = float(text) - self._clock.monotonic()

    # -- publishing and reading -------------------------------------------------------------------------

    async def publish(self, publications: Sequence[Publication]) -> list[int]:
        """Append all or nothing; see `Broker.publish`."""
        if not self._open:
            raise Unavailable("the log is closed", code="broker_closed")
        return await self._appender.publish(publications)

    async def newest(self) -> int:
        """Ask the log for the offset of its newest entry; see `Broker.newest`."""
        answer = await self._ask(CHECK)
        if answer[0].decode() != self._lineage.epoch:
            await self._guarded(self._turn())
            return self.head
        return int(answer[1])

    async def history(
        self, topics: TopicSet, after: int, upto: int | None = None, *, limit: int, since: Mapping[str, float]
    ) -> Page:
        """Read one snapshot; see `Broker.history`."""
        query = query_of(topics, since)
        last = "" if upto is None else upto
        for attempt in range(2):
            try:
                answer = await self._ask(HISTORY, self._lineage.epoch, after, last, limit, _PAGE_SIZE, query)
                break
            except ResponseError as error:
                if attempt or not str(error).startswith("EPOCH"):
                    raise Unavailable(f"the log cannot be read: {error}", code="broker_refused") from None
                await self._guarded(self._turn())
        return Page([entry_of(item) for item in answer[3]], int(answer[0]), bool(answer[1]), int(answer[2]))

    async def _ask(self, script: Script, *arguments: Argument) -> Any:
        if not self._open:
            raise Unavailable("the log is closed", code="broker_closed")
        try:
            await self._writable()
            return await self._link.read(script, *arguments)
        except Lost:  # the link has logged why, which may name the server
            raise Unavailable("the log cannot be reached", code="broker_lost") from None

    async def _guarded(self, work: Any) -> None:
        try:
            await work
        except (Lost, ResponseError):
            raise Unavailable("the log cannot be reached", code="broker_lost") from None

    # -- listening --------------------------------------------------------------------------------------

    async def listen(self, names: Iterable[str]) -> int:
        """Make sure that these are delivered; see `Broker.listen`."""
        if self._listener is None:
            return self.head
        return await self._listener.listen(names)

    async def forget(self, names: Iterable[str]) -> None:
        """Stop delivering these; see `Broker.forget`."""
        if self._listener is not None:
            self._listener.forget(names)

    async def _check_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._check_every):
                    await self._poke.wait()
            if self._link.lost_since is None:
                try:
                    await self._check()
                except Lost:
                    pass  # the link knows
                except ResponseError as error:
                    logger.warning("the log could not be checked", extra={"why": str(error)})
            await asyncio.sleep(min(_CANARY_REST, self._check_every / 2))
            self._poke.clear()

    async def _check(self) -> None:
        assert self._listener is not None
        if await self._link.look():
            await self._turn()
        epoch, head, time = await self._link.run(CHECK)
        self._set_time(time)
        if epoch.decode() != self._lineage.epoch:
            await self._turn()
        else:
            await self._listener.compare(int(head))
