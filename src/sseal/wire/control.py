"""What the hub itself says on a stream: ``auth``, ``gap``, ``bye`` and the reconnection time.

An id is a cursor, so it stands only where it is the true position (W1): on the ``auth`` that opens a
stream and on every ``gap``. All values travel as JSON, which cannot break a line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, get_args

import msgspec

from ..errors import InvalidInput
from .encoder import check_text, encode
from .event import MAX_RETRY, Event

__all__ = ["AuthState", "auth_event", "bye_event", "gap_event"]

AuthState = Literal["valid", "expiring", "refreshed", "expired", "revoked"]
"""The state of the identity behind a live stream."""

_SESSIONS: Final = frozenset(get_args(AuthState))


def auth_event(
    *,
    session: AuthState,
    connection: str,
    subject: str | None,
    topics: Sequence[str],
    expires_at: float | None,
    id: str | None = None,  # noqa: A002
    retry: int | None = None,
) -> bytes:
    """Encode an ``auth`` event: whose stream this is and how the identity fares.

    :param connection: the name of the connection, as ``POST /auth/refresh`` wants it.
    :param subject: None for an anonymous stream.
    :param topics: what was granted, which may be less than what was asked for.
    :param expires_at: Unix seconds; None when the identity does not expire.
    :param id: for the first event of a stream the position the stream starts from, None for every later one.
    :param retry: for the first event the reconnection time in milliseconds: in a block of its own, some clients would
        report it as an empty event (W51).
    :raises InvalidInput: ``session`` is no such state, or a text cannot be encoded.
    """
    if session not in _SESSIONS:
        raise InvalidInput("session", f"must be one of {', '.join(get_args(AuthState))}, is {session!r}")
    members = {
        "session": session,
        "connection": connection,
        "subject": subject,
        "topics": list(topics),
        "expires_at": expires_at,
    }
    return _control("auth", members, id, retry)


def gap_event(*, from_: str | None, to: str, reason: str, id: str) -> bytes:  # noqa: A002
    """Encode a ``gap`` event: something between two positions cannot be had any more.

    :param from_: the position the reader presented or was at; None when it was not a position.
    :param to: the position after which the stream continues.
    :param reason: a stable name, such as ``trimmed`` or ``unknown_position``.
    :param id: ``to``, on ticket streams with the resume token before it.
    :raises InvalidInput: a text cannot be encoded.
    """
    return _control("gap", {"from": from_, "to": to, "reason": reason}, id)


def bye_event(*, reason: str, reconnect: bool, retry: int | None = None) -> bytes:
    """Encode a ``bye`` event: the hub is about to end the stream, and whether to come back.

    An EventSource comes back after any end of a stream. When it must not, the longest reconnection time
    stands before the event, the only word it obeys (W37).

    :param retry: after how many milliseconds to come back, if it is to.
    :raises InvalidInput: the reason cannot be encoded, or ``retry`` is no reconnection time.
    """
    event = _control("bye", {"reason": reason, "reconnect": reconnect}, None, retry if reconnect else None)
    return event if reconnect else b"retry: %d\n%b" % (MAX_RETRY, event)


def _control(event_type: str, members: Mapping[str, object], event_id: str | None, retry: int | None = None) -> bytes:
    """Encode a control event whose data is a JSON object."""
    for field, value in members.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                check_text(field, text)
    return encode(Event(type=event_type, data=msgspec.json.encode(members).decode(), id=event_id, retry=retry))
