"""Publishing: calls that come together go as one script, and none waits for longer than it may (W9)."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from ...errors import Conflict, SsealError, Unavailable
from ..broker import Publication
from .codec import calls_of
from .errors import Lost
from .link import Link
from .log_scripts import PUBLISH

__all__ = ["Appender", "EpochSource"]

PUBLISH_TIMEOUT: Final = 2.0
"""Seconds a publish may take in all, its repeats after a lost connection included (W9)."""
MAX_QUEUED: Final = 1_000
"""Calls that wait for their turn: more than that is a log that cannot keep up."""
GROUP_PUBLICATIONS: Final = 128
GROUP_SIZE: Final = 1024 * 1024
"""Publications and bytes of data in one script, if they are of several calls: about 4 ms of the server's time."""


@dataclass(slots=True, eq=False)
class _Call:
    """One publish, from its arrival to its answer."""

    publications: Sequence[Publication]
    answer: asyncio.Future[list[int]]
    deadline: float
    unsure: bool = False  # it has been sent, and no answer says that nothing came of it

    @property
    def size(self) -> int:
        """Characters of data, which are what makes a script long."""
        return sum(len(publication.data) for publication in self.publications)

    def refuse(self, error: SsealError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # the caller may be gone

    def give_up(self) -> None:
        self.refuse(_unknown() if self.unsure else _lost())


def _unknown() -> Unavailable:
    return Unavailable("outcome unknown, repeat with the same key", code="outcome_unknown")


def _lost() -> Unavailable:
    return Unavailable("the log cannot be reached; nothing was published", code="broker_lost")


class EpochSource(Protocol):
    """Whoever knows the epoch of the log."""

    async def writable_epoch(self) -> str:
        """Return the current epoch, once the connection may be published on.

        :raises Lost: it may not be in time.
        """
        ...

    async def check_epoch(self) -> None:
        """Find out what became of the epoch, and tell the hub if it is another one.

        :raises Lost: the connection is gone.
        """
        ...


class Appender:
    """Groups what is published at the same time."""

    def __init__(self, link: Link, epochs: EpochSource) -> None:
        self._link = link
        self._epochs = epochs
        self._queue: deque[_Call] = deque()  # calls that are in no group yet
        self._appending: asyncio.Task[None] | None = None  # runs while there are calls

    async def publish(self, publications: Sequence[Publication]) -> list[int]:
        """Append all or nothing; see `Broker.publish`."""
        if not publications:
            return []
        if len(self._queue) >= MAX_QUEUED:
            raise Unavailable("the log is busy; nothing was published", code="busy")
        loop = asyncio.get_running_loop()
        call = _Call(publications, loop.create_future(), loop.time() + PUBLISH_TIMEOUT)
        self._queue.append(call)
        if self._appending is None:
            self._appending = asyncio.create_task(self._append_all(), name="sseal-redis-publish")
        try:
            async with asyncio.timeout_at(call.deadline):
                return await call.answer
        except TimeoutError:
            raise (_unknown() if call.unsure else _lost()) from None

    async def close(self) -> None:
        """Refuse what is waiting, and let what is under way come to its end."""
        while self._queue:
            self._queue.popleft().refuse(Unavailable("the log is being closed", code="broker_closed"))
        if (appending := self._appending) is not None:
            await asyncio.wait([appending], timeout=PUBLISH_TIMEOUT)
            appending.cancel()
            await asyncio.gather(appending, return_exceptions=True)

    async def _append_all(self) -> None:
        try:
            while group := self._next_group():
                try:
                    await self._append(group)
                finally:
                    for call in group:
                        call.give_up()
        finally:
            self._appending = None

    def _next_group(self) -> list[_Call]:
        group: list[_Call] = []
        publications = size = 0
        while self._queue:
            call = self._queue[0]
            if call.answer.done():  # its caller has given up
                self._queue.popleft()
                continue
            publications, size = publications + len(call.publications), size + call.size
            if group and (publications > GROUP_PUBLICATIONS or size > GROUP_SIZE):
                break
            group.append(self._queue.popleft())
        return group

    async def _append(self, group: list[_Call]) -> None:
        """Run the script until it has an answer; the nonce makes sure that it counts once, however often it runs."""
        nonce = secrets.token_hex(12)
        calls: list[bytes] = []
        repeated = False
        while not all(call.answer.done() for call in group):
            try:
                epoch = await self._epochs.writable_epoch()
                if not repeated:  # who gave up before anything was sent was told that nothing was
                    group = [call for call in group if not call.answer.done()]
                    if not group:
                        return
                    calls = calls_of([call.publications for call in group])
                _mark_sent(group)
                answers = await self._link.run(PUBLISH, epoch, nonce, self._link.channels, *calls)
            except Lost as error:
                if not error.sent and not repeated:
                    _mark_unsent(group)
                repeated = repeated or error.sent
                if self._link.lost_for_long:
                    return
            except ResponseError as error:
                if not repeated:
                    _mark_unsent(group)
                if (refusal := await self._refusal(error)) is not None:
                    for call in group:
                        call.refuse(refusal)
            else:
                _answer(group, answers)

    async def _refusal(self, error: ResponseError) -> Unavailable | None:
        """Return what to tell the callers, or None to try again."""
        text = str(error)
        if isinstance(error, OutOfMemoryError) or text.startswith("OOM"):
            return Unavailable("the server's memory is full; nothing was published", code="broker_full")
        if isinstance(error, ReadOnlyError) or "READONLY" in text:
            self._link.lose("the server has become a replica")
            return None
        if text.startswith("EPOCH"):
            try:
                await self._epochs.check_epoch()
            except (Lost, ResponseError, Unavailable):
                return None if self._link.lost_since is not None else _lost()
            return None
        return Unavailable(f"the log refuses: {text}", code="broker_refused")


def _mark_sent(group: list[_Call]) -> None:
    """Note that they may be appended from here on."""
    for call in group:
        call.unsure = True


def _mark_unsent(group: list[_Call]) -> None:
    """Take back that they may have been appended."""
    for call in group:
        call.unsure = False


def _answer(group: list[_Call], answers: Sequence[int | list[int]]) -> None:
    for call, answer in zip(group, answers, strict=True):
        if call.answer.done():
            continue
        if isinstance(answer, int):
            key = call.publications[answer].key
            call.refuse(Conflict(f"key: {key.key if key else ''!r} was used before with other content"))
        else:
            call.answer.set_result(answer)
