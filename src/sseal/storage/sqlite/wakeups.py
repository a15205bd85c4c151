"""Wake-ups between the processes that share a file: one datagram per commit (W28); and broadcasts that need no disk."""

from __future__ import annotations

import os
import secrets
import select
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

__all__ = ["Bell", "Ringer"]

_LINUX: Final = hasattr(socket, "SO_PASSCRED")
"""Only Linux has socket names that are not files and end with their process."""
MAX_BODY: Final = 32 * 1024
"""Bytes of a broadcast: a revocation is far smaller."""
MAX_KEPT: Final = 1_000
"""Broadcasts that wait to be taken."""
_RING: Final = b"!"
_SAY: Final = b"="
_SENDER: Final = struct.Struct("3i")
"""Process, user and group of whoever sent a datagram, as the kernel vouches for it."""


class Bell:
    """A socket that others ring. Without such sockets only its own process can, and the others are polled for.

    Whoever hears one looks at the file, whatever it says. What it says beyond that counts only when the same user, or
    root, has sent it: the names of such sockets are no secret.
    """

    def __init__(self) -> None:
        self.address: str | None = None
        self._said: list[bytes] = []
        self._own, self._push = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._heard = [self._own]
        if _LINUX:
            bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self.address = f"sseal-{secrets.token_hex(16)}"
            bound.bind(f"\0{self.address}")
            self._heard.append(bound)
        self._poll = select.poll()  # select() cannot wait for descriptors beyond 1,023
        for heard in self._heard:
            self._poll.register(heard, select.POLLIN)
        for heard in (*self._heard, self._push):
            heard.setblocking(False)

    def wait(self, seconds: float) -> bool:
        """Wait until it is rung, at most so long; tell whether it was."""
        ready = self._poll.poll(seconds * 1e3)
        for heard in self._heard if ready else ():
            with suppress(BlockingIOError):
                while self._hear(heard):
                    continue
        return bool(ready)

    def take(self) -> list[bytes]:
        """Return the broadcasts that have come, once."""
        said, self._said = self._said, []
        return said

    def _hear(self, heard: socket.socket) -> bool:
        """Take one datagram; tell whether it was one."""
        datagram, ancillary, _, _ = heard.recvmsg(MAX_BODY + 1, socket.CMSG_SPACE(_SENDER.size))
        if datagram[:1] == _SAY and len(self._said) < MAX_KEPT and _trusted(ancillary):
            self._said.append(datagram[1:])
        return bool(datagram)

    def ring_own(self) -> None:
        """Wake whoever waits for this bell."""
        with suppress(BlockingIOError):  # it is awake already
            self._push.send(_RING)

    def close(self) -> None:
        """Let go of the sockets."""
        for heard in (*self._heard, self._push):
            heard.close()


def _trusted(ancillary: list[tuple[int, int, bytes]]) -> bool:
    """Tell whether a datagram came from a process of this user, or of root."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            _, user, _ = _SENDER.unpack(data[: _SENDER.size])
            return user in (os.geteuid(), 0)
    return False


class Ringer:
    """Rings the bells of other processes."""

    def __init__(self) -> None:
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)

    def ring(self, addresses: Iterable[str]) -> list[str]:
        """Ring at these addresses; return those nobody waits at any more."""
        gone = []
        for address in addresses:
            try:
                self._sender.sendto(_RING, f"\0{address}")
            except BlockingIOError:
                continue  # its queue is full: it is awake
            except OSError:
                gone.append(address)
        return gone

    def say(self, body: bytes, addresses: Iterable[str]) -> list[str]:
        """Send a broadcast to these addresses; return those whose queue has no room now."""
        full = []
        for address in addresses:
            try:
                self._sender.sendto(_SAY + body, f"\0{address}")
            except BlockingIOError:
                full.append(address)
            except OSError:
                continue  # nobody waits there any more
        return full

    def close(self) -> None:
        """Let go of the socket."""
        self._sender.close()
