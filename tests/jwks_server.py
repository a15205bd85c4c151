"""A web server on a loopback port that answers as a test tells it to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Self


class JwksServer:
    """Speaks just enough HTTP/1.1 over real sockets; ``answer`` is what the next request gets.

    ``hold``: no answer before it is set. ``requests`` are the request lines and headers, as text.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.serve({"keys": []})

    def serve(self, document: Any, *, status: str = "200 OK", headers: Mapping[str, str] | None = None) -> None:
        """Answer with a document: bytes as they are, anything else as JSON."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        lines = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        head = f"HTTP/1.1 {status}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.answer = head.encode() + b"Connection: close\r\n\r\n" + body

    @property
    def url(self) -> str:
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}/jwks.json"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hold.set()
        self._server.close()
        await self._server.wait_closed()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            await self.hold.wait()
            writer.write(self.answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client had seen enough
        finally:
            writer.close()
