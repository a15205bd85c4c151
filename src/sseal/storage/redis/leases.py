"""Leases and what they hold, on the server; ``lua/store/lease.lua`` says under which keys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from ..errors import lease_lapsed
from ..leases import Changes, Held
from .commands import Commands
from .connection import Argument, Reply
from .replies import flag, nothing
from .script import Script

__all__ = ["Leases"]


def _counts(reply: Reply) -> dict[str, int] | None:
    """Return how many entries each set has, None when the owner holds no lease."""
    if reply is None:
        return None
    return {name.decode(): count for name, count in msgspec.convert(reply, list[tuple[bytes, int]])}


def _held(reply: Reply) -> list[list[Held]]:
    """Return the entries of each set that was asked for."""
    found = msgspec.convert(reply, list[list[tuple[bytes, bytes, bytes]]])
    return [sorted(Held(owner.decode(), key.decode(), value) for owner, key, value in entries) for entries in found]


_FOLDER: Final = Path(__file__).with_name("lua") / "store"
_COMMON: Final = ("lease",)
_RENEW: Final = Script.load(_FOLDER, "renew", flag, flags="allow-oom", common=_COMMON)
_RELEASE: Final = Script.load(_FOLDER, "release", nothing, flags="allow-oom", common=_COMMON)
_ENTER: Final = Script.load(_FOLDER, "enter", _counts, common=_COMMON)
_HELD: Final = Script.load(_FOLDER, "held", _held, flags="no-writes", common=_COMMON)


class Leases:
    """The leases on a server; see the methods of `sseal.storage.store.Store` by the same names."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def renew(self, owner: str, seconds: float) -> bool:
        """Hold a lease; tell whether it was held until now."""
        return await self._commands.run(_RENEW, owner, f"{seconds:.6f}")

    async def release(self, owner: str) -> None:
        """Give back a lease with everything under it."""
        await self._commands.run(_RELEASE, owner)

    async def enter(self, owner: str, changes: Changes) -> dict[str, int]:
        """Put into sets, take out, and count."""
        flat: list[Argument] = []
        for (name, key), value in changes.items():
            flat += (name, key, int(value is not None), value or b"")
        counts = await self._commands.run(_ENTER, owner, *flat)
        if counts is None:
            raise lease_lapsed()
        return counts

    async def held(self, sets: Sequence[str]) -> dict[str, list[Held]]:
        """Return what is in sets."""
        found = await self._commands.run(_HELD, *sets)
        return dict(zip(sets, found, strict=True))
