"""One event as it stands on the wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

__all__ = ["MAX_RETRY", "RESERVED_TYPES", "Event"]

RESERVED_TYPES: Final = frozenset({"auth", "gap", "bye", "open", "error"})
"""Types no publisher may use: three are control events, two every EventSource fires by itself (W18)."""

MAX_RETRY: Final = 2**31 - 1
"""The longest reconnection time in milliseconds (24.8 days): the most a browser's timer holds."""


@dataclass(frozen=True, slots=True)
class Event:
    r"""What one block of an event stream says (HTML standard section 9.2.6).

    It may hold what a foreign server sent, so nothing is checked here: `encode` refuses what must not go out.

    :param type: the event type; a block that names none is a ``message``.
    :param data: the data, its lines joined by ``\n``.
    :param id: the id sent in this very block; None if it sent none, ``""`` if it reset the last event ID.
    :param retry: the reconnection time in milliseconds sent in this very block.
    :param topic: the topic sent in this block, a field of ours which EventSource ignores.
    :param last_event_id: the standard's ``lastEventId``: the newest id so far, of whichever block. It is a
        property of the stream and not of the event, so it takes no part in comparisons.
    """

    type: str = "message"
    data: str = ""
    id: str | None = None
    retry: int | None = None
    topic: str | None = None
    last_event_id: str = field(default="", compare=False)
