"""Single HTTP requests over sockets of their own, with the one distinction a publisher lives by: was it sent?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

__all__ = ["Address", "Answer", "NotSentError", "head_of", "read_head", "request"]

PATIENCE = 6.0
"""Seconds an answer may take: a hub gives up a publish after two, and a proxy in front of it waits a little longer."""
MAX_LINE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Address:
    """Where a hub, or the proxy in front of several, listens."""

    port: int
    host: str = "127.0.0.1"

    @property
    def origin(self) -> str:
        """What a page that was loaded from there sends as Origin."""
        return f"http://{self.host}:{self.port}"


class NotSentError(Exception):
    """No connection came about, so nothing has happened over there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: names of headers in lower case, the last of several alike."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def problem(self) -> dict[str, Any]:
        """The members of a JSON body; empty for any other."""
        with suppress(ValueError):
            members = json.loads(self.body)
            if isinstance(members, dict):
                return members
        return {}


def head_of(method: str, path: str, address: Address, headers: Mapping[str, str]) -> bytes:
    """Return the bytes of a request's head."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address.host}:{address.port}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def read_head(reader: asyncio.StreamReader) -> Answer:
    """Read the head of an answer.

    :raises ConnectionError: there is none.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise ConnectionResetError("no answer") from error
    status, *fields = head.decode("latin-1").split("\r\n")
    pairs = (field.partition(":") for field in fields if field)
    return Answer(int(status.split()[1]), {name.lower(): value.strip() for name, _, value in pairs})


async def request(
    address: Address, method: str, path: str, *, headers: Mapping[str, str], body: object = None
) -> Answer:
    """Send one request and read its answer.

    :raises NotSentError: no connection could be made.
    :raises OSError: it was sent, or a part of it, and no whole answer came.
    """
    content = b"" if body is None else json.dumps(body).encode()
    extra = {"Connection": "close", "Content-Length": str(len(content))}
    if content:
        extra["Content-Type"] = "application/json"
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(address.host, address.port, limit=MAX_LINE)
    except OSError as error:  # TimeoutError is one
        raise NotSentError(str(error)) from error
    try:
        async with asyncio.timeout(PATIENCE):
            writer.write(head_of(method, path, address, {**extra, **headers}) + content)
            answer = await read_head(reader)
            return Answer(answer.status, answer.headers, await _body(reader, answer))
    finally:
        writer.transport.abort()


async def _body(reader: asyncio.StreamReader, answer: Answer) -> bytes:
    """Read a body to its end. A server that is killed between head and body leaves an answer without one."""
    body = await reader.read()
    announced = int(answer.headers.get("content-length", len(body)))
    if len(body) != announced:
        raise ConnectionResetError(f"an answer of {announced} bytes ended after {len(body)}")
    return body
