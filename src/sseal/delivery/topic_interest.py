"""Which topics have readers here: the log is told to deliver these, and the window vouches for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from ..errors import Unavailable
from ..storage import Broker
from ..subscription import Subscription
from .background import BackgroundTasks
from .window import Window

__all__ = ["TopicInterest"]


class TopicInterest:
    """Counts the readers of each topic and pattern, and holds the log's delivery while there is one.

    :param window: vouches for what the log delivers.
    """

    def __init__(self, broker: Broker, window: Window, tasks: BackgroundTasks) -> None:
        self._broker = broker
        self._window = window
        self._tasks = tasks
        self._counts: dict[str, int] = {}  # streams, and such as are being opened, by topic or pattern
        self._confirming: dict[str, asyncio.Future[None]] = {}  # done when the log has confirmed to deliver the name
        self._unread: set[str] = set()  # names whose last reader has left; the log is not yet told
        self._active = False  # whether the log may be told that a topic has no reader any more

    @property
    def names(self) -> list[str]:
        """The topics and patterns that have readers."""
        return list(self._counts)

    def among(self, names: Iterable[str]) -> list[str]:
        """Return those of some topics and patterns that have readers."""
        return [name for name in names if name in self._counts]

    async def listen(self, subscription: Subscription) -> None:
        """Hold the log's delivery of these topics.

        :raises Unavailable: the log cannot be asked for them now.
        """
        names = subscription.topics.names
        # A name may be held and not vouched for: its confirmation has just failed.
        fresh = [name for name in names if name not in self._confirming and not self._window.vouches_for(name)]
        asked = [self._confirming[name] for name in names if name in self._confirming]
        for name in names:
            self._counts[name] = self._counts.get(name, 0) + 1
        try:
            if fresh:
                await self._confirm(fresh)
            for future in asked:  # another stream of the topic came first, and its request is under way
                await asyncio.shield(future)
        except BaseException:
            self.unlisten(subscription)
            raise

    async def _confirm(self, names: list[str]) -> None:
        window = self._window
        future = asyncio.get_running_loop().create_future()
        self._confirming |= dict.fromkeys(names, future)
        epoch = window.epoch
        try:
            confirmed = await self._broker.listen(names)
        except BaseException as error:
            future.set_exception(Unavailable(str(error), code=getattr(error, "code", "unavailable")))
            future.exception()  # it may be that nobody else waits for it
            raise
        finally:
            for name in names:
                if self._confirming.get(name) is future:
                    del self._confirming[name]
        if epoch == window.epoch:  # else `Node.on_epoch_change` has covered them
            for name in self.among(names):
                window.cover(name, confirmed)
        future.set_result(None)

    def unlisten(self, subscription: Subscription) -> None:
        """Give a hold back; the last reader of a topic ends its delivery."""
        gone = []
        for name in subscription.topics.names:
            self._counts[name] -= 1
            if not self._counts[name]:
                del self._counts[name]
                self._window.uncover(name)
                gone.append(name)
        if gone and self._active:
            if not self._unread:
                asyncio.get_running_loop().call_soon(self._forget)
            self._unread.update(gone)

    def start(self) -> None:
        """Tell the log from now on which topics have no reader any more."""
        self._active = True

    def stop(self) -> None:
        """Tell it nothing any more."""
        self._active = False

    def _forget(self) -> None:
        """Tell the log, once per turn of the loop, which topics have no reader any more."""
        if self._active:
            self._tasks.spawn(self._forget_topics())

    async def _forget_topics(self) -> None:
        gone = [name for name in self._unread if name not in self._counts]
        self._unread.clear()
        if gone:
            await self._broker.forget(gone)
