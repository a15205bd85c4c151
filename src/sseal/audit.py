"""Security events: for each one line with stable names on the logger ``sseal.audit``, and one count.

`EVENTS` is the schema (docs/reference/audit.md). A line says who (``subject``, ``issuer``), how that was proven
(``auth_method``), why something was refused (``reason``) and from where (``address``), as far as it is known. No line
holds a secret: no token, ticket, cookie or password, and no name typed at a login that is no account's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["EVENTS", "MAX_TEXT", "REASONS", "Audit", "Event", "one_line"]

MAX_TEXT: Final = 512
"""Characters of a field that others choose, such as a path."""
_FOREIGN: Final = ("detail", "origin", "path")
"""Fields that may hold what a client sent, redacted on their way."""


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of security event.

    :param level: of its lines, from `logging`.
    :param fields: what each of its lines has, beside the name as its message.
    """

    level: int
    fields: tuple[str, ...]


_WHO: Final = ("subject", "issuer", "auth_method")
_WHERE: Final = ("address", "path")
_INFO, _WARNING = logging.INFO, logging.WARNING

EVENTS: Final[dict[str, Event]] = {
    "credential_refused": Event(_WARNING, ("auth_method", "reason", "detail", "subject", *_WHERE)),
    "ticket_reused": Event(_WARNING, _WHERE),
    "family_ended": Event(_WARNING, ("subject", "issuer", "family", *_WHERE)),
    "query_token_refused": Event(_WARNING, ("reason", *_WHERE)),
    "origin_refused": Event(_WARNING, ("origin", "detail", *_WHERE)),
    "admin_refused": Event(_WARNING, (*_WHO, *_WHERE)),
    "rate_limited": Event(_WARNING, ("code", "detail", *_WHO, *_WHERE)),
    "login_succeeded": Event(_INFO, ("subject", "address")),
    "login_failed": Event(_WARNING, ("subject", "detail", "address")),
    "session_opened": Event(_INFO, (*_WHO, "address")),
    "session_closed": Event(_INFO, ("subject", "issuer", "address")),
    "admin_minted": Event(_INFO, (*_WHO, "target", "topics", "address")),
    "admin_disconnected": Event(_INFO, (*_WHO, "connection", "address")),
    "admin_revoked": Event(_INFO, (*_WHO, "kind", "target", "target_issuer", "ended", "address")),
    "revocation_applied": Event(_INFO, ("kind", "target", "target_issuer", "ended")),
    "keyset_failed": Event(_WARNING, ("url", "detail")),
}
"""Every kind of security event, by its name."""

REASONS: Final = (
    "account",
    "algorithm",
    "claims",
    "expired",
    "key",
    "malformed",
    "origin",
    "place",
    "position",
    "revoked",
    "signature",
    "subject",
    "superseded",
    "unknown",
)
"""Why a credential may be refused: the ``reason`` of ``credential_refused``, and the label of its counter."""


class Audit:
    """The security events of one hub.

    :param redact: takes secrets out of text that others choose.
    :ivar counts: how many there were, by name; every name is in it from the start.
    :ivar refused: how many credentials were refused, by reason.
    """

    def __init__(self, redact: Callable[[str], str] = str) -> None:
        self.counts = dict.fromkeys(EVENTS, 0)
        self.refused = dict.fromkeys(REASONS, 0)
        self._redact = redact
        self._logger = logging.getLogger("sseal.audit")

    def emit(self, name: str, **fields: object) -> None:
        """Count an event and write its line.

        :param fields: those that `EVENTS` names; what is not known is None.
        :raises KeyError: there is no such event.
        """
        event = EVENTS[name]
        self.counts[name] += 1
        if name == "credential_refused":
            if fields["reason"] not in self.refused:
                fields["reason"] = "unknown"  # an app's own `authenticate=` may say what it likes; the detail tells
            self.refused[str(fields["reason"])] += 1
        if not self._logger.isEnabledFor(event.level):
            return
        for key in _FOREIGN:
            if isinstance(text := fields.get(key), str):
                fields[key] = self._redact(text[: 2 * MAX_TEXT])[:MAX_TEXT]
        for key, value in fields.items():
            if isinstance(value, str):
                fields[key] = one_line(value)
        self._logger.log(event.level, name, extra=dict.fromkeys(event.fields) | fields)


def one_line(text: str) -> str:
    """Escape what would begin a line, or move a terminal's cursor, whatever format an app's log has."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
