"""The revocation log on the server: append, tell all nodes, and read on."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from .commands import Commands
from .connection import Reply
from .replies import number
from .script import Script

__all__ = ["CHANNEL", "RevocationLog"]

CHANNEL: Final = "revoked"
"""On which all nodes are told that the log has grown."""


@dataclass(frozen=True, slots=True)
class _Page:
    """A part of the log; ``last`` is the number up to which it was read, ``log`` the log's own name."""

    last: int
    more: bool
    revocations: list[tuple[int, bytes]]
    log: bytes


def _page(reply: Reply) -> _Page:
    last, more, items, log = msgspec.convert(reply, tuple[bytes, int, list[tuple[bytes, bytes]], bytes])
    return _Page(int(last), bool(more), [(int(number), record) for number, record in items], log)


_FOLDER: Final = Path(__file__).with_name("lua") / "store"
# A revocation is small, and the server being full is no reason to let anybody in.
_REVOKE: Final = Script.load(_FOLDER, "revoke", number, flags="allow-oom")
_REVOCATIONS: Final = Script.load(_FOLDER, "revocations", _page, flags="no-writes")


class RevocationLog:
    """The revocations on a server; see `Store.revoke` and `Store.revocations`."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._read_log: bytes | None = None  # the name of the log that was read; None before the first time

    async def revoke(self, record: bytes, expires_at: float) -> int:
        """Append, and tell all nodes."""
        channel = f"{self._commands.link.channels}{CHANNEL}"
        name = secrets.token_hex(8)
        return await self._commands.run(_REVOKE, record, self._commands.lifetime(expires_at), channel, name)

    async def read(self, after: int) -> list[tuple[int, bytes]]:
        """Read what is in force after a number.

        A log that began anew may already have a number as high as ``after``, so it is known by a name of its own.
        """
        found: list[tuple[int, bytes]] = []
        log = self._read_log
        while True:
            known = (1, log) if log is not None else (0, b"")
            page = await self._commands.run(_REVOCATIONS, after, *known)
            found += page.revocations
            log = page.log
            if not page.more:
                self._read_log = log
                return found
            after = page.last

    def distrust(self) -> None:
        """Trust no number read so far: behind the next connection the log may be an older one."""
        if self._read_log is not None:
            self._read_log = b""
