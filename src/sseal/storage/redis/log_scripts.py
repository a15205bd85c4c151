"""The scripts of the log, and what they answer; each Lua file says what it takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from ...position import Lineage
from ..broker import Entry, Page
from .codec import entries_of
from .connection import Reply
from .script import Script

__all__ = ["CHECK", "HISTORY", "OPEN", "PUBLISH", "RANGE", "LogRange", "LogState", "OpenedLog"]


@dataclass(frozen=True, slots=True)
class OpenedLog:
    """Where the log stands for a new connection; ``time`` is the server's, in Unix seconds."""

    lineage: Lineage
    head: int
    time: float


@dataclass(frozen=True, slots=True)
class LogState:
    """Where the log stands; ``time`` is the server's, in Unix seconds."""

    epoch: str
    head: int
    time: float


@dataclass(frozen=True, slots=True)
class LogRange:
    """A part of the log.

    :param floor: the newest trimmed offset.
    :param more: whether the log has more after these entries.
    """

    head: int
    floor: int
    more: bool
    entries: list[Entry]


def _opened(reply: Reply) -> OpenedLog:
    epoch, head, older, time = msgspec.convert(reply, tuple[bytes, bytes, bytes, bytes])
    pairs = (pair.partition(":") for pair in older.decode().split())
    lineage = Lineage(epoch.decode(), tuple((name, int(last)) for name, _, last in pairs))
    return OpenedLog(lineage, int(head), float(time))


def _state(reply: Reply) -> LogState:
    epoch, head, time = msgspec.convert(reply, tuple[bytes, bytes, bytes])
    return LogState(epoch.decode(), int(head), float(time))


def _page(reply: Reply) -> Page:
    fields, items = _split(reply)
    upto, more, lost = msgspec.convert(fields, tuple[bytes, int, bytes])
    return Page(entries_of(items), int(upto), bool(more), int(lost))


def _range(reply: Reply) -> LogRange:
    fields, items = _split(reply)
    head, floor, more = msgspec.convert(fields, tuple[bytes, bytes, int])
    return LogRange(int(head), int(floor), bool(more), entries_of(items))


def _split(reply: Reply) -> tuple[list[Reply], Reply]:
    """Return all parts of a reply but the last, and the last."""
    assert isinstance(reply, list)
    return reply[:-1], reply[-1]


_decode_published: Final = msgspec.msgpack.Decoder(list[int | list[int]]).decode


def _published(reply: Reply) -> list[int | list[int]]:
    """Return per call its offsets, or the index of the publication whose key is known with another digest."""
    return _decode_published(msgspec.convert(reply, bytes))


_FOLDER: Final = Path(__file__).with_name("lua") / "log"
_COMMON: Final = ("common",)

# Only publishing makes the data grow. The others have to work on a full server too: trimming is what makes room.
PUBLISH: Final = Script.load(_FOLDER, "publish", _published, common=_COMMON)
OPEN: Final = Script.load(_FOLDER, "open", _opened, flags="allow-oom", common=_COMMON)
CHECK: Final = Script.load(_FOLDER, "check", _state, flags="allow-oom", common=_COMMON)
HISTORY: Final = Script.load(_FOLDER, "history", _page, flags="allow-oom", common=_COMMON)
RANGE: Final = Script.load(_FOLDER, "range", _range, flags="no-writes", common=_COMMON)
