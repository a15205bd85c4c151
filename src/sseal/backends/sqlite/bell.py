"""Wake-ups between the processes that share a file: one datagram per commit (W28)."""

from __future__ import annotations

import secrets
import select
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

__all__ = ["Bell", "Ringer"]

_LINUX: Final = hasattr(socket, "SO_PASSCRED")
"""Only Linux has socket names that are not files and end with their process."""


class Bell:
    """A socket that others ring. Without such sockets only its own process can, and the others are polled for.

    What a datagram says does not matter: whoever hears one looks at the file.
    """

    def __init__(self) -> None:
        self.address: str | None = None
        self._own, self._push = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._heard = [self._own]
        if _LINUX:
            bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
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
                while heard.recv(16):
                    continue
        return bool(ready)

    def ring_own(self) -> None:
        """Wake whoever waits for this bell."""
        with suppress(BlockingIOError):  # it is awake already
            self._push.send(b"!")

    def close(self) -> None:
        """Let go of the sockets."""
        for heard in (*self._heard, self._push):
            heard.close()


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
                self._sender.sendto(b"!", f"\0{address}")
            except BlockingIOError:
                continue  # its queue is full: it is awake
            except OSError:
                gone.append(address)
        return gone

    def close(self) -> None:
        """Let go of the socket."""
        self._sender.close()
