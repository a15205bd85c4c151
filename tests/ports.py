"""Loopback ports for servers that tests start, each given once, also when several runs share a machine."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack

# What `bind` gives for port 0 is free only until the next connection of anybody on the machine. Systems take the ports
# of outgoing connections from higher up (Linux 32768, macOS 49152), so these here are left to whoever asks for them.
_FIRST, _END, _BLOCK = 10_000, 32_000, 100

_held: list[socket.socket] = []


def _bound(port: int) -> socket.socket | None:
    """Return a socket bound to a port, or None if somebody has it."""
    probe = socket.socket()
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        probe.close()
        return None
    return probe


def _blocks() -> Iterator[range]:
    """Yield blocks of ports that are this process's own.

    The first port of a block is bound for as long as the process lives, which tells all others that it is taken.
    """
    starts = list(range(_FIRST, _END, _BLOCK))
    random.SystemRandom().shuffle(starts)
    for start in starts:
        if (lock := _bound(start)) is not None:
            _held.append(lock)
            yield range(start + 1, start + _BLOCK)


def _rows(count: int) -> Iterator[range]:
    for block in _blocks():
        for start in range(block.start, block.stop - count + 1, count):
            yield range(start, start + count)


_SINGLE, _FOUR = _rows(1), _rows(4)


def _next(rows: Iterator[range]) -> int:
    for row in rows:
        with ExitStack() as stack:
            probes = [_bound(port) for port in row]
            for probe in probes:
                if probe is not None:
                    stack.enter_context(probe)
            if None not in probes:
                return row.start
    raise RuntimeError(f"no free port from {_FIRST} to {_END} is left on this machine")


def free_port() -> int:
    """Return a loopback port nobody listens on and nobody else is given."""
    return _next(_SINGLE)


def four_free_ports() -> int:
    """Return the first of four such ports in a row."""
    return _next(_FOUR)
