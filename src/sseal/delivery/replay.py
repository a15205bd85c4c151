"""Streams that catch up: from the shared window, from pages that others have just read, or from the log itself."""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Sequence
from functools import partial
from typing import Final

from .. import wire
from ..clock import Clock
from ..errors import Unavailable
from ..position import Position
from ..storage import Broker
from ..stream import reasons
from ..stream.connection import HIGH_WATER, Connection, Sink
from ..stream.states import Input, State
from ..subscription import Subscription
from .background import BackgroundTasks
from .open_streams import OpenStreams
from .page_cache import CachedPage, Key, PageCache
from .slow_readers import SlowReaders
from .stats import Stats
from .window import Frame, Framer, Window

__all__ = ["HISTORY_TIMEOUT", "Replay"]

PAGE_SIZE: Final = 500
"""Entries of one history page: about the high-water mark in ordinary events."""
HISTORY_TIMEOUT: Final = 5.0
"""Seconds a stream goes on asking for a history that cannot be read, while the log as such is in reach."""

logger = logging.getLogger("sseal.delivery")


class Replay:
    """Brings streams from where they are to the head, at the pace of their readers.

    :param at_once: streams that read the log at the same time; the others wait their turn.
    """

    def __init__(
        self,
        broker: Broker,
        window: Window,
        streams: OpenStreams,
        slow_readers: SlowReaders,
        tasks: BackgroundTasks,
        clock: Clock,
        stats: Stats,
        at_once: int,
    ) -> None:
        self._broker = broker
        self._window = window
        self._streams = streams
        self._slow_readers = slow_readers
        self._tasks = tasks
        self._clock = clock
        self._stats = stats
        self._turns = asyncio.Semaphore(max(1, at_once))
        self._reads: dict[Key, asyncio.Task[CachedPage]] = {}  # under way, by epoch, key of the page, and offset
        self._cache = PageCache()
        self._waiting: dict[Connection, float] = {}  # since when (monotonic) a stream waits for a log out of reach

    def read_on(self, connection: Connection) -> None:
        """Let a stream that is catching up read on as far as its sink has room; called when it may have room again."""
        sink = connection.sink
        if not _catching_up(connection) or sink is None or connection.reading or sink.buffered > HIGH_WATER:
            return
        connection.progress(self._clock.monotonic())
        try:
            self._read_step(connection, sink)
        except Exception:
            logger.exception("stream %s: what it missed could not be written", connection.id)
            self._streams.close_retryable(connection, reasons.UNAVAILABLE)

    def _read_step(self, connection: Connection, sink: Sink) -> None:
        if not self.needs_history(connection):
            if connection.gap is not None:
                self._write_gap(connection, connection.position)
            self._read_window(connection, sink)
            return
        page = self._cache.find(self._key(connection.subscription), connection.position)
        if page is None or not self._settled(connection, page):
            connection.reading = True
            self._tasks.spawn(self._read_history(connection))
        elif self._write_page(connection, sink, page):
            self._later(connection)

    def needs_history(self, connection: Connection) -> bool:
        """Tell whether the window does not hold what a stream missed."""
        return connection.from_oldest or not self._window.covers(connection.subscription.topics, connection.position)

    def replayable(self, connection: Connection) -> bool:
        """Tell whether a stream can be given what it missed: by the window, or by a log that is in reach."""
        return self._broker.lost_since is None or not self.needs_history(connection)

    def restart(self, connection: Connection) -> None:
        """Have a stream read the log from its own position, whatever was written to it as a live one."""
        if connection.state is State.LIVE:
            connection.apply(Input.STALLED)
        self._later(connection)

    def restart_live(self) -> None:
        """Restart every live stream, so that a failed fan-out loses nothing."""
        for connection in list(self._streams.index.by_id.values()):
            if connection.state is State.LIVE:
                self.restart(connection)

    def forget(self) -> None:
        """Forget what was read: the log was found to be another, or to hold more than was handed out."""
        self._cache.clear()

    def tick(self, now: float, oldest: float) -> None:
        """Let those ask again that wait for a log that could not be read; tidy up.

        :param oldest: Unix seconds before which nothing is retained.
        """
        self._cache.tidy(now, self._window.head, oldest)
        for connection, since in list(self._waiting.items()):
            if not _catching_up(connection):
                del self._waiting[connection]
            elif self._broker.lost_since is None and now > since:
                self.read_on(connection)

    def stop(self) -> None:
        """Stop what is under way."""
        for task in list(self._reads.values()):
            task.cancel()

    # -- from the window --------------------------------------------------------------------------------

    def _read_window(self, connection: Connection, sink: Sink) -> None:
        window = self._window
        page = self._from_window(connection.subscription, connection.position)
        # The history may have given more than this hub has been handed out so far: a position may be ahead of it.
        if not self._write_page(connection, sink, page):
            return
        if page.upto == window.head:
            connection.apply(Input.CAUGHT_UP)
        else:
            self._later(connection)

    def _from_window(self, subscription: Subscription, after: int) -> CachedPage:
        """Return what comes after an offset that the window covers."""
        key, now, window = self._key(subscription), self._clock.monotonic(), self._window
        found = self._cache.tip(key, after, window.head) or self._cache.find(key, after)
        # The log may have lost what the window still holds.
        if found is not None and found.lost <= after:
            return found
        frames, upto = window.read(subscription.topics, after)
        page = CachedPage(frames, after, upto)
        if frames and upto < window.head:
            self._cache.add(key, page, now)
        elif frames:
            self._cache.add_tip(key, page, now)
        return page

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
            self._streams.close_retryable(connection, reasons.UNAVAILABLE)
        finally:
            connection.reading = False
        self.read_on(connection)

    def _read_later(self, connection: Connection, error: Unavailable) -> None:
        """Let a stream wait for a history that cannot be read now; an open stream stays open (W17 ends it)."""
        now = self._clock.monotonic()
        if connection.state is State.CLOSED:
            return
        since = self._waiting.setdefault(connection, now)
        if self._broker.lost_since is None and now - since > HISTORY_TIMEOUT:
            logger.warning("stream %s: the history cannot be read: %s", connection.id, error)
            self._streams.close_retryable(connection, reasons.UNAVAILABLE)

    async def _read_pages(self, connection: Connection) -> None:
        """Write history until the window takes over, the sink is full, or the stream is at an end."""
        window, more = self._window, True
        while more and _catching_up(connection) and (sink := connection.sink) is not None:
            epoch = window.epoch
            page = await self._page(connection.subscription, connection.position)
            if not _catching_up(connection):
                return
            if epoch != window.epoch:
                continue  # what was read counts no more; the stream may stand elsewhere now
            connection.oldest_found()
            if page.lost > connection.position:
                connection.gap = connection.gap or "trimmed"
                self._write_gap(connection, page.lost)
                connection.skip_to(page.lost)
            elif connection.gap is not None:
                self._write_gap(connection, connection.position)
            if not self._write_page(connection, sink, page):
                return
            more = page.upto > page.after and self.needs_history(connection)
            await asyncio.sleep(0)

    async def _page(self, subscription: Subscription, after: int) -> CachedPage:
        """Read one page of the history; streams that ask for the same at the same time share one read."""
        key = self._key(subscription)
        found = self._cache.find(key, after)
        if found is not None:
            return found
        asked = (self._window.epoch, *key, after)
        read = self._reads.get(asked)
        if read is None:
            read = self._reads[asked] = asyncio.create_task(self._read(subscription, key, after))
            read.add_done_callback(partial(self._read_done, asked))
        return await asyncio.shield(read)

    async def _read(self, subscription: Subscription, key: Key, after: int) -> CachedPage:
        epoch = self._window.epoch
        self._stats.history_reads += 1
        read = await self._broker.history(subscription.topics, after, limit=PAGE_SIZE, since=subscription.since)
        page = CachedPage([Frame(entry, epoch) for entry in read.entries], after, read.upto, read.lost)
        if read.more and epoch == self._window.epoch:
            self._cache.add(key, page, self._clock.monotonic())
        return page

    def _read_done(self, asked: Key, read: asyncio.Task[CachedPage]) -> None:
        del self._reads[asked]
        if not read.cancelled():
            read.exception()  # whoever asked has got it; if they have all left, nobody need know

    def _key(self, subscription: Subscription) -> Key:
        """Return what two streams must have in common to be given the same page: topics, and from when (W21)."""
        return subscription.topics.names, tuple(sorted(subscription.since.items()))

    def _settled(self, connection: Connection, page: CachedPage) -> bool:
        """Tell whether a stream may be given a page with nothing to be announced before."""
        return not connection.from_oldest and connection.gap is None and page.lost <= connection.position

    # -- to the stream ----------------------------------------------------------------------------------

    def _write_page(self, connection: Connection, sink: Sink, page: CachedPage) -> bool:
        """Write what a page holds after the stream's position; return False when its sink is full."""
        now = self._broker.now()
        for index in range(bisect_right(page.ends, connection.position), len(page.ends)):
            framer = page.slices[index]
            frames = framer.frames
            if frames[0].offset > connection.position:
                self._write(connection, sink, frames, framer if page.soonest > now else None)
            else:
                self._write(connection, sink, [frame for frame in frames if frame.offset > connection.position])
            if sink.buffered > HIGH_WATER:
                self._slow_readers.on_full(connection)
                return False
        connection.skip_to(page.upto)
        return True

    def _write(self, connection: Connection, sink: Sink, frames: Sequence[Frame], framer: Framer | None = None) -> None:
        """Write frames and move the stream behind them.

        :param framer: the shared bytes of all of them, if there are such and none has outlived its time.
        """
        subscription, mine = connection.subscription, frames
        if framer is None:
            now = self._broker.now()
            mine = [frame for frame in frames if frame.alive(now)]
        if subscription.since:
            mine = [f for f in mine if subscription.visible(f.entry.topics, f.entry.published_at)]
        if framer is None or len(mine) < len(frames):
            framer = Framer(mine)
        connection.written(frames[-1].offset, len(mine))
        if mine:
            sink.put(framer.encode(connection))
            self._stats.delivered += len(mine)
            self._stats.writes += 1

    def _write_gap(self, connection: Connection, offset: int) -> None:
        """Announce that something was missed, and the position after which the stream goes on (W25)."""
        assert connection.sink is not None
        assert connection.gap is not None
        epoch = self._window.epoch
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
        connection.gap_announced()
        self._stats.gaps += 1

    def _later(self, connection: Connection) -> None:
        """Let it read on in a later turn of the loop, so that others have theirs."""
        asyncio.get_running_loop().call_soon(self.read_on, connection)


def _catching_up(connection: Connection) -> bool:
    return connection.state is State.CATCHING_UP
