"""Random names; those that are credentials have 26 characters of ``[a-z2-7]``, 130 bits."""

from __future__ import annotations

import secrets
from typing import Final

from ..auth.family import TOKEN_LENGTH

__all__ = ["new_name", "new_secret"]

_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]
"""Two characters for each ten bits; every connect draws some, and `base64` takes five times as long."""


def new_secret(length: int = TOKEN_LENGTH) -> str:
    """Return a new credential; see `new_name`."""
    return new_name(length)


def new_name(length: int) -> str:
    """Return ``length`` random characters of base32 in lower case (RFC 4648 section 6); an even number of them."""
    bits = secrets.randbits(5 * length)
    return "".join([_PAIRS[bits >> shift & 1023] for shift in range(0, 5 * length, 10)])
