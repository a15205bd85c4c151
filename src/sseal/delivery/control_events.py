"""What a hub itself says on a stream: how it begins, how its session stands, how it ends."""

from __future__ import annotations

from .. import wire
from ..position import Position
from ..stream.connection import Connection
from ..stream.reasons import CloseReason

__all__ = ["auth_event", "closing_events", "opening"]


def opening(connection: Connection, start: Position, retry_ms: int) -> bytes:
    """Return the first body of a stream: ``auth`` with the starting position (W1) and the reconnection time (W51)."""
    return auth_event(connection, "valid", connection.event_id(start), retry_ms)


def auth_event(connection: Connection, session: str, event_id: str | None = None, retry_ms: int | None = None) -> bytes:
    """Return the event that says how a stream's session stands."""
    subscription = connection.subscription
    return wire.auth_event(
        session=session,  # type: ignore[arg-type]
        connection=connection.id,
        subject=subscription.identity.subject,
        topics=subscription.topics.names,
        expires_at=subscription.identity.expires_at,
        id=event_id,
        retry=retry_ms,
    )


def closing_events(connection: Connection, reason: CloseReason, retry_ms: int | None) -> bytes:
    """Return the events with which a stream ends for a reason; empty for one that ends without a word.

    :param retry_ms: after what time to come back, where the reason allows that.
    """
    words = b""
    if reason.session is not None:
        words += auth_event(connection, reason.session)
    if reason.reconnect is not None:
        words += wire.bye_event(reason=reason.name, reconnect=reason.reconnect, retry=retry_ms)
    return words
