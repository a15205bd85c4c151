"""sseal's own login sessions: a random cookie value, stored hashed."""

from __future__ import annotations

import msgspec

from ..auth.family import TOKEN_LENGTH, hashed
from ..auth.identity import Identity
from ..clock import Clock
from ..errors import CredentialExpired, CredentialInvalid
from ..storage.store import Store
from .secret import new_secret

__all__ = ["LoginSessions"]


class LoginSessions:
    """Opens, finds and closes sessions.

    :param ttl: seconds a session lives at most; never beyond the identity it was opened with.
    """

    def __init__(self, store: Store, clock: Clock, *, ttl: float) -> None:
        self._store = store
        self._clock = clock
        self._ttl = ttl

    async def open(self, identity: Identity, chain: str | None = None) -> tuple[str, Identity]:
        """Return a new cookie value and the identity it stands for.

        :param chain: the token id of the same person's session that this one renews: both are one login, and
            end together. The record outlives a short identity, so that such a login can still be logged out.
        """
        token = new_secret()
        ends = self._clock.wall() + self._ttl
        derived = identity.derive(
            auth_method="cookie", token_id=chain or f"session:{hashed(token)[:32]}", expires_at=ends
        )
        await self._store.put(_key(token), msgspec.json.encode(derived), ends)
        return token, derived

    async def find(self, token: str) -> Identity:
        """Return whose session this is.

        :raises CredentialInvalid: unknown, ended or expired (which of these is not told).
        """
        identity = await self.look_up(token)
        if identity is None:
            raise CredentialInvalid("unknown or ended session", auth_method="cookie", kind="unknown")
        if identity.expired(self._clock.wall()):
            raise CredentialExpired(auth_method="cookie", subject=identity.subject)
        return identity

    async def look_up(self, token: str) -> Identity | None:
        """Return whose session this is or was, expired or not; for ending it."""
        raw = await self._store.get(_key(token)) if len(token) == TOKEN_LENGTH else None
        return None if raw is None else msgspec.json.decode(raw, type=Identity)

    async def close(self, token: str) -> Identity | None:
        """End a session; return whose it was, None if there was none."""
        if len(token) != TOKEN_LENGTH:
            return None
        raw = await self._store.take(_key(token))
        return None if raw is None else msgspec.json.decode(raw, type=Identity)


def _key(token: str) -> str:
    return f"session/{hashed(token)}"
