"""A clock that stands still until it is turned."""

from __future__ import annotations

import math

from ..errors import InvalidInput

__all__ = ["ManualClock"]


class ManualClock:
    """A `sseal.clock.Clock` for tests.

    :param wall: Unix seconds it starts at.
    :param monotonic: seconds its other face starts at.
    """

    def __init__(self, wall: float = 1_800_000_000.0, monotonic: float = 1_000.0) -> None:
        self._wall = wall
        self._monotonic = monotonic

    def wall(self) -> float:
        """Seconds since the Unix epoch."""
        return self._wall

    def monotonic(self) -> float:
        """Seconds since some start; never goes back."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Turn both faces forward.

        :raises InvalidInput: ``seconds`` is negative or no finite number.
        """
        if not (seconds >= 0 and math.isfinite(seconds)):
            raise InvalidInput("seconds", f"must be finite and not negative, is {seconds!r}")
        self._wall += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock alone forward, or back with a negative number, as a correction of the time does."""
        self._wall += seconds
