"""Keeps tokens and tickets out of access logs that servers write themselves (W22)."""

from __future__ import annotations

import logging
import re
from typing import Final

__all__ = ["LOGGERS", "RedactFilter", "install", "installed", "redact"]

LOGGERS: Final = (
    "uvicorn.access",
    "uvicorn.error",
    "hypercorn.access",
    "gunicorn.access",
    "_granian",
    "granian.access",
)
"""The loggers through which ASGI servers write paths and query strings."""

_SECRET: Final = re.compile(
    r"((?:[?&;]|%3[fF]|%26)(?:token|ticket|access_token)=)[^&;\s\"']*"
    r"|(/events/)(?!\s|\?|\"|$)[^/?\s\"']+"
    # Tickets, resume tokens and sessions, whatever is glued to them: no word or name of ours is as long.
    r"|[a-z2-7]{26,}"
    r"|((?i:bearer)\s+)[A-Za-z0-9._~+/=-]{8,}"
    # A JSON object in base64, as header and payload of a JWT are, and what a dot ties to it. Other ways to write an
    # object's first characters than without a blank are rare, and ask for more length.
    r"|(?:eyJ[A-Za-z0-9_-]{4,}|(?:eyA|eyI|ewo|ew0|ewk)[A-Za-z0-9_-]{20,})(?:={0,2}\.[A-Za-z0-9_-]*)*",
)


def redact(text: str) -> str:
    """Return ``text`` with every token, ticket and resume token in it replaced by ``[redacted]``."""
    return _SECRET.sub(_blank, text)


def _blank(match: re.Match[str]) -> str:
    return (match[1] or match[2] or match[3] or "") + "[redacted]"


class RedactFilter(logging.Filter):
    """Rewrites records on their way out; drops none."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace secrets in the message and its arguments."""
        if isinstance(record.msg, str):
            record.msg = redact(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(redact(arg) if isinstance(arg, str) else arg for arg in record.args)
        elif isinstance(record.args, dict):
            record.args = {key: redact(arg) if isinstance(arg, str) else arg for key, arg in record.args.items()}
        return True


def install() -> None:
    """Filter the access logs of the known servers; calling it twice is fine.

    Call it once in the host app when the hub is mounted; `sseal serve` does so itself. ``?token=`` is refused
    until then.
    """
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(known, RedactFilter) for known in logger.filters):
            logger.addFilter(RedactFilter())


def installed() -> bool:
    """Tell whether every known access log is filtered."""
    return all(any(isinstance(f, RedactFilter) for f in logging.getLogger(name).filters) for name in LOGGERS)
