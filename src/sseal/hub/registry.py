"""The open streams of a hub, by what others ask for them by."""

from __future__ import annotations

from typing import Any

from ..auth.identity import Identity
from ..stream.connection import Connection

__all__ = ["Registry"]


class Registry:
    """Streams by id, subject, resume family and client address. A stream that leaves leaves nothing behind.

    :ivar by_id: all of them, oldest first.
    """

    def __init__(self) -> None:
        self.by_id: dict[str, Connection] = {}
        self._by_subject: dict[tuple[str, str], dict[str, Connection]] = {}
        self._by_family: dict[str, dict[str, Connection]] = {}
        self._by_address: dict[str, int] = {}

    def add(self, connection: Connection) -> None:
        """Let a stream be found."""
        self.by_id[connection.id] = connection
        identity = connection.subscription.identity
        if identity.subject is not None:
            self._by_subject.setdefault((identity.issuer, identity.subject), {})[connection.id] = connection
        if identity.family is not None:
            self._by_family.setdefault(identity.family, {})[connection.id] = connection
        if connection.address:
            self._by_address[connection.address] = self._by_address.get(connection.address, 0) + 1

    def remove(self, connection: Connection) -> None:
        """Let it be found no more."""
        del self.by_id[connection.id]
        identity = connection.subscription.identity
        if identity.subject is not None:
            _drop(self._by_subject, (identity.issuer, identity.subject), connection)
        if identity.family is not None:
            _drop(self._by_family, identity.family, connection)
        if connection.address:
            self._by_address[connection.address] -= 1
            if not self._by_address[connection.address]:
                del self._by_address[connection.address]

    def of_subject(self, identity: Identity) -> list[Connection]:
        """Return the streams of a subject, oldest first; those of nobody in particular are nobody's."""
        if identity.subject is None:
            return []
        return list(self._by_subject.get((identity.issuer, identity.subject), {}).values())

    def of_family(self, family: str | None) -> list[Connection]:
        """Return the streams of a resume family."""
        return [] if family is None else list(self._by_family.get(family, {}).values())

    def count_from(self, address: str) -> int:
        """Count the streams of a client address."""
        return self._by_address.get(address, 0)


def _drop(index: dict[Any, dict[str, Connection]], key: object, connection: Connection) -> None:
    streams = index[key]
    streams.pop(connection.id, None)
    if not streams:
        del index[key]
