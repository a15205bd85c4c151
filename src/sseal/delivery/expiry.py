"""Expiry: a live stream is told that its identity expires soon, and is closed when it has, unless it is refreshed."""

from __future__ import annotations

from dataclasses import replace

from ..auth.identity import Identity
from ..stream import reasons
from ..stream.connection import Connection
from ..subscription import Subscription
from .deadlines import Deadlines
from .open_streams import OpenStreams
from .revocations import Revocations

__all__ = ["Expiry"]


class Expiry:
    """Watches when the identities of open streams expire.

    :param revocations: what a fresh identity is checked against.
    :param notice: seconds before the end of an identity at which its stream is told: ``auth: expiring``.
    """

    def __init__(self, streams: OpenStreams, revocations: Revocations, notice: float) -> None:
        self._streams = streams
        self._revocations = revocations
        self._notice = notice
        self._deadlines = Deadlines()  # in Unix seconds

    def __len__(self) -> int:
        """Count the streams whose identity expires."""
        return len(self._deadlines)

    def on_open(self, connection: Connection) -> None:
        """Watch a stream."""
        if (moment := self._next_moment(connection)) is not None:
            self._deadlines.add(connection, moment)

    def on_close(self, connection: Connection) -> None:
        """Watch it no more."""
        if (moment := self._next_moment(connection)) is not None:
            self._deadlines.remove(connection, moment)

    def refresh(self, connection: Connection, granted: Subscription) -> Identity:
        """Extend a live stream in place and say so; from now on it follows the fresh identity.

        The topics stay; times, grants and parents are those of the fresh credential, the family its own.

        :raises CredentialInvalid: the fresh identity was revoked or has expired meanwhile (W17).
        """
        old, fresh = connection.subscription, granted.identity
        identity = replace(
            old.identity,
            grants=fresh.grants,
            issued_at=fresh.issued_at,
            expires_at=fresh.expires_at,
            token_id=None,
            parent_ids=fresh.token_ids,
        )
        self._revocations.check(identity)
        self.on_close(connection)
        self._streams.index.remove_token_ids(connection)
        connection.refresh(Subscription(identity, old.topics, granted.since))
        self._streams.index.add_token_ids(connection)
        self.on_open(connection)
        self._streams.notify(connection, "refreshed")
        return identity

    def tick(self, now: float) -> None:
        """Close the streams whose identity has expired, and tell those whose end is near.

        :param now: Unix seconds.
        """
        for connection in self._deadlines.due(now):
            if connection.subscription.identity.expired(now):
                self._streams.close(connection, reasons.EXPIRED)
                continue
            connection.expiring_sent = True
            self._streams.notify(connection, "expiring")
            self.on_open(connection)  # for its end

    def _next_moment(self, connection: Connection) -> float | None:
        """Return when a stream is due: at the notice, and after that at the end; None for one without an end."""
        expires_at = connection.subscription.identity.expires_at
        return expires_at if expires_at is None or connection.expiring_sent else expires_at - self._notice
