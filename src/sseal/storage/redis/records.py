"""Records and counters, each a key of its own that the server lets expire."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from .commands import Commands
from .replies import flag, number, optional_bytes
from .script import Script

__all__ = ["Records"]

_FOLDER: Final = Path(__file__).with_name("lua") / "store"
_SWAP: Final = Script.load(_FOLDER, "swap", flag)
_COUNT: Final = Script.load(_FOLDER, "count", number)


class Records:
    """The records on a server; see the methods of `sseal.storage.store.Store` by the same names."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def put(self, key: str, value: bytes, expires_at: float) -> None:
        """Write a record."""
        if (lifetime := self._commands.lifetime(expires_at)) <= 0:
            await self._commands.call("DEL", self._key(key))
        else:
            await self._commands.call("SET", self._key(key), value, "PX", lifetime)

    async def get(self, key: str) -> bytes | None:
        """Read a record."""
        return optional_bytes(await self._commands.call("GET", self._key(key)))

    async def take(self, key: str) -> bytes | None:
        """Read and delete in one step."""
        return optional_bytes(await self._commands.call("GETDEL", self._key(key)))

    async def swap(self, key: str, old: bytes | None, new: bytes | None, expires_at: float) -> bool:
        """Compare and write in one step."""
        lifetime = 0 if new is None else self._commands.lifetime(expires_at)
        before, was = (b"", 0) if old is None else (old, 1)
        return await self._commands.run(_SWAP, f"record:{key}", was, before, new or b"", lifetime)

    async def count(self, key: str, seconds: float, by: int = 1) -> int:
        """Count."""
        return await self._commands.run(_COUNT, f"count:{key}", max(1, int(seconds * 1000)), by)

    def _key(self, key: str) -> str:
        return f"{self._commands.link.prefix}record:{key}"
