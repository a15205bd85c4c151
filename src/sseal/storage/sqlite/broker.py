"""The log as a hub sees it: a `Broker` in the event loop, the file behind it in threads."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from ...clock import Clock
from ...errors import SsealError, Unavailable
from ...position import Lineage
from ...subscription import TopicSet
from ..broker import Entry, LogListener, Page, Publication, Retention
from .append import append
from .database import Database
from .epochs import Tip, ensure_continuity, read_tip
from .history import HistoryQuery, pages
from .log import Log, keep, size_of
from .retention import trim
from .rows import micros
from .tail import Tail

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
        self._tip = Tip(Lineage(""), 0)  # the epochs this process knows, and the offset up to which it handed out
        self._listening_from = 0  # everything after this offset is delivered
        self._acknowledged = 0  # the highest offset `publish` has returned, or the log was seen to have
        self._continued_epoch = ""  # the epoch last found to continue `_tip`; set in the writing thread
        self._open = False
        self._listener: LogListener | None = None  # None while closed, and for a broker that only publishes
        self._tail: Tail | None = None

    async def open(self, listener: LogListener | None) -> None:
        """Open the file and hand every later entry to ``listener``; see `Broker.open`."""
        await self.close()
        await self._database.open("broker")
        self._open = True
        try:
            if self._retention is not None:
                await self._database.write(keep, self._retention)
            while await self._database.write(self._trim, None):
                continue
            self._take_over(await self._database.read(_tips, None))
            if listener is not None:
                self._listener = listener
                self._tail = Tail(self._tip, self)
                await self._database.listen(self._tail)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of the file when all that was being published is answered."""
        if not self._open:
            return
        self._open = False
        self._listener = None
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
        tip = await self._database.read(_tips, None)
        if tip.lineage.epoch == self._tip.lineage.epoch and tip.head >= self._tip.head:
            return tip.head
        if self._listener is not None:
            await self._database.look()
            tip = await self._database.read(_tips, None)
        else:
            tip = await self._database.write(_ensure_continuity, self._tip)
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
        offsets = await self._database.write(self._append, tuple(publications), size=size, wake=True)
        self._acknowledged = max(self._acknowledged, *offsets, 0)
        if self._listener is None and self._continued_epoch not in ("", self._tip.lineage.epoch):
            self._take_over(await self._database.read(_tips, None))
        return offsets

    async def history(
        self, topics: TopicSet, after: int, upto: int | None = None, *, limit: int, since: Mapping[str, float]
    ) -> Page:
        """Read one snapshot; see `Broker.history`."""
        now = micros(self.now())
        asked = HistoryQuery(topics=topics, after=after, upto=upto, limit=limit, since=since, now=now)
        page = await self._database.read(pages, asked, long=True)
        if page is None:
            with suppress(Unavailable):  # what cannot be trimmed now is still worth reading
                while await self._database.write(self._trim, None):
                    continue
            page = await self._database.read(pages, replace(asked, require_trimmed=False), long=True)
            assert page is not None
        return page

    async def listen(self, names: Iterable[str]) -> int:
        """Everything is delivered anyway, from where this hub began to read."""
        del names
        return self._listening_from

    async def forget(self, names: Iterable[str]) -> None:
        """Nothing to do: the next reader of these finds them delivered."""
        del names

    # What the tail tells, see `TailListener`.

    def on_entries(self, entries: Sequence[Entry], head: int) -> None:
        """Hand entries out."""
        self._tip = Tip(self._tip.lineage, head)
        if self._listener is None or not entries:
            return
        try:
            self._listener.on_entries(entries)
        except Exception:
            logger.exception("the hub failed to take events; their readers ask the history")
            self.on_gap(head)

    def on_gap(self, upto: int) -> None:
        """Pass on that entries are gone."""
        self._tip = Tip(self._tip.lineage, upto)
        self._listening_from = upto
        if self._listener is not None:
            self._listener.on_gap(None, upto)

    def on_epoch_change(self, tip: Tip, newest: int) -> None:
        """Go over to a new epoch."""
        logger.warning("sqlite: the log changed to epoch %s at offset %d", tip.lineage.epoch, tip.head)
        self._take_over(tip)
        self._acknowledged = newest  # the log must not fall behind what it was seen to have
        if self._listener is not None:
            self._listener.on_epoch_change()

    async def on_reconnect(self) -> None:
        """Let the hub do what it has to first."""
        if self._listener is not None:
            await self._listener.on_reconnect()

    def on_heartbeat(self, connection: sqlite3.Connection) -> None:
        """Trim one step; in the writing thread."""
        self._trim_step(connection)

    def _take_over(self, tip: Tip) -> None:
        self._tip, self._listening_from, self._acknowledged = tip, tip.head, tip.head

    def _append(
        self, connection: sqlite3.Connection, calls: Sequence[Sequence[Publication]]
    ) -> list[list[int] | SsealError]:
        """Append for several callers; in the writing thread."""
        log = Log.read(connection)
        known = Tip(self._tip.lineage, max(self._tip.head, self._acknowledged))
        epoch = known.lineage.epoch
        if log.epoch not in (epoch, self._continued_epoch) or (log.epoch == epoch and log.head < known.head):
            self._continued_epoch = ensure_continuity(connection, known).lineage.epoch
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


def _ensure_continuity(connection: sqlite3.Connection, known: Sequence[Tip]) -> list[Tip]:
    return [ensure_continuity(connection, tip) for tip in known]


def _nothing(connection: sqlite3.Connection, items: Sequence[None]) -> list[None]:
    del connection
    return [None] * len(items)
