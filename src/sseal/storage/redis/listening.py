"""What a hub is handed of the log: in order, each event once, never past a hole (W24).

The messages of one connection come in the order of the log, so nothing is missing as long as it lives. ``head`` is
the last offset handed out; ``complete`` that up to which everything listened to is known to have been. While
something has to be read from the log itself, because the connection was lost or a message names a predecessor nobody
has seen, messages are held and follow afterwards.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from redis.exceptions import ResponseError

from ...subscription import TopicSet
from ...topics import is_pattern
from ..broker import CANARY_ROOT, Entry, LogListener
from .codec import Message, entry_of
from .errors import Lost
from .link import Link
from .scripts import RANGE

__all__ = ["Listener"]

MAX_HELD: Final = 10_000
MAX_HELD_SIZE: Final = 16 * 1024 * 1024
"""Messages and bytes held while the log is read; beyond it they are let go, and read from the log as well."""
PAGE: Final = 500
PAGE_SIZE: Final = 1024 * 1024
"""Entries and bytes read from the log at once."""
LOG: Final = "log"
"""The channel on which every event is told: patterns need it."""
TOPIC: Final = "t:"
"""What the channel of a topic begins with."""
_MOST_BEHIND: Final = 1_000
"""Topics looked at one by one when messages were lost; if there are more, all readers are told."""
_MOST_PATTERNS: Final = 64
"""Patterns looked for in what is told of every event; if there are more, the hub is handed everything."""


class Listener:
    """The topics and patterns a hub listens to, and what has come of them.

    :param turn: finds out what became of the epoch; ends in `on_epoch_change` if it is another.
    :param canary: called when one of this hub's canaries has passed.
    """

    def __init__(
        self, link: Link, intake: LogListener, turn: Callable[[], Awaitable[None]], canary: Callable[[], None]
    ) -> None:
        self._link = link
        self._intake = intake
        self._turn = turn
        self._canary = canary
        self.head = 0
        self.complete = 0
        self._epoch = ""
        self._retired: deque[str] = deque(maxlen=256)
        self._wanted: set[str] = set()
        self._patterns: set[str] = set()
        self._matches: Callable[[tuple[str, ...]], bool]
        self._compile()
        self._subscribed: set[str] = set()
        self._fresh: set[str] = set()
        self._last: dict[str, int] = {}
        self._held: deque[tuple[str, Message]] | None = None
        self._held_size = 0
        self._overflown = False
        self._behind: set[str] = set()
        self._attached = False
        self._settling: asyncio.Task[None] | None = None
        self._tuning: asyncio.Task[None] | None = None
        self._round: asyncio.Future[int] | None = None

    # -- the connection ---------------------------------------------------------------------------------

    def begin(self, epoch: str, head: int) -> None:
        """Take over where the log stands; nothing before it is handed out."""
        if self._epoch and self._epoch != epoch:
            self._retired.append(self._epoch)
        self._epoch, self.head, self.complete = epoch, head, head
        self._last.clear()
        self._behind.clear()

    async def attach(self) -> None:
        """Subscribe everything again, on a new connection.

        :raises Lost: that is gone too.
        """
        self._subscribed, self._attached = self._channels(), True
        self._fresh.clear()
        await self._link.subscribe(self._subscribed, self._take)

    def detach(self) -> None:
        """Hold everything until `resume`; the connection is gone."""
        for task in (self._settling, self._tuning):
            if task is not None:
                task.cancel()
        self._settling = self._tuning = None
        self._attached = False
        self._subscribed.clear()
        self._last.clear()
        self._held, self._held_size, self._overflown = deque(), 0, False
        if self._round is not None and not self._round.done():
            self._round.set_result(self.head)
        self._round = None

    async def resume(self) -> None:
        """Hand out what was missed, then what was held.

        :raises Lost: the connection is gone again.
        """
        if self._held is not None:
            await self._settle()

    async def close(self) -> None:
        """End what is under way."""
        tasks = [task for task in (self._settling, self._tuning) if task is not None]
        self.detach()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- topics -----------------------------------------------------------------------------------------

    async def listen(self, names: Iterable[str]) -> int:
        """Subscribe; return the offset from which on these are handed out."""
        for name in names:
            if is_pattern(name):
                self._patterns.add(name)
                self._compile()
                channel = LOG
            else:
                self._wanted.add(name)
                channel = f"{TOPIC}{name}"
            if channel not in self._subscribed:
                self._fresh.add(channel)
        if not self._attached:
            return self.head
        if self._round is None:
            self._round = asyncio.get_running_loop().create_future()
        waiting = self._round
        if self._tuning is None or self._tuning.done():
            self._tuning = asyncio.create_task(self._tune(), name="sseal-redis-listen")
        return await asyncio.shield(waiting)

    def forget(self, names: Iterable[str]) -> None:
        """Unsubscribe, at once as far as this hub is concerned."""
        gone = []
        for name in names:
            if is_pattern(name):
                self._patterns.discard(name)
                self._compile()
                if self._patterns:
                    continue
                channel = LOG
            else:
                self._wanted.discard(name)
                channel = f"{TOPIC}{name}"
            self._fresh.discard(channel)
            self._last.pop(channel, None)
            if channel in self._subscribed:
                self._subscribed.remove(channel)
                gone.append(channel)
        self._link.unsubscribe(gone)

    def _compile(self) -> None:
        if len(self._patterns) > _MOST_PATTERNS:
            self._matches = lambda topics: True  # noqa: ARG005 - of any topics
            return
        patterns, wanted = TopicSet.of(*self._patterns).matcher(), self._wanted
        self._matches = lambda topics: not wanted.isdisjoint(topics) or patterns(topics)

    def _channels(self) -> set[str]:
        channels = {f"{TOPIC}{topic}" for topic in self._wanted}
        if self._patterns:
            channels.add(LOG)
        return channels

    async def _tune(self) -> None:
        """Bring the subscriptions up to date, for all who have asked at the same time (one round trip)."""
        while (waiting := self._round) is not None:
            self._round, offset = None, -1
            try:
                offset = await self._subscribe_fresh()
            except (Lost, ResponseError) as error:
                self._link.lose(f"it could not be subscribed to: {error}")
            finally:
                # Without a connection everything after the head comes when there is one again.
                if not waiting.done():
                    waiting.set_result(self.head if offset < 0 else offset)
        self._tuning = None

    async def _subscribe_fresh(self) -> int:
        fresh, self._fresh = self._fresh, set()
        self._subscribed |= fresh
        await self._link.subscribe(fresh, self._take)
        (head,) = await self._link.call("HMGET", f"{self._link.prefix}meta", "head")
        confirmed = int(head or 0)
        for channel in fresh & self._subscribed:
            self._last[channel] = max(self._last.get(channel, 0), confirmed)
        return max(confirmed, self.complete)

    # -- messages ---------------------------------------------------------------------------------------

    def _take(self, channel: str, data: bytes) -> None:
        message = Message.parse(data)
        if self._held is not None:
            self._hold(channel, message)
        elif not self._pass(channel, message):
            self._held = deque([(channel, message)])
            self._held_size = len(data)
            self._settle_soon()

    def _hold(self, channel: str, message: Message) -> None:
        assert self._held is not None
        self._held.append((channel, message))
        self._held_size += len(message.body)
        if len(self._held) > MAX_HELD or self._held_size > MAX_HELD_SIZE:
            self._held.clear()
            self._held_size, self._overflown = 0, True

    def _pass(self, channel: str, message: Message) -> bool:
        """Hand a message out, unless it is known; False when it may not be passed yet."""
        offset = message.offset
        if message.epoch != self._epoch:
            return message.epoch in self._retired
        last = self._last.get(channel)
        if last is not None:
            if message.previous > max(last, self.complete):
                self._behind.add(channel)
                return False
            if offset <= last:
                return True
        if offset > self.head and self._matches(message.topics()):
            if (entry := message.entry()) is None:
                return False  # as if it had not come: the log has it, and all others that are as long
            self._hand_out([entry])
        if channel in self._subscribed:
            self._last[channel] = offset
        return True

    def _hand_out(self, entries: list[Entry]) -> None:
        self.head = entries[-1].offset
        self._intake.on_entries(entries)
        if any(entry.topics[0].startswith(CANARY_ROOT) for entry in entries):
            self._canary()

    # -- holes ------------------------------------------------------------------------------------------

    async def compare(self, head: int) -> None:
        """See whether everything listened to up to a head has come, and get what has not.

        :raises Lost: the connection is gone.
        """
        if self._holding():
            return
        if head <= self.complete:
            await self._link.barrier()
            return
        channels = [channel for channel in self._subscribed if channel in self._last]
        heads = await self._heads(channels, head)
        await self._link.barrier()
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
            self._settle_soon()
            return
        self.complete = max(self.complete, head)
        self.head = max(self.head, head)

    async def _heads(self, channels: list[str], head: int) -> list[int]:
        heads: list[int] = []
        for start in range(0, len(channels), 1000):
            some = channels[start : start + 1000]
            keys = [f"{self._link.prefix}head:{channel.removeprefix(TOPIC)}" for channel in some]
            known = await self._link.call("MGET", *keys)
            # Of a topic whose last event was trimmed only that is known.
            topics = [channel.removeprefix(TOPIC) for channel in some]
            trimmed = await self._link.call("ZMSCORE", f"{self._link.prefix}trimmed", *topics)
            newest = [int(one or two or 0) for one, two in zip(known, trimmed, strict=True)]
            heads += [head if channel == LOG else n for channel, n in zip(some, newest, strict=True)]
        # What was published since the head was read may still be on its way.
        return [min(newest, head) for newest in heads]

    def _settle_soon(self) -> None:
        if self._settling is None or self._settling.done():
            self._settling = asyncio.create_task(self._settle_or_lose(), name="sseal-redis-fill")

    async def _settle_or_lose(self) -> None:
        try:
            await self._settle()
        except (Lost, ResponseError) as error:
            self._link.lose(str(error))
        finally:
            if asyncio.current_task() is self._settling:
                self._settling = None

    async def _settle(self) -> None:
        """Read what is missing, hand it out, and what was held after it, until nothing is."""
        while True:
            await self._follow()
            await self._tell_late()
            await self._catch_up()
            if self._let_go():
                return

    async def _follow(self) -> None:
        """Go over to the epoch of what is held first; one that was left before anybody noticed it is over too."""
        for _, message in list(self._held or ())[:1]:
            if message.epoch not in (self._epoch, *self._retired):
                await self._turn()
                if message.epoch != self._epoch:
                    self._retired.append(message.epoch)

    def _holding(self) -> bool:
        return self._held is not None

    def _let_go(self) -> bool:
        """Hand out what was held; False when that cannot be all, because more has to be read first."""
        if self._overflown:
            self._overflown = False
            return False
        held = self._held
        while held:
            channel, message = held[0]
            if not self._pass(channel, message):
                return False
            held.popleft()
            self._held_size -= len(message.body)
        self._held = None
        return True

    async def _tell_late(self) -> None:
        """Tell the readers of topics whose missing events are older than others that were handed out already."""
        behind, self._behind = self._behind, set()
        late: list[str] | None = []
        if len(behind) > _MOST_BEHIND:
            late = None
        else:
            late = [channel.removeprefix(TOPIC) for channel in behind if await self._is_late(channel)]
            if LOG in late:
                late.remove(LOG)
                late += self._patterns
        if late is None or late:
            self._intake.on_gap(late, self.head)

    async def _is_late(self, channel: str) -> bool:
        after = max(self._last.get(channel, self.head), self.complete)
        if after >= self.head:
            return False
        prefix = self._link.prefix
        if channel != LOG:
            key = f"{prefix}topic:{channel.removeprefix(TOPIC)}"
            if await self._link.call("ZCOUNT", key, f"({after}", self.head):
                return True
            trimmed = await self._link.call("ZSCORE", f"{prefix}trimmed", channel.removeprefix(TOPIC))
            return int(trimmed or 0) > after
        found = await self._link.call("XRANGE", f"{prefix}log", f"({after}-0", f"{self.head}-0")
        return any(self._matches(entry_of(item).topics) for item in found)

    async def _catch_up(self) -> None:
        """Read the log from the last offset handed out to its head."""
        more, after = True, self.head
        while more:
            try:
                answer = await self._link.read(RANGE, self._epoch, after, PAGE, PAGE_SIZE)
            except ResponseError as error:
                if not str(error).startswith("EPOCH"):
                    raise
                await self._turn()
                after = self.head
                continue
            head, floor, more, items = int(answer[0]), int(answer[1]), bool(answer[2]), answer[3]
            if floor > after:
                self._intake.on_gap(None, floor)
                self.head = max(self.head, floor)
            entries = [entry for entry in map(entry_of, items) if entry.offset > self.head]
            if wanted := [entry for entry in entries if self._matches(entry.topics)]:
                self._hand_out(wanted)
            after = entries[-1].offset if more and entries else max(floor, head if not more else after)
        self.head = self.complete = max(self.head, after)
