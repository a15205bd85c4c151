"""Python's garbage collector, in a process that holds very many small objects for a long time.

A full pass over 15,000 streams takes 130 to 350 ms (bench/profile.md), in which nobody is answered. Streams and
requests leave no reference cycles, so such a pass has nothing to find, and the number of objects alone must not cause
one. But what an app or a library leaves in cycles must not pile up either. So a full pass is made when memory has grown
by more than connections explain. Any number of streams causes none; whoever finds a way to make garbage causes one for
each 100 MB or so, and gets no further.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

__all__ = ["Collector", "tune_gc"]

THRESHOLDS: Final = (50_000, 20, 1_000)
"""Objects between two passes over the youngest, and how many of those passes until the next older ones are included."""
BLOCKS_OF_CONNECTION: Final = 150
"""Blocks of memory that one more connection explains: a stream takes some 60, its topics and index entries included."""
UNEXPLAINED: Final = 1_000_000
"""Blocks beyond that after which a full pass is made; 60 to 120 MB."""

logger = logging.getLogger("sseal.server")


def tune_gc(connections: Callable[[], int] = lambda: 0) -> None:
    """Make passes over the youngest objects rare, and full passes depend on memory that nothing explains.

    What exists at the start is exempted. A host app that mounts the hub may call this too, once.

    :param connections: how many connections there are; without it, some 15,000 new streams cause a full pass.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.callbacks.append(Collector(connections).after_pass)


class Collector:
    """Looks at memory after each pass over the young, without which no garbage grows, and decides on a full one."""

    def __init__(self, connections: Callable[[], int]) -> None:
        self._connections = connections
        self._before = connections()  # how many there were when memory was measured
        self._blocks = sys.getallocatedblocks()  # then
        self._due = False  # a full pass is scheduled

    def after_pass(self, phase: str, info: Mapping[str, int]) -> None:
        """Be told by the collector, in which no pass can be begun: have one made by the event loop that runs."""
        if phase != "stop" or info["generation"] == 2 or self._due or not self.is_due():
            return
        try:
            asyncio.get_running_loop().call_soon(self.collect)
        except RuntimeError:
            return  # another thread made the objects; the next pass in the event loop sees them too
        self._due = True

    def is_due(self) -> bool:
        """Tell whether memory has grown by more than connections explain."""
        blocks = sys.getallocatedblocks()
        explained = max(0, self._connections() - self._before) * BLOCKS_OF_CONNECTION
        if blocks - self._blocks > UNEXPLAINED + explained:
            return True
        # What was given back is the measure from now on: a peak must not hide the next growth.
        self._blocks = min(self._blocks, blocks)
        self._before = min(self._before, self._connections())
        return False

    def collect(self) -> None:
        """Make a full pass."""
        begun = time.perf_counter()
        found = gc.collect()
        self._due = False
        self._blocks, self._before = sys.getallocatedblocks(), self._connections()
        took = round((time.perf_counter() - begun) * 1000.0, 1)
        logger.info("full garbage collection", extra={"found": found, "ms": took, "blocks": self._blocks})
