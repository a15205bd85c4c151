"""How long to stay away after a failure: exponential, with full jitter."""

from __future__ import annotations

import math

from ..errors import InvalidInput

__all__ = ["Backoff"]


class Backoff:
    """Waiting times that spread the readers a failure has sent away together.

    The n-th wait is drawn evenly between ``minimum`` and ``base * 2 ** (n - 1)``, at most ``maximum``.

    :param minimum: seconds any wait has at least, so that no failure is answered by a busy loop.
    :param base: seconds the first wait has at most.
    :param maximum: seconds any wait has at most; a minute, as a hub that is back should be noticed.
    :raises InvalidInput: not 0 <= minimum <= base <= maximum, or one is not finite.
    """

    __slots__ = ("_ceiling", "base", "maximum", "minimum")

    def __init__(self, *, minimum: float = 0.1, base: float = 1.0, maximum: float = 60.0) -> None:
        if not (0 <= minimum <= base <= maximum and base > 0 and math.isfinite(maximum)):
            raise InvalidInput("backoff", f"needs 0 <= minimum <= base <= maximum, got {minimum}, {base}, {maximum}")
        self.minimum = minimum
        self.base = base
        self.maximum = maximum
        self._ceiling = base  # seconds the next wait has at most

    def next(self, random01: float) -> float:
        """Return the seconds to wait now; the next wait may be twice as long.

        :param random01: a fresh random number from 0 to 1.
        :raises InvalidInput: it is not from 0 to 1.
        """
        if not 0 <= random01 <= 1:
            raise InvalidInput("random01", f"must be from 0 to 1, is {random01!r}")
        wait = self.minimum + random01 * (self._ceiling - self.minimum)
        self._ceiling = min(self._ceiling * 2, self.maximum)
        return wait

    def reset(self) -> None:
        """Start again with the shortest waits: what was tried has worked."""
        self._ceiling = self.base
