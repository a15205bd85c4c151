"""Random names that are credentials: 26 characters of ``[a-z2-7]``, 130 bits."""

from __future__ import annotations

import secrets
from base64 import b32encode

from ..auth.family import TOKEN_LENGTH

__all__ = ["new_secret"]


def new_secret(length: int = TOKEN_LENGTH) -> str:
    """Return ``length`` random characters of the base32 alphabet in lower case (RFC 4648 section 6)."""
    return b32encode(secrets.token_bytes(-(-length * 5 // 8))).decode().lower()[:length]
