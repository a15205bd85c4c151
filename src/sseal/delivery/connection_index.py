"""The open streams of a hub by id, subject, token id, resume family and client address."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from ..auth.identity import minted_by, minter_of
from ..auth.revocation import Revocation
from ..limits import address_key
from ..stream.connection import Connection

__all__ = ["ConnectionIndex", "Whose"]

Whose = tuple[str, ...]
"""Whose streams: ``("subject", issuer, subject)``, or ``("address", key)`` with a key of `address_key`."""

_Key = TypeVar("_Key", bound=Hashable)


class _ByKey(Generic[_Key]):
    """Streams by a key that most have for themselves: those stand in it bare, a dict is made for the second one."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[_Key, Connection | dict[str, Connection]] = {}  # the only stream of a key, or several by id

    def add(self, key: _Key, connection: Connection) -> None:
        """Let a stream be found by a key; doing it twice is fine."""
        known = self._found.setdefault(key, connection)
        if isinstance(known, dict):
            known[connection.id] = connection
        elif known is not connection:
            self._found[key] = {known.id: known, connection.id: connection}

    def remove(self, key: _Key, connection: Connection) -> None:
        """Let it be found by this key no more."""
        known = self._found.get(key)
        if isinstance(known, dict):
            known.pop(connection.id, None)
        if known is connection or not known:
            self._found.pop(key, None)

    def of(self, key: _Key) -> list[Connection]:
        """Return the streams of a key, oldest first."""
        known = self._found.get(key)
        if known is None:
            return []
        return list(known.values()) if isinstance(known, dict) else [known]

    def count(self, key: _Key) -> int:
        """Count the streams of a key."""
        known = self._found.get(key)
        return len(known) if isinstance(known, dict) else int(known is not None)


class ConnectionIndex:
    """Finds open streams. One that is removed leaves nothing behind.

    :ivar by_id: all of them, oldest first.
    """

    def __init__(self) -> None:
        self.by_id: dict[str, Connection] = {}
        self._by_person: _ByKey[tuple[str, str]] = _ByKey()  # issuer and subject
        self._by_subject: _ByKey[str] = _ByKey()  # of whatever issuer
        self._by_token_id: _ByKey[str] = _ByKey()
        self._by_minter: _ByKey[str] = _ByKey()  # the subject of the admin who minted its ticket
        self._by_family: _ByKey[str] = _ByKey()
        self._by_address: dict[str, int] = {}  # how many streams an `address_key` has
        self._changed: dict[Whose, None] | None = None  # whose streams have changed, in order; None: not watched

    def add(self, connection: Connection) -> None:
        """Let a stream be found."""
        self.by_id[connection.id] = connection
        identity = connection.subscription.identity
        if identity.subject is not None:
            self._by_person.add((identity.issuer, identity.subject), connection)
            self._by_subject.add(identity.subject, connection)
        if identity.family is not None:
            self._by_family.add(identity.family, connection)
        self.add_token_ids(connection)
        if connection.address:
            key = address_key(connection.address)
            self._by_address[key] = self._by_address.get(key, 0) + 1
        if self._changed is not None:
            self._changed |= dict.fromkeys(_whose(connection))

    def remove(self, connection: Connection) -> None:
        """Let it be found no more."""
        del self.by_id[connection.id]
        identity = connection.subscription.identity
        if identity.subject is not None:
            self._by_person.remove((identity.issuer, identity.subject), connection)
            self._by_subject.remove(identity.subject, connection)
        if identity.family is not None:
            self._by_family.remove(identity.family, connection)
        self.remove_token_ids(connection)
        if connection.address:
            key = address_key(connection.address)
            self._by_address[key] -= 1
            if not self._by_address[key]:
                del self._by_address[key]
        if self._changed is not None:
            self._changed |= dict.fromkeys(_whose(connection))

    def add_token_ids(self, connection: Connection) -> None:
        """Let a stream be found by what it was derived from, which a refresh changes."""
        for token in connection.subscription.identity.token_ids:
            self._by_token_id.add(token, connection)
            if (minted := minted_by(token)) is not None:
                self._by_minter.add(minted[1], connection)

    def remove_token_ids(self, connection: Connection) -> None:
        """Let it be found so no more; called while the stream still has that identity."""
        for token in connection.subscription.identity.token_ids:
            self._by_token_id.remove(token, connection)
            if (minted := minted_by(token)) is not None:
                self._by_minter.remove(minted[1], connection)

    def of_subject(self, issuer: str, subject: str) -> list[Connection]:
        """Return the streams of a subject, oldest first."""
        return self._by_person.of((issuer, subject))

    def of_family(self, family: str | None) -> list[Connection]:
        """Return the streams of a resume family."""
        return [] if family is None else self._by_family.of(family)

    def candidates(self, revocation: Revocation) -> Iterable[Connection]:
        """Return the streams a revocation may concern: no others but those of its subject issued after it."""
        value, issuer = revocation.value, revocation.issuer
        if revocation.kind == "family":
            return self._by_family.of(value)
        if revocation.kind == "token":
            return self._by_token_id.of(value)
        if issuer is None:
            found = [*self._by_subject.of(value), *self._by_minter.of(value)]
        else:
            found = [*self._by_person.of((issuer, value)), *self._by_token_id.of(minter_of(issuer, value))]
        return {connection.id: connection for connection in found}.values()

    def count(self, whose: Whose) -> int:
        """Count the streams of a subject or an address."""
        return (
            self._by_address.get(whose[1], 0) if whose[0] == "address" else self._by_person.count((whose[1], whose[2]))
        )

    def watch(self, *, on: bool) -> dict[Whose, None]:
        """Begin to note whose streams change, or stop; return all whose streams there are."""
        self._changed = {} if on else None
        return {whose: None for connection in self.by_id.values() for whose in _whose(connection)} if on else {}

    def take_changed(self) -> dict[Whose, None]:
        """Return whose streams have changed since this was asked before."""
        changed = self._changed
        if changed:
            self._changed = {}
        return changed or {}


def _whose(connection: Connection) -> list[Whose]:
    identity, address = connection.subscription.identity, connection.address
    found: list[Whose] = [("address", address_key(address))] if address else []
    return found if identity.subject is None else [*found, ("subject", identity.issuer, identity.subject)]
