"""The states of a stream as one table (docs/explanation/architecture.md).

A stream is CATCHING_UP (it reads the log at its own pace) or LIVE (at the head: each new frame is written
straight to its sink). Replay after a reconnect, the seam to live, and a slow reader are the same mechanism.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

__all__ = ["TABLE", "Input", "State"]


class State(Enum):
    """Where a stream is."""

    CATCHING_UP = auto()
    LIVE = auto()
    CLOSED = auto()


class Input(Enum):
    """What can happen to it."""

    CAUGHT_UP = auto()  # nothing of its topics is left to read
    STALLED = auto()  # its sink passed the high-water mark
    CLOSE = auto()  # the hub ends it, or its client has gone


TABLE: Final[dict[tuple[State, Input], State]] = {
    (State.CATCHING_UP, Input.CAUGHT_UP): State.LIVE,
    (State.CATCHING_UP, Input.STALLED): State.CATCHING_UP,
    (State.CATCHING_UP, Input.CLOSE): State.CLOSED,
    (State.LIVE, Input.CAUGHT_UP): State.LIVE,
    (State.LIVE, Input.STALLED): State.CATCHING_UP,
    (State.LIVE, Input.CLOSE): State.CLOSED,
    (State.CLOSED, Input.CAUGHT_UP): State.CLOSED,
    (State.CLOSED, Input.STALLED): State.CLOSED,
    (State.CLOSED, Input.CLOSE): State.CLOSED,
}
