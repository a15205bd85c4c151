"""A served hub under attack: raw bytes in, and what may never happen."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from servers import Server
from sseal.auth.jwt import sign

__all__ = ["SECRET", "Size", "Target", "token"]

SECRET = "a secret of the fuzzing tests, 32 bytes"
PATIENCE = 10.0
"""Seconds within which a complete request is answered, and a client that has hung up is let go; quiet: milliseconds."""
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n")


def token(subject: str = "root", **claims: object) -> str:
    """Return a token that may do everything."""
    now = int(time.time())
    grants = {"subscribe": ["**"], "publish": ["**"], "admin": True}
    return sign({"sub": subject, "iat": now - 1, "exp": now + 3600, "sseal": grants, **claims}, SECRET)


@dataclass(frozen=True, slots=True)
class Size:
    """What a process holds: MiB of memory, descriptors."""

    memory: float
    descriptors: int

    def __str__(self) -> str:
        """Return both."""
        return f"{self.memory:.1f} MiB, {self.descriptors} descriptors"


class Target:
    """One server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.port = server.port

    def ask(self, request: bytes) -> int:
        """Send a complete request and return the status of its answer, 0 if the connection was closed unanswered.

        :raises AssertionError: neither within `PATIENCE`, or the answer is a 500.
        """
        with self._connection() as link:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                link.sendall(request)
            head = self._head(link, request)
        return self._status(head, request)

    def throw(self, raw: bytes) -> None:
        """Send anything, hang up halfway, and wait for the server to let go.

        :raises AssertionError: it holds on for longer than `PATIENCE`, or answers with a 500.
        """
        with self._connection() as link:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError, OSError):
                link.sendall(raw)
                link.shutdown(socket.SHUT_WR)
            answer = bytearray()
            try:
                while piece := link.recv(65536):
                    answer += piece
            except ConnectionResetError:
                pass
            except TimeoutError:
                raise AssertionError(f"not closed within {PATIENCE} s: {raw!r}") from None
        for status in _STATUS.findall(bytes(answer)):
            assert status != b"500", raw

    def size(self) -> Size:
        """Measure the server, once the descriptors of connections that are being closed are gone."""
        process = Path(f"/proc/{self._server.process.pid}")
        rss = int((process / "statm").read_text().split()[1]) * 4096
        return Size(rss / 2**20, len(list((process / "fd").iterdir())))

    def settled(self, wanted: int) -> Size:
        """Measure the server as soon as it has no more descriptors than wanted, at the latest after `PATIENCE`."""
        end = time.monotonic() + PATIENCE
        while (size := self.size()).descriptors > wanted and time.monotonic() < end:
            time.sleep(0.05)
        return size

    def complaints(self) -> list[str]:
        """Return the lines of the log that speak of a fault of the server's own."""
        words = ("Traceback", '"level": "error"', '"level": "critical"', "never retrieved", "never awaited")
        return [line[:500] for line in self._server.output.splitlines() if any(word in line for word in words)]

    def check_alive(self) -> None:
        """Fail if the server is gone, or does not answer."""
        assert self._server.process.poll() is None, self._server.output[-2000:]
        assert self.ask(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n") == 200

    def _connection(self) -> socket.socket:
        link = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # no port waits after the end
        return link

    def _head(self, link: socket.socket, request: bytes) -> bytes:
        answer = b""
        try:
            while b"\r\n\r\n" not in answer:
                piece = link.recv(65536)
                if not piece:
                    break
                answer += piece
        except ConnectionResetError:
            pass
        except TimeoutError:
            raise AssertionError(f"no answer within {PATIENCE} s: {request!r}") from None
        return answer

    def _status(self, head: bytes, request: bytes) -> int:
        if not head:
            return 0
        match = _STATUS.match(head)
        assert match is not None, (head, request)
        assert match[1] != b"500", request
        return int(match[1])
