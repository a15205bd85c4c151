"""Streams that catch up: from the shared window, from pages that others have just read, or from the log itself."""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Protocol

from .. import wire
from ..clock import Clock
from ..errors import Unavailable
from ..position import Position
from ..storage import Broker
from ..stream import reasons
from ..stream.connection import HIGH_WATER, Connection, Sink
from ..stream.reasons import CloseReason
from ..stream.states import Input, State
from ..subscription import Subscription
from .page_cache import Key, Sheet, Shelf
from .stats import Stats
from .window import Frame, Framer, Window

__all__ = ["PATIENCE", "Host", "Replay"]

PAGE_SIZE: Final = 500
"""Entries of one history page: about the high-water mark in ordinary events."""
PATIENCE: Final = 5.0
"""Seconds a stream goes on asking for a history that cannot be read, while the log as such is in reach."""

logger = logging.getLogger("sseal.delivery")


class Host(Protocol):
    """What a replay needs of the node around it."""

    broker: Broker
    clock: Clock
    window: Window
    epoch: str
    stats: Stats

    def close_retryable(self, connection: Connection, reason: CloseReason) -> None:
        """End a stream that may come back in a while."""
        ...

    def spawn(self, work: Awaitable[None]) -> None:
        """Run something in the background, until the node stops."""
        ...


