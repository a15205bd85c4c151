"""Counts that hold at all hubs together exactly, for what is rare enough to ask the store each time."""

from __future__ import annotations

from ..auth.family import hashed
from ..limits import WINDOW
from ..storage.store import Store

__all__ = ["ExactCounter"]


class ExactCounter:
    """Counts names in the store; a count starts anew a minute after its first."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def count(self, *names: str, by: int = 1) -> int:
        """Count, and return how many it were in this minute.

        :param names: what is counted; hashed, so that nobody chooses how long a key is.
        :param by: how many to add; a negative number takes back what was counted.
        :raises Unavailable: the store cannot be reached now.
        """
        name = "\0".join(names)
        return await self._store.count(f"exact/{hashed(name)[:32]}", WINDOW, by)
