"""Why a stream ends: one table, each reason saying whether to come back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "CLIENT_GONE",
    "CUT",
    "DRAINING",
    "EXPIRED",
    "KICKED",
    "MAX_AGE",
    "REASONS",
    "REPLACED",
    "REVOKED",
    "STALLED",
    "STORE_LOST",
    "SUPERSEDED",
    "UNAVAILABLE",
    "CloseReason",
]


@dataclass(frozen=True, slots=True)
class CloseReason:
    """One way to end.

    :param name: the ``reason`` in ``bye`` and in the access log.
    :param reconnect: whether the client shall come back; None when no ``bye`` is sent.
    :param session: the ``session`` of a last ``auth`` event, if one is sent first.
    """

    name: str
    reconnect: bool | None
    session: Literal["expired", "revoked"] | None = None


DRAINING: Final = CloseReason("draining", reconnect=True)
EXPIRED: Final = CloseReason("expired", reconnect=None, session="expired")
REVOKED: Final = CloseReason("revoked", reconnect=False, session="revoked")
SUPERSEDED: Final = CloseReason("superseded", reconnect=True)  # another stream of its family took over (W14)
REPLACED: Final = CloseReason("replaced", reconnect=False)  # too many streams of one subject: the oldest goes
KICKED: Final = CloseReason("kicked", reconnect=True)  # an administrator; who shall stay away is revoked (W37)
MAX_AGE: Final = CloseReason("max_age", reconnect=True)  # open for as long as a stream may be
STALLED: Final = CloseReason("stalled", reconnect=None)  # read nothing for a minute; may resume
STORE_LOST: Final = CloseReason("cut_off", reconnect=True)  # the hub cannot see revocations (W17)
UNAVAILABLE: Final = CloseReason("unavailable", reconnect=True)  # the log cannot be read now
CUT: Final = CloseReason("cut", reconnect=None)  # dropped without a word, as a network does
CLIENT_GONE: Final = CloseReason("client_gone", reconnect=None)

REASONS: Final = {
    reason.name: reason
    for reason in (
        DRAINING,
        EXPIRED,
        REVOKED,
        SUPERSEDED,
        REPLACED,
        KICKED,
        MAX_AGE,
        STALLED,
        STORE_LOST,
        UNAVAILABLE,
        CUT,
        CLIENT_GONE,
    )
}