class Replay:
    """Brings streams from where they are to the head, at the pace of their readers.

    :param host: the engine.
    :param at_once: streams that read the log at the same time; the others wait their turn.
    """

    def __init__(self, host: Host, at_once: int) -> None:
        self._host = host
        self._turns = asyncio.Semaphore(max(1, at_once))
        self._reads: dict[Key, asyncio.Task[Sheet]] = {}
        self._shelf = Shelf()
        self._waiting: dict[Connection, float] = {}

    def pump(self, connection: Connection) -> None:
        """Let a stream that is catching up read on as far as its sink has room; called when the sink drained."""
        sink = connection.sink
        if not _catching_up(connection) or sink is None or connection.reading or sink.buffered > HIGH_WATER:
            return
        connection.progress_at = self._host.clock.monotonic()
        try:
            self._read_on(connection, sink)
        except Exception:
            logger.exception("stream %s: what it missed could not be written", connection.id)
            self._host.close_retryable(connection, reasons.UNAVAILABLE)

    def _read_on(self, connection: Connection, sink: Sink) -> None:
        if not self.needs_history(connection):
            if connection.gap is not None:
                self._write_gap(connection, connection.position)
            self._read_window(connection, sink)
            return
        sheet = self._shelf.find(self._key(connection.subscription), connection.position)
        if sheet is None or not self._settled(connection, sheet):
            connection.reading = True
            self._host.spawn(self._read_history(connection))
        elif self._write_sheet(connection, sink, sheet):
            self._later(self.pump, connection)

    def needs_history(self, connection: Connection) -> bool:
        """Tell whether the window does not hold what a stream missed."""
        return connection.from_oldest or not self._host.window.covers(
            connection.subscription.topics, connection.position
        )

    def stall(self, connection: Connection) -> None:
        """Let a stream wait until its sink has room."""
        connection.progress_at = self._host.clock.monotonic()
        connection.apply(Input.STALLED)

    def forget(self) -> None:
        """Forget what was read: the log was found to be another, or to hold more than was handed out."""
        self._shelf.clear()

    def tick(self, now: float, oldest: float) -> None:
        """Let those ask again that wait for a log that could not be read; tidy up.

        :param oldest: Unix seconds before which nothing is retained.
        """
        self._shelf.tidy(now, self._host.window.head, oldest)
        for connection, since in list(self._waiting.items()):
            if not _catching_up(connection):
                del self._waiting[connection]
            elif self._host.broker.lost_since is None and now > since:
                self.pump(connection)

    def stop(self) -> None:
        """Stop what is under way."""
        for task in list(self._reads.values()):
            task.cancel()

    # -- from the window --------------------------------------------------------------------------------

    def _read_window(self, connection: Connection, sink: Sink) -> None:
        window = self._host.window
        sheet = self._from_window(connection.subscription, connection.position)
        # The history may have given more than this hub has been handed out so far: a position may be ahead of it.
        if not self._write_sheet(connection, sink, sheet):
            return
        if sheet.upto == window.head:
            connection.apply(Input.CAUGHT_UP)
        else:
            self._later(self.pump, connection)

    def _from_window(self, subscription: Subscription, after: int) -> Sheet:
        """Return what comes after an offset that the window covers."""
        key, now, window = self._key(subscription), self._host.clock.monotonic(), self._host.window
        found = self._shelf.tip(key, after, window.head) or self._shelf.find(key, after)
        # The log may have lost what the window still holds.
        if found is not None and found.lost <= after:
            return found
        frames, upto = window.read(subscription.topics, after)
        sheet = Sheet(frames, after, upto)
        if frames and upto < window.head:
            self._shelf.add(key, sheet, now)
        elif frames:
            self._shelf.add_tip(key, sheet, now)
        return sheet

    # -- from the log -----------------------------------------------------------------------------------

    async def _read_history(self, connection: Connection) -> None:
        try:
            async with self._turns:
                await self._read_pages(connection)
            self._waiting.pop(connection, None)
        except Unavailable as error:
            connection.reading = False
            self._read_later(connection, error)
            return
        except Exception:
            logger.exception("stream %s: the history could not be written", connection.id)
            self._host.close_retryable(connection, reasons.UNAVAILABLE)
        finally:
            connection.reading = False
        self.pump(connection)

    def _read_later(self, connection: Connection, error: Unavailable) -> None:
        """Let a stream wait for a history that cannot be read now; an open stream stays open (W17 ends it)."""
        now = self._host.clock.monotonic()
        if connection.state is State.CLOSED:
            return
        since = self._waiting.setdefault(connection, now)
        if self._host.broker.lost_since is None and now - since > PATIENCE:
            logger.warning("stream %s: the history cannot be read: %s", connection.id, error)
            self._host.close_retryable(connection, reasons.UNAVAILABLE)

    async def _read_pages(self, connection: Connection) -> None:
        """Write history until the window takes over, the sink is full, or the stream is at an end."""
        host, more = self._host, True
        while more and _catching_up(connection) and (sink := connection.sink) is not None:
            epoch = host.epoch
            sheet = await self._sheet(connection.subscription, connection.position)
            if not _catching_up(connection):
                return
            if epoch != host.epoch:
                continue  # what was read counts no more; the stream may stand elsewhere now
            connection.from_oldest = False
            if sheet.lost > connection.position:
                connection.gap = connection.gap or "trimmed"
                self._write_gap(connection, sheet.lost)
                connection.position = sheet.lost
            elif connection.gap is not None:
                self._write_gap(connection, connection.position)
            if not self._write_sheet(connection, sink, sheet):
                return
            more = sheet.upto > sheet.after and self.needs_history(connection)
            await asyncio.sleep(0)

    async def _sheet(self, subscription: Subscription, after: int) -> Sheet:
        """Read one page of the history; streams that ask for the same at the same time share one read."""
        key = self._key(subscription)
        found = self._shelf.find(key, after)
        if found is not None:
            return found
        asked = (self._host.epoch, *key, after)
        read = self._reads.get(asked)
        if read is None:
            read = self._reads[asked] = asyncio.create_task(self._read(subscription, key, after))
            read.add_done_callback(partial(self._read_done, asked))
        return await asyncio.shield(read)

    async def _read(self, subscription: Subscription, key: Key, after: int) -> Sheet:
        host, epoch = self._host, self._host.epoch
        host.stats.history_reads += 1
        page = await host.broker.history(subscription.topics, after, limit=PAGE_SIZE, since=subscription.since)
        sheet = Sheet([Frame(entry, epoch) for entry in page.entries], after, page.upto, page.lost)
        if page.more and epoch == host.epoch:
            self._shelf.add(key, sheet, host.clock.monotonic())
        return sheet

    def _read_done(self, asked: Key, read: asyncio.Task[Sheet]) -> None:
        del self._reads[asked]
        if not read.cancelled():
            read.exception()  # whoever asked has got it; if they have all left, nobody need know

    def _key(self, subscription: Subscription) -> Key:
        """Return what two streams must have in common to be given the same page: topics, and from when (W21)."""
        return subscription.topics.names, tuple(sorted(subscription.since.items()))

    def _settled(self, connection: Connection, sheet: Sheet) -> bool:
        """Tell whether a stream may be given a page with nothing to be announced before."""
        return not connection.from_oldest and connection.gap is None and sheet.lost <= connection.position

    # -- to the stream ----------------------------------------------------------------------------------

    def _write_sheet(self, connection: Connection, sink: Sink, sheet: Sheet) -> bool:
        """Write what a page holds after the stream's position; return False when its sink is full."""
        now = self._host.broker.now()
        for index in range(bisect_right(sheet.ends, connection.position), len(sheet.ends)):
            framer = sheet.slices[index]
            frames = framer.frames
            if frames[0].offset > connection.position:
                self._write(connection, sink, frames, framer if sheet.soonest > now else None)
            else:
                self._write(connection, sink, [frame for frame in frames if frame.offset > connection.position])
            if sink.buffered > HIGH_WATER:
                self.stall(connection)
                return False
        connection.position = max(connection.position, sheet.upto)
        return True

    def _write(self, connection: Connection, sink: Sink, frames: Sequence[Frame], framer: Framer | None = None) -> None:
        """Write frames and move the stream behind them.

        :param framer: the shared bytes of all of them, if there are such and none has outlived its time.
        """
        subscription, mine = connection.subscription, frames
        if framer is None:
            now = self._host.broker.now()
            mine = [frame for frame in frames if frame.alive(now)]
        if subscription.since:
            mine = [f for f in mine if subscription.visible(f.entry.topics, f.entry.published_at)]
        if framer is None or len(mine) < len(frames):
            framer = Framer(mine)
        connection.position = frames[-1].offset
        if mine:
            sink.put(framer.encode(connection))
            connection.delivered += len(mine)
            self._host.stats.delivered += len(mine)
            self._host.stats.writes += 1

    def _write_gap(self, connection: Connection, offset: int) -> None:
        """Announce that something was missed, and the position after which the stream goes on (W25)."""
        assert connection.sink is not None
        assert connection.gap is not None
        epoch = self._host.epoch
        to = Position(epoch, offset)
        start = connection.presented or Position(epoch, connection.position)
        unknown = connection.gap == "unknown_position"
        connection.sink.write(
            wire.gap_event(
                from_=None if unknown else str(start),
                to=str(to),
                reason=connection.gap,
                id=connection.event_id(to),
            )
        )
        connection.gap = None
        connection.presented = None
        self._host.stats.gaps += 1

    def _later(self, step: Callable[[Connection], None], connection: Connection) -> None:
        asyncio.get_running_loop().call_soon(step, connection)


def _catching_up(connection: Connection) -> bool:
    return connection.state is State.CATCHING_UP
