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

__all__ = ["Notifier", "WakeupSocket"]

_LINUX: Final = hasattr(socket, "SO_PASSCRED")
"""Only Linux has socket names that are not files and end with their process."""
MAX_BODY: Final = 32 * 1024
"""Bytes of a broadcast: a revocation is far smaller."""
MAX_KEPT: Final = 1_000
"""Broadcasts that wait to be taken."""
_WAKE: Final = b"!"
_BROADCAST: Final = b"="
_SENDER: Final = struct.Struct("3i")
"""Process, user and group of whoever sent a datagram, as the kernel vouches for it."""


class WakeupSocket:
    """A socket that other processes send wake-ups to. Where there are no such sockets, only its own process can.

    Whoever is woken looks at the file, whatever the datagram says. What it says beyond that counts only when the same
    user, or root, has sent it: the names of such sockets are no secret.
    """

    def __init__(self) -> None:
        self.address: str | None = None  # where other processes send; None if they cannot
        self._broadcasts: list[bytes] = []  # received and not taken yet
        self._own, self._own_sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._receivers = [self._own]  # everything that can wake, the own one first
        if _LINUX:
            bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self.address = f"sseal-{secrets.token_hex(16)}"
            bound.bind(f"\0{self.address}")
            self._receivers.append(bound)
        self._poll = select.poll()  # select() cannot wait for descriptors beyond 1,023
        for receiver in self._receivers:
            self._poll.register(receiver, select.POLLIN)
        for receiver in (*self._receivers, self._own_sender):
            receiver.setblocking(False)

    def wait(self, seconds: float) -> bool:
        """Wait for a wake-up, at most so long; tell whether one came."""
        ready = self._poll.poll(seconds * 1e3)
        for receiver in self._receivers if ready else ():
            with suppress(BlockingIOError):
                while self._receive(receiver):
                    continue
        return bool(ready)

    def take_broadcasts(self) -> list[bytes]:
        """Return the broadcasts that have come, once."""
        taken, self._broadcasts = self._broadcasts, []
        return taken

    def _receive(self, receiver: socket.socket) -> bool:
        """Take one datagram; tell whether it was one."""
        datagram, ancillary, _, _ = receiver.recvmsg(MAX_BODY + 1, socket.CMSG_SPACE(_SENDER.size))
        if datagram[:1] == _BROADCAST and len(self._broadcasts) < MAX_KEPT and _trusted(ancillary):
            self._broadcasts.append(datagram[1:])
        return bool(datagram)

    def wake(self) -> None:
        """Wake whoever waits at this socket; callable from any thread."""
        with suppress(BlockingIOError):  # it is awake already
            self._own_sender.send(_WAKE)

    def close(self) -> None:
        """Let go of the sockets."""
        for receiver in (*self._receivers, self._own_sender):
            receiver.close()


def _trusted(ancillary: list[tuple[int, int, bytes]]) -> bool:
    """Tell whether a datagram came from a process of this user, or of root."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            _, user, _ = _SENDER.unpack(data[: _SENDER.size])
            return user in (os.geteuid(), 0)
    return False


class Notifier:
    """Sends to the wake-up sockets of other processes."""

    def __init__(self) -> None:
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)

    def wake(self, addresses: Iterable[str]) -> list[str]:
        """Wake whoever waits at these addresses; return those nobody waits at any more."""
        gone = []
        for address in addresses:
            try:
                self._sender.sendto(_WAKE, f"\0{address}")
            except BlockingIOError:
                continue  # its queue is full: it is awake
            except OSError:
                gone.append(address)
        return gone

    def broadcast(self, body: bytes, addresses: Iterable[str]) -> list[str]:
        """Send a broadcast to these addresses; return those whose queue has no room now."""
        full = []
        for address in addresses:
            try:
                self._sender.sendto(_BROADCAST + body, f"\0{address}")
            except BlockingIOError:
                full.append(address)
            except OSError:
                continue  # nobody waits there any more
        return full

    def close(self) -> None:
        """Let go of the socket."""
        self._sender.close()
