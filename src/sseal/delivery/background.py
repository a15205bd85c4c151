"""Tasks that belong to a node and end with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

__all__ = ["BackgroundTasks"]

logger = logging.getLogger("sseal.delivery")


class BackgroundTasks:
    """Runs work that nobody waits for; what fails is logged."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()  # asyncio itself holds tasks weakly

    def spawn(self, work: Awaitable[None]) -> None:
        """Run something in the background, until `cancel`."""

        async def run() -> None:
            await work

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def cancel(self) -> None:
        """Stop everything that is under way."""
        for task in list(self._tasks):
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("background work failed", exc_info=error)
