"""``sseal`` with a wall clock that jumps by so many seconds at SIGUSR1: ``hub_with_a_clock.py SECONDS serve ...``."""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType

from sseal.cli import main
from sseal.clock import SystemClock


class _Clock:
    """How far the clock is off."""

    offset = 0.0


def _wall(self: SystemClock) -> float:
    del self
    return time.time() + _Clock.offset


def run() -> None:
    """Run the command line with that clock."""
    jump = float(sys.argv.pop(1))

    def turn(number: int, frame: FrameType | None) -> None:
        del number, frame
        _Clock.offset += jump

    signal.signal(signal.SIGUSR1, turn)
    SystemClock.wall = _wall  # type: ignore[method-assign]
    main()


if __name__ == "__main__":
    run()
