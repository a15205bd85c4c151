"""The garbage collector of a process that holds many streams: calm, and no hoard."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

GARBAGE = """
import asyncio, collections, gc, sys
from sseal.server.gc_tuning import tune_gc

class Node:
    def __init__(self):
        self.itself = self
        self.fields = {str(number): [number] for number in range(20)}

async def main():
    connections, passes, alive = [], [], collections.deque(maxlen=40_000)
    tune_gc(lambda: len(connections))
    gc.callbacks.append(lambda phase, info: passes.append(1) if phase == "stop" and info["generation"] == 2 else None)
    before, most = sys.getallocatedblocks(), 0
    for turn in range(200):
        for _ in range(1000):
            MAKE
        await asyncio.sleep(0)
        most = max(most, sys.getallocatedblocks() - before)
    print(len(passes), most)

asyncio.run(main())
"""


def run(make: str) -> tuple[int, int]:
    """Make something 200,000 times in a process of its own; return full passes and the most blocks it held."""
    code: Any = GARBAGE.replace("MAKE", make)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    passes, most = done.stdout.split()
    return int(passes), int(most)


def test_garbage_in_cycles_does_not_pile_up() -> None:
    """Of nine million blocks that outlive a pass over the young, what is dead is found before it is all."""
    passes, most = run("alive.append(Node())")
    assert passes >= 2
    assert most < 7_000_000


def test_connections_cause_no_full_pass() -> None:
    """What connections explain is no reason to stop everything, however many there are."""
    passes, most = run("connections.append([{str(number): [number] for number in range(20)}])")
    assert passes == 0
    assert most > 4_000_000
