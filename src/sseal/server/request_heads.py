"""What a request head must look like beyond what the parser checks (RFC 9110, RFC 9112).

llhttp in its strict form refuses bare CR and LF, obsolete line folding, control characters, whitespace before a colon,
two Content-Length, and Content-Length beside Transfer-Encoding. It lets through what is refused here: another version,
no Host or two, and transfer codings this server does not know, each of which a proxy in front may read differently.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final

import httptools

__all__ = [
    "FRAMING",
    "MAX_HEAD",
    "MAX_LINES",
    "Refused",
    "check_framing",
    "end_of_piece",
    "rest_of_body",
    "split_target",
]

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request line and its headers: 64 topics of 256 characters fit, percent-encoded text included."""
MAX_LINES: Final = 128
"""Header lines of a request: proxies and browsers send 10 to 40, and other servers stop at 100."""

_HOST: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]{0,5})?", re.ASCII)
"""``uri-host [ ":" port ]`` (RFC 9110 section 7.2)."""

FRAMING: Final = (b"content-length", b"transfer-encoding")
"""Headers that say where a body ends."""

Headers = Sequence[tuple[bytes, bytes]]


_END_OF_HEAD: Final = b"\r\n\r\n"


class Refused(Exception):  # noqa: N818 - it is how a request ends
    """A request that is not read on: its status, and a sentence for whoever sent it."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def _malformed(reason: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, reason)


def check_framing(version: str, headers: Headers) -> int:
    """Check version, Host and Transfer-Encoding of a request; names of headers are in lower case.

    :returns: how many bytes the body has, 0 if the head does not say.
    :raises Refused: it must not be answered as if it were understood.
    """
    if version not in ("1.1", "1.0"):
        raise Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this server speaks HTTP/1.1")
    hosts = length = 0
    codings: list[bytes] = []
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if _HOST.fullmatch(value) is None:
                raise _malformed("the Host header is not a host")
        elif name == b"transfer-encoding":
            codings.append(value)
        elif name == b"content-length":
            length = int(value)
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise _malformed("a request has exactly one Host header")  # RFC 9112 section 3.2
    if codings:
        _check_coding(version, b",".join(codings))  # several lines are one list (RFC 9110 section 5.3)
    return length


def _check_coding(version: str, value: bytes) -> None:
    if version == "1.0":
        raise _malformed("HTTP/1.0 has no Transfer-Encoding")  # RFC 9112 section 6.1: its framing is faulty
    codings = [part.strip().lower() for part in value.split(b",")]
    if codings[-1] != b"chunked" or b"chunked" in codings[:-1]:
        raise _malformed("the last transfer coding is chunked, once")  # RFC 9112 section 6.3
    if len(codings) > 1:
        raise Refused(HTTPStatus.NOT_IMPLEMENTED, "chunked is the only transfer coding this server knows")


def split_target(method: str, target: bytes) -> tuple[bytes, bytes | None]:
    """Return the path and query of a request target, and its authority if it names one (RFC 9112 section 3.2).

    :raises Refused: it is none of the forms a server takes.
    """
    if method == "CONNECT":
        raise Refused(HTTPStatus.NOT_IMPLEMENTED, "this server is no proxy")
    if target.startswith(b"/"):
        return target, None
    if target == b"*" and method == "OPTIONS":
        return target, None
    scheme, found, rest = target.partition(b"://")
    cut = min((at for at in (rest.find(mark) for mark in (b"/", b"?", b"#")) if at >= 0), default=len(rest))
    authority, path = rest[:cut], rest[cut:]
    if not found or scheme.lower() not in (b"http", b"https") or not authority or _HOST.fullmatch(authority) is None:
        raise _malformed("the request target is not a path")
    return (path if path.startswith(b"/") else b"/" + path), authority


class _Rest:
    """The callbacks of a parser that reads nothing but a body: neither a head nor trailers are told of."""

    def __init__(self, on_body: Callable[[bytes], None], on_message_complete: Callable[[], None]) -> None:
        self.on_body = on_body
        self.on_message_complete = on_message_complete


def rest_of_body(
    headers: Headers, on_body: Callable[[bytes], None], on_message_complete: Callable[[], None]
) -> httptools.HttpRequestParser | None:
    """Return a parser for the body of a request whose own parser stopped behind its head, for an upgrade.

    A server may ignore ``Upgrade`` and stay with the protocol it speaks (RFC 9110 section 7.8): the body then has the
    framing that its head announced. None if it announced none.
    """
    framing = [(name, value) for name, value in headers if name in FRAMING]
    if not framing:
        return None
    parser = httptools.HttpRequestParser(_Rest(on_body, on_message_complete))
    parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % line for line in framing))
    return parser


def end_of_piece(data: bytes, start: int, most: int) -> int:
    """Return where a piece of what was read ends that holds no more than one head, and at most so many bytes."""
    end = min(len(data), start + most)
    found = data.find(_END_OF_HEAD, start, end)
    return end if found < 0 else found + 4
