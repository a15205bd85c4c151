"""What replies mean: one function per kind of reply, which refuses every other."""

from __future__ import annotations

import msgspec

from .connection import Reply

__all__ = ["flag", "nothing", "number", "optional_bytes", "texts"]


def nothing(reply: Reply) -> None:
    """Take any reply, of which nothing is needed."""
    del reply


def number(reply: Reply) -> int:
    """Return an integer."""
    if isinstance(reply, int):
        return reply
    raise msgspec.ValidationError("an integer was expected")


def flag(reply: Reply) -> bool:
    """Return whether an integer is not 0."""
    return number(reply) != 0


def optional_bytes(reply: Reply) -> bytes | None:
    """Return a value, or None where there is none."""
    if reply is None or isinstance(reply, bytes):
        return reply
    raise msgspec.ValidationError("a value was expected")


def texts(reply: Reply) -> list[str]:
    """Return a list of texts."""
    return [item.decode() for item in msgspec.convert(reply, list[bytes])]
