"""The open streams of a hub, by what others ask for them by."""

from __future__ import annotations

from typing import Any

from ..limits import address_key
from ..stream.connection import Connection

__all__ = ["Registry", "Whose"]

Whose = tuple[str, ...]
"""Whose streams: ``("subject", issuer, subject)``, or ``("address", key)`` with a key of `address_key`."""


class Registry:
    """Streams by id, subject, resume family and client address. A stream that leaves leaves nothing behind.

    :ivar by_id: all of them, oldest first.
    :ivar moved: whose streams have changed since somebody looked; None when nobody does.
    """

    def __init__(self) -> None:
        self.by_id: dict[str, Connection] = {}
        self._by_subject: dict[tuple[str, ...], dict[str, Connection]] = {}
        self._by_family: dict[str, dict[str, Connection]] = {}
        self._by_address: dict[str, int] = {}
        self.moved: dict[Whose, None] | None = None

    def add(self, connection: Connection) -> None:
        """Let a stream be found."""
        self.by_id[connection.id] = connection
        identity = connection.subscription.identity
        if identity.subject is not None:
            self._by_subject.setdefault((identity.issuer, identity.subject), {})[connection.id] = connection
        if identity.family is not None:
            self._by_family.setdefault(identity.family, {})[connection.id] = connection
        if connection.address:
            key = address_key(connection.address)
            self._by_address[key] = self._by_address.get(key, 0) + 1
        if self.moved is not None:
            self.moved |= dict.fromkeys(_whose(connection))

    def remove(self, connection: Connection) -> None:
        """Let it be found no more."""
        del self.by_id[connection.id]
        identity = connection.subscription.identity
        if identity.subject is not None:
            _drop(self._by_subject, (identity.issuer, identity.subject), connection)
        if identity.family is not None:
            _drop(self._by_family, identity.family, connection)
        if connection.address:
            key = address_key(connection.address)
            self._by_address[key] -= 1
            if not self._by_address[key]:
                del self._by_address[key]
        if self.moved is not None:
            self.moved |= dict.fromkeys(_whose(connection))

    def of_subject(self, issuer: str, subject: str) -> list[Connection]:
        """Return the streams of a subject, oldest first."""
        return list(self._by_subject.get((issuer, subject), {}).values())

    def of_family(self, family: str | None) -> list[Connection]:
        """Return the streams of a resume family."""
        return [] if family is None else list(self._by_family.get(family, {}).values())

    def count(self, whose: Whose) -> int:
        """Count the streams of a subject or an address."""
        return self._by_address.get(whose[1], 0) if whose[0] == "address" else len(self._by_subject.get(whose[1:], ()))

    def watch(self, *, on: bool) -> dict[Whose, None]:
        """Begin to note whose streams change, or stop; return all whose streams there are."""
        self.moved = {} if on else None
        return {whose: None for connection in self.by_id.values() for whose in _whose(connection)} if on else {}


def _whose(connection: Connection) -> list[Whose]:
    identity, address = connection.subscription.identity, connection.address
    found: list[Whose] = [("address", address_key(address))] if address else []
    return found if identity.subject is None else [*found, ("subject", identity.issuer, identity.subject)]


def _drop(index: dict[Any, dict[str, Connection]], key: object, connection: Connection) -> None:
    streams = index[key]
    streams.pop(connection.id, None)
    if not streams:
        del index[key]
