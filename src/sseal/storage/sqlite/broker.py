"""The log as a hub sees it: a `Broker` in the event loop, the file behind it in threads."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ...clock import Clock
from ...errors import Unavailable
from ...position import Lineage
from ...subscription import TopicSet
from ..broker import Entry, LogListener, Page, Publication, Retention
from .append import append
from .database import Database
from .epochs import Tip, read_tip, settle
from .history import Question, pages
from .log import Log, keep, size_of
from .retention import trim
from .rows import micros
from .tail import Receiver, Tail

__all__ = ["SqliteBroker"]

logger = logging.getLogger("sseal.sqlite")


class SqliteBroker:
    """A log in one file; every process of the machine that opens it is equal.

    What is published is on the disk when `publish` returns (W10). A hub hands out only what it has read back (W28).

    :param database: the file; a store may share it.
    :param clock: where publishing times come from.
    :param retention: how much to keep, stored in the file for everybody; None for what is stored there.
    """

    def __init__(self, database: Database, clock: Clock, retention: Retention | None = None) -> None:
        self._database = database
        self._clock = clock
        self._retention = retention
        self._tip = Tip(Lineage(""), 0)
        self._from = 0
        self._acknowledged = 0
        self._settled = ""
        self._open = False
        self._intake: LogListener | None = None
        self._tail: Tail | None = None

    async def open(self, intake: LogListener | None) -> None:
        """Open the file and hand every later entry to ``intake``; see `Broker.open`."""
        await self.close()
        await self._database.open("broker")
        self._open = True
        try:
            if self._retention is not None:
                await self._database.write(keep, self._retention)
            while await self._database.write(self._trim, None):
                continue
            self._take_over(await self._database.read(_tips, None))
            if intake is not None:
                self._intake = intake
                receiver = Receiver(self._deliver, self._missed, self._turned, intake.on_reconnect, self._trim_step)
                self._tail = Tail(self._tip, receiver)
                await self._database.listen(self._tail)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of the file when all that was being published is answered."""
        if not self._open:
            return
        self._open = False
        self._intake = None
        if self._tail is not None:
            await self._database.unlisten(self._tail)
            self._tail = None
        with suppress(Unavailable):
            await self._database.write(_nothing, None)  # answered with or after all that waits
        await self._database.close()

    @property
    def lineage(self) -> Lineage:
        """The current epoch and those it continues."""
        return self._tip.lineage

    @property
    def head(self) -> int:
        """The offset of the last entry handed out."""
        return self._tip.head

    @property
    def lost_since(self) -> float | None:
        """Since when the file cannot be read."""
        return self._database.lost_since if self._open else None

    async def newest(self) -> int:
        """Ask the file; see `Broker.newest`."""
        tip: Tip = await self._database.read(_tips, None)
        if tip.lineage.epoch == self._tip.lineage.epoch and tip.head >= self._tip.head:
            return tip.head
        if self._intake is not None:
            await self._database.look()
            tip = await self._database.read(_tips, None)
        else:
            tip = await self._database.write(_settle, self._tip)
            self._take_over(tip)
        return tip.head

    def now(self) -> float:
        """Return the time of the machine, which all processes on the file share."""
        return self._clock.wall()

    async def publish(self, publications: Sequence[Publication]) -> list[int]:
        """Append all or nothing; see `Broker.publish`."""
        if not self._open:
            raise Unavailable("the log is closed", code="broker_closed")
        size = sum(size_of(publication) for publication in publications)
        offsets: list[int] = await self._database.write(self._append, tuple(publications), size=size, wake=True)
        self._acknowledged = max(self._acknowledged, *offsets, 0)
        if self._intake is None and self._settled not in ("", self._tip.lineage.epoch):
            self._take_over(await self._database.read(_tips, None))
        return offsets

    async def history(
        self, topics: TopicSet, after: int, upto: int | None = None, *, limit: int, since: Mapping[str, float]
    ) -> Page:
        """Read one snapshot; see `Broker.history`."""
        now = micros(self.now())
        asked = Question(topics=topics, after=after, upto=upto, limit=limit, since=since, now=now)
        page: Page | None = await self._database.read(pages, asked, long=True)
        if page is None:
            with suppress(Unavailable):  # what cannot be trimmed now is still worth reading
                while await self._database.write(self._trim, None):
                    continue
            page = await self._database.read(pages, replace(asked, patient=False), long=True)
            assert page is not None
        return page

    async def listen(self, names: Iterable[str]) -> int:
        """Everything is delivered anyway, from where this hub began to read."""
        del names
        return self._from

    async def forget(self, names: Iterable[str]) -> None:
        """Nothing to do: the next reader of these finds them delivered."""
        del names

    def _take_over(self, tip: Tip) -> None:
        self._tip, self._from, self._acknowledged = tip, tip.head, tip.head

    def _deliver(self, entries: Sequence[Entry], head: int) -> None:
        self._tip = Tip(self._tip.lineage, head)
        if self._intake is None or not entries:
            return
        try:
            self._intake.on_entries(entries)
        except Exception:
            logger.exception("the hub failed to take events; their readers ask the history")
            self._missed(head)

    def _missed(self, upto: int) -> None:
        self._tip = Tip(self._tip.lineage, upto)
        self._from = upto
        if self._intake is not None:
            self._intake.on_gap(None, upto)

    def _turned(self, tip: Tip, newest: int) -> None:
        logger.warning("sqlite: the log turned to epoch %s at offset %d", tip.lineage.epoch, tip.head)
        self._take_over(tip)
        self._acknowledged = newest  # the log must not fall behind what it was seen to have
        if self._intake is not None:
            self._intake.on_epoch_change()

    def _append(self, connection: sqlite3.Connection, calls: Sequence[Sequence[Publication]]) -> list[Any]:
        """Append for several callers; in the writing thread."""
        log = Log.read(connection)
        known = Tip(self._tip.lineage, max(self._tip.head, self._acknowledged))
        epoch = known.lineage.epoch
        if log.epoch not in (epoch, self._settled) or (log.epoch == epoch and log.head < known.head):
            self._settled = settle(connection, known).lineage.epoch
            log = Log.read(connection)
        return append(connection, log, calls, micros(self.now()))

    def _trim(self, connection: sqlite3.Connection, items: Sequence[None]) -> list[bool]:
        return [self._trim_step(connection)] * len(items)

    def _trim_step(self, connection: sqlite3.Connection) -> bool:
        log = Log.read(connection)
        more = trim(connection, log, micros(self.now()))
        log.save(connection)
        return more


def _tips(connection: sqlite3.Connection, items: Sequence[None]) -> list[Tip]:
    return [read_tip(connection)] * len(items)


def _settle(connection: sqlite3.Connection, known: Sequence[Tip]) -> list[Tip]:
    return [settle(connection, tip) for tip in known]


def _nothing(connection: sqlite3.Connection, items: Sequence[None]) -> list[None]:
    del connection
    return [None] * len(items)
