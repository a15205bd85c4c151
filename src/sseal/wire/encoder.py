"""Events to bytes: one frame, and the pieces from which the fan-out joins many."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from ..errors import InvalidInput
from .event import MAX_RETRY, Event

__all__ = [
    "FRAME_START",
    "HEARTBEAT",
    "check_line",
    "check_retry",
    "check_text",
    "encode",
    "envelope_data",
    "frame_tail",
    "sealed_start",
    "utf8_length",
]

HEARTBEAT: Final = b":\n"
"""An empty comment and no blank line: a blank line would end a block, and some clients then report an
empty event when an id was seen before."""

FRAME_START: Final = b"id: "
"""What stands before each tail on streams without resume tokens."""
_NAMES: Final = {"\r": "carriage return", "\n": "line feed", "\0": "NUL"}
_NOT_IN_A_FIELD = re.compile(r"[\r\n\0]")


def encode(event: Event) -> bytes:
    r"""Encode one event as one frame (HTML standard section 9.2.5).

    The order is ``id``, ``event`` (left out for ``message``), ``retry``, ``topic``, ``data``, blank line;
    every line ends with ``\n``. The data is split at CR, LF and CRLF and nowhere else, so a decoder gives
    back the data with ``\n`` for every line end. Empty data is one ``data`` line without a value: the
    standard dispatches that as an event whose data is empty, while a block without any ``data`` line is no
    event. ``last_event_id`` is not sent.

    :raises InvalidInput: ``id``, ``type`` or ``topic`` holds a CR, LF or NUL, ``type`` or ``topic`` is empty,
        any text holds a lone surrogate, or ``retry`` is no integer from 0 to 2147483647. Nothing is repaired.
    """
    tail = _fields(event.type, event.data, event.topic, event.retry)
    if event.id is None:
        return tail
    return FRAME_START + _line(event.id, "id") + tail


def frame_tail(position: str, type: str, data: str, topic: str | None, retry: int | None = None) -> bytes:  # noqa: A002
    """Encode a frame without its beginning ``id: ``, so that a resume token may still stand there.

    The result is shared by all streams that get the event; `FRAME_START` or a `sealed_start` completes it.

    :raises InvalidInput: as `encode`.
    """
    return _line(position, "id") + _fields(type, data, topic, retry)


def sealed_start(token: bytes) -> bytes:
    """Return what stands before each tail of a ticket stream, where `FRAME_START` stands on others (W31).

    All tokens have one length, so have all these starts: ``start.join(parts)`` has the same length on every
    stream.
    """
    return b"id: %b_" % token


def envelope_data(topic: str, type: str, data: str) -> str:  # noqa: A002
    """Return the data of a frame under ``?envelope=1``: topic, type and data as one line of JSON.

    :raises InvalidInput: a text holds a lone surrogate.
    """
    members = {"topic": topic, "type": type, "data": data}
    for field, text in members.items():
        check_text(field, text)
    return msgspec.json.encode(members).decode()


def check_text(field: str, text: str) -> None:
    """Refuse text that has no UTF-8 form.

    :raises InvalidInput: names ``field`` and the first lone surrogate.
    """
    _utf8(field, text)


def check_line(field: str, text: str) -> None:
    """Refuse text that cannot be an event type or topic.

    :raises InvalidInput: names ``field``: it is empty, or holds a CR, LF, NUL or lone surrogate.
    """
    _line(text, field, may_be_empty=False)


def utf8_length(field: str, text: str) -> int:
    """Return the bytes of a text in UTF-8.

    :raises InvalidInput: names ``field`` and the first lone surrogate.
    """
    return len(_utf8(field, text))


def check_retry(retry: int) -> None:
    """Refuse a reconnection time that a client would not obey.

    :raises InvalidInput: it is no integer (True is none), negative, or above `MAX_RETRY` milliseconds.
    """
    if type(retry) is not int or not 0 <= retry <= MAX_RETRY:
        raise InvalidInput("retry", f"must be an integer from 0 to {MAX_RETRY} milliseconds, is {retry!r}")


def _fields(event_type: str, data: str, topic: str | None, retry: int | None) -> bytes:
    """Encode everything after the id."""
    head = b""
    kind = _line(event_type, "type", may_be_empty=False)
    if event_type != "message":
        head = b"event: " + kind
    if retry is not None:
        check_retry(retry)
        head += b"retry: %d\n" % retry
    if topic is not None:
        head += b"topic: " + _line(topic, "topic", may_be_empty=False)
    # [spec] end-of-line = ( cr lf / cr / lf ). str.splitlines would also split at U+2028 and six others.
    # In UTF-8 neither is ever part of another character, so splitting the bytes is safe.
    lines = _utf8("data", data)
    if b"\r" in lines:
        lines = lines.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return b"%bdata: %b\n\n" % (head, lines.replace(b"\n", b"\ndata: "))


def _line(text: str, field: str, *, may_be_empty: bool = True) -> bytes:
    """Encode the rest of a line, refusing whatever could end it or make a client ignore it."""
    if not text and not may_be_empty:
        raise InvalidInput(field, "must not be empty")
    match = _NOT_IN_A_FIELD.search(text)
    if match is not None:
        raise InvalidInput(field, _fault(text, match.start()))
    return _utf8(field, text) + b"\n"


def _utf8(field: str, text: str) -> bytes:
    """Encode text, refusing a lone surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(field, _fault(text, error.start)) from None


def _fault(text: str, index: int) -> str:
    """Name a forbidden character and its place."""
    name = _NAMES.get(text[index], "lone surrogate")
    return f"holds a {name} (U+{ord(text[index]):04X}) at index {index}"
