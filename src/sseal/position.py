"""Positions in a log: ``<epoch>-<offset>``, and the lineage that tells which old epochs still mean something.

One log has one total order of offsets. An epoch names a stretch of it whose continuity is proven; opening a
log that cannot prove it continues starts a new epoch at the stored head (W10).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["EPOCH_ALPHABET", "EPOCH_LENGTH", "MAX_OFFSET", "Lineage", "Position", "Resolution"]

EPOCH_LENGTH: Final = 8
EPOCH_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
MAX_OFFSET: Final = 2**53 - 1
"""The largest integer a JavaScript or Lua number holds exactly."""

_POSITION = re.compile(r"([a-z0-9]{8})-(0|[1-9][0-9]{0,15})", re.ASCII)

Reason = Literal["trimmed", "unknown_position", "ahead", "other_epoch"]


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a log: after the event with this offset."""

    epoch: str
    offset: int

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """Parse the wire form; None for anything else (which is then an unknown position, W13)."""
        match = _POSITION.fullmatch(text)
        if match is None:
            return None
        offset = int(match[2])
        return cls(match[1], offset) if offset <= MAX_OFFSET else None

    def __str__(self) -> str:
        """Return the wire form."""
        return f"{self.epoch}-{self.offset}"


@dataclass(frozen=True, slots=True)
class Resolution:
    """Where a presented position leads: read on after ``offset``; ``reason`` when something may be missing.

    ``oldest`` asks to start at the oldest retained event of the subscribed topics instead.
    """

    offset: int
    reason: Reason | None = None
    oldest: bool = False


@dataclass(frozen=True, slots=True)
class Lineage:
    """The current epoch and the older ones it continues, each with its last offset that is still true."""

    epoch: str
    older: tuple[tuple[str, int], ...] = ()

    def known(self) -> tuple[tuple[str, int], ...]:
        """Return all epochs with the last offset that may be true, the youngest first; none of an empty lineage."""
        return ((self.epoch, MAX_OFFSET), *self.older) if self.epoch else ()

    def resolve(self, position: Position, head: int) -> Resolution:
        """Translate a presented position into an offset of this log.

        - of the current epoch up to the head: itself; ahead of the head: the head, and a gap;
        - of an older epoch up to its last offset: itself; beyond it: that last offset, and a gap;
        - of an epoch this log does not know: the oldest retained event, and a gap.
        """
        if position.epoch == self.epoch:
            if position.offset <= head:
                return Resolution(position.offset)
            return Resolution(head, "ahead")
        for epoch, last in self.older:
            if epoch == position.epoch:
                if position.offset <= last:
                    return Resolution(position.offset)
                return Resolution(last, "other_epoch")
        return Resolution(0, "other_epoch", oldest=True)
