"""What a hub is handed of the log: in order, each event once, never past a hole (W24).

The messages of one connection come in the order of the log, so nothing is missing as long as it lives. ``head`` is
the last offset handed out; ``complete`` that up to which everything listened to is known to have been. While
something has to be read from the log itself, because the connection was lost or a message names a predecessor nobody
has seen, messages are held and follow afterwards.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol

from redis.exceptions import ResponseError

from ..broker import CANARY_ROOT, Entry, LogListener
from .append import EpochSource
from .codec import Message
from .errors import Lost
from .interest import LOG_CHANNEL, Interest, topic_of
from .link import Link
from .log_index import has_events, head_of_log, newest_of
from .log_scripts import RANGE

__all__ = ["CanaryListener", "Delivery"]

MAX_HELD: Final = 10_000
MAX_HELD_SIZE: Final = 16 * 1024 * 1024
"""Messages and bytes held while the log is read; beyond it they are let go, and read from the log as well."""
PAGE: Final = 500
PAGE_SIZE: Final = 1024 * 1024
"""Entries and bytes read from the log at once."""
_MAX_BEHIND: Final = 1_000
"""Topics looked at one by one when messages were lost; if there are more, all readers are told."""


class CanaryListener(Protocol):
    """Whoever compares what has come with the log."""

    def on_canary(self) -> None:
        """Learn that a canary has passed."""
        ...


class Delivery:
    """Hands the events that a hub listens to to its listener.

    :param epochs: finds out what became of the epoch; that ends in `begin` if it is another.
    """

    def __init__(self, link: Link, listener: LogListener, epochs: EpochSource, canaries: CanaryListener) -> None:
        self.head = 0  # the last offset handed out
        self.complete = 0  # everything listened to up to this offset was handed out, or told to be missing
        self._link = link
        self._listener = listener
        self._epochs = epochs
        self._canaries = canaries
        self._epoch = ""
        self._old_epochs: deque[str] = deque(maxlen=256)  # their messages are late and count no more
        self._interest = Interest()
        self._subscribed: set[str] = set()  # channels, confirmed or not
        self._unsubscribed: set[str] = set()  # channels that are listened to, and for which no SUBSCRIBE was sent yet
        self._last: dict[str, int] = {}  # channel to the offset of its last message, once it is known
        self._held: deque[tuple[str, Message]] | None = None  # channel and message; None while nothing is held
        self._held_size = 0  # bytes
        self._overflown = False  # messages that should be held were let go
        self._behind: set[str] = set()  # channels known to have lost messages
        self._attached = False
        self._filling: asyncio.Task[None] | None = None  # reads what is missing
        self._subscribing: asyncio.Task[None] | None = None  # brings the subscriptions up to date
        self._confirmed: asyncio.Future[int] | None = None  # what the next subscribing answers to all who wait for it

    # -- the connection ---------------------------------------------------------------------------------

    def begin(self, epoch: str, head: int) -> None:
        """Take over where the log stands; nothing before it is handed out."""
        if self._epoch and self._epoch != epoch:
            self._old_epochs.append(self._epoch)
        self._epoch, self.head, self.complete = epoch, head, head
        self._last.clear()
        self._behind.clear()

    async def attach(self) -> None:
        """Subscribe everything again, on a new connection.

        :raises Lost: that is gone too.
        """
        self._subscribed, self._attached = self._interest.channels(), True
        self._unsubscribed.clear()
        await self._link.subscriptions.subscribe(self._subscribed, self)

    def detach(self) -> None:
        """Hold everything until `resume`; the connection is gone."""
        for task in (self._filling, self._subscribing):
            if task is not None:
                task.cancel()
        self._filling = self._subscribing = None
        self._attached = False
        self._subscribed.clear()
        self._last.clear()
        self._held, self._held_size, self._overflown = deque(), 0, False
        if self._confirmed is not None and not self._confirmed.done():
            self._confirmed.set_result(self.head)
        self._confirmed = None

    async def resume(self) -> None:
        """Hand out what was missed, then what was held.

        :raises Lost: the connection is gone again.
        """
        if self._held is not None:
            await self._fill()

    async def close(self) -> None:
        """End what is under way."""
        tasks = [task for task in (self._filling, self._subscribing) if task is not None]
        self.detach()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- topics -----------------------------------------------------------------------------------------

    async def listen(self, names: Iterable[str]) -> int:
        """Subscribe; return the offset from which on these are handed out."""
        for name in names:
            channel = self._interest.add(name)
            if channel not in self._subscribed:
                self._unsubscribed.add(channel)
        if not self._attached:
            return self.head
        if self._confirmed is None:
            self._confirmed = asyncio.get_running_loop().create_future()
        waiting = self._confirmed
        if self._subscribing is None or self._subscribing.done():
            self._subscribing = asyncio.create_task(self._subscribe_all(), name="sseal-redis-listen")
        return await asyncio.shield(waiting)

    def forget(self, names: Iterable[str]) -> None:
        """Unsubscribe, at once as far as this hub is concerned."""
        gone = []
        for name in names:
            channel = self._interest.remove(name)
            if channel is None:
                continue
            self._unsubscribed.discard(channel)
            self._last.pop(channel, None)
            if channel in self._subscribed:
                self._subscribed.remove(channel)
                gone.append(channel)
        self._link.subscriptions.unsubscribe(gone)

    async def _subscribe_all(self) -> None:
        """Bring the subscriptions up to date, for all who have asked at the same time (one round trip)."""
        while (waiting := self._confirmed) is not None:
            self._confirmed, offset = None, -1
            try:
                offset = await self._subscribe_once()
            except (Lost, ResponseError) as error:
                self._link.lose(f"it could not be subscribed to: {error}")
            finally:
                # Without a connection everything after the head comes when there is one again.
                if not waiting.done():
                    waiting.set_result(self.head if offset < 0 else offset)
        self._subscribing = None

    async def _subscribe_once(self) -> int:
        fresh, self._unsubscribed = self._unsubscribed, set()
        self._subscribed |= fresh
        await self._link.subscriptions.subscribe(fresh, self)
        confirmed = await head_of_log(self._link)
        for channel in fresh & self._subscribed:
            self._last[channel] = max(self._last.get(channel, 0), confirmed)
        return max(confirmed, self.complete)

    # -- messages ---------------------------------------------------------------------------------------

    def on_message(self, channel: str, data: bytes) -> None:
        """Hand out a message, or hold it; see `ChannelListener`."""
        message = Message.parse(data)
        if self._held is not None:
            self._hold(channel, message)
        elif not self._deliver(channel, message):
            self._held = deque([(channel, message)])
            self._held_size = len(data)
            self._fill_soon()

    def _hold(self, channel: str, message: Message) -> None:
        assert self._held is not None
        self._held.append((channel, message))
        self._held_size += len(message.body)
        if len(self._held) > MAX_HELD or self._held_size > MAX_HELD_SIZE:
            self._held.clear()
            self._held_size, self._overflown = 0, True

    def _deliver(self, channel: str, message: Message) -> bool:
        """Hand a message out, unless it is known; False when it may not be passed yet."""
        offset = message.offset
        if message.epoch != self._epoch:
            return message.epoch in self._old_epochs
        last = self._last.get(channel)
        if last is not None:
            if message.previous > max(last, self.complete):
                self._behind.add(channel)
                return False
            if offset <= last:
                return True
        if offset > self.head and self._interest.matches(message.topics()):
            if (entry := message.entry()) is None:
                return False  # as if it had not come: the log has it, and all others that are as long
            self._hand_out([entry])
        if channel in self._subscribed:
            self._last[channel] = offset
        return True

    def _hand_out(self, entries: list[Entry]) -> None:
        self.head = entries[-1].offset
        self._listener.on_entries(entries)
        if any(entry.topics[0].startswith(CANARY_ROOT) for entry in entries):
            self._canaries.on_canary()

    # -- holes ------------------------------------------------------------------------------------------

    async def compare(self, head: int) -> None:
        """See whether everything listened to up to a head has come, and get what has not.

        :raises Lost: the connection is gone.
        """
        if self._holding():
            return
        if head <= self.complete:
            await self._link.subscriptions.barrier()
            return
        channels = [channel for channel in self._subscribed if channel in self._last]
        heads = await newest_of(self._link, channels, head)
        await self._link.subscriptions.barrier()
        if self._holding():
            return
        behind = {
            channel
            for channel, newest in zip(channels, heads, strict=True)
            if channel in self._last and newest > max(self._last[channel], self.complete)
        }
        if behind:
            self._behind |= behind
            self._held, self._held_size = deque(), 0
            self._fill_soon()
            return
        self.complete = max(self.complete, head)
        self.head = max(self.head, head)

    def _fill_soon(self) -> None:
        if self._filling is None or self._filling.done():
            self._filling = asyncio.create_task(self._fill_or_lose(), name="sseal-redis-fill")

    async def _fill_or_lose(self) -> None:
        try:
            await self._fill()
        except (Lost, ResponseError) as error:
            self._link.lose(str(error))
        finally:
            if asyncio.current_task() is self._filling:
                self._filling = None

    async def _fill(self) -> None:
        """Read what is missing, hand it out, and what was held after it, until nothing is."""
        while True:
            await self._follow_epoch()
            await self._report_gaps()
            await self._read_on()
            if self._deliver_held():
                return

    async def _follow_epoch(self) -> None:
        """Go over to the epoch of what is held first; one that was left before anybody noticed it is over too."""
        for _, message in list(self._held or ())[:1]:
            if message.epoch not in (self._epoch, *self._old_epochs):
                await self._epochs.check_epoch()
                if message.epoch != self._epoch:
                    self._old_epochs.append(message.epoch)

    def _holding(self) -> bool:
        return self._held is not None

    def _deliver_held(self) -> bool:
        """Hand out what was held; False when that cannot be all, because more has to be read first."""
        if self._overflown:
            self._overflown = False
            return False
        held = self._held
        while held:
            channel, message = held[0]
            if not self._deliver(channel, message):
                return False
            held.popleft()
            self._held_size -= len(message.body)
        self._held = None
        return True

    async def _report_gaps(self) -> None:
        """Tell the readers of topics whose missing events are older than others that were handed out already."""
        behind, self._behind = self._behind, set()
        late: list[str] | None = []
        if len(behind) > _MAX_BEHIND:
            late = None
        else:
            channels = [channel for channel in behind if await self._is_late(channel)]
            late = [topic_of(channel) for channel in channels if channel != LOG_CHANNEL]
            if LOG_CHANNEL in channels:
                late += self._interest.patterns
        if late is None or late:
            self._listener.on_gap(late, self.head)

    async def _is_late(self, channel: str) -> bool:
        after = max(self._last.get(channel, self.head), self.complete)
        return after < self.head and await has_events(self._link, channel, after, self.head, self._interest.matches)

    async def _read_on(self) -> None:
        """Read the log from the last offset handed out to its head."""
        more, after = True, self.head
        while more:
            try:
                answer = await self._link.read(RANGE, self._epoch, after, PAGE, PAGE_SIZE)
            except ResponseError as error:
                if not str(error).startswith("EPOCH"):
                    raise
                await self._epochs.check_epoch()
                after = self.head
                continue
            more = answer.more
            if answer.floor > after:
                self._listener.on_gap(None, answer.floor)
                self.head = max(self.head, answer.floor)
            entries = [entry for entry in answer.entries if entry.offset > self.head]
            if wanted := [entry for entry in entries if self._interest.matches(entry.topics)]:
                self._hand_out(wanted)
            after = entries[-1].offset if more and entries else max(answer.floor, after if more else answer.head)
        self.head = self.complete = max(self.head, after)
