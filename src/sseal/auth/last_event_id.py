"""What a client says it has seen last: a position, a resume token before a position, or something unknown (W13)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..position import Position

__all__ = ["LastEventId"]

_RESUME = re.compile(r"([a-z2-7]{26})_([a-z0-9]{8}-[0-9]{1,16})", re.ASCII)


@dataclass(frozen=True, slots=True)
class LastEventId:
    """What ``Last-Event-ID`` (or ``last_event_id=``) said.

    :param position: the position, None when it was no position of ours.
    :param token: the resume token in front of it, if it had exactly that form.
    """

    position: Position | None
    token: str | None = None

    @classmethod
    def parse(cls, text: str) -> LastEventId:
        """Read the wire form; anything that is neither form is an unknown position, not a credential."""
        match = _RESUME.fullmatch(text)
        if match is not None and (position := Position.parse(match[2])) is not None:
            return cls(position, match[1])
        return cls(Position.parse(text))
