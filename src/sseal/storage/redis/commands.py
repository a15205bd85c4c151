"""Commands of a store: what goes wrong with them is told as the contract says."""

from __future__ import annotations

from typing import Final, TypeVar

from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from ...clock import Clock
from ...errors import Unavailable
from ..errors import store_full
from .connection import Argument, Reply
from .errors import Lost
from .link import Link
from .script import Script

__all__ = ["Commands"]

_LONGEST: Final = 10 * 365 * 86400
"""Seconds a record is kept at most: what is to live longer has a mistaken time."""

Answer = TypeVar("Answer")


class Commands:
    """Sends commands and runs scripts while the store is open; all raise `Unavailable` and nothing else."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self.link = link
        self.open = False  # changed by the store
        self._clock = clock

    async def call(self, *command: Argument) -> Reply:
        """Send a command and return its answer."""
        try:
            await self._ready()
            return await self.link.call(*command)
        except (Lost, ResponseError) as error:
            raise self._refusal(error) from None

    async def run(self, script: Script[Answer], *arguments: Argument) -> Answer:
        """Run a script."""
        try:
            await self._ready()
            return await self.link.run(script, *arguments)
        except (Lost, ResponseError) as error:
            raise self._refusal(error) from None

    def lifetime(self, expires_at: float) -> int:
        """Return in how many milliseconds something expires, not rounded up."""
        return int(min(expires_at - self._clock.wall(), _LONGEST) * 1000)

    async def _ready(self) -> None:
        if not self.open:
            raise Unavailable("the store is closed", code="store_closed")
        await self.link.ready()

    def _refusal(self, error: Lost | ResponseError) -> Unavailable:
        """Return what the caller is told."""
        if isinstance(error, Lost):  # the link has logged why, which may name the server
            return Unavailable("the store cannot be reached", code="store_lost")
        if isinstance(error, ReadOnlyError):
            self.link.lose("the server has become a replica")
            return Unavailable(f"the store cannot be written: {error}", code="store_lost")
        if isinstance(error, OutOfMemoryError):
            return store_full()
        code = "store_full" if "OOM" in str(error) else "store_refused"
        return Unavailable(f"the store refuses: {error}", code=code, retry_after=5.0)
