"""sseal's own login sessions: a random cookie value, stored hashed."""

from __future__ import annotations

import msgspec

from ..auth.family import TOKEN_LENGTH, hashed
from ..auth.identity import Identity
from ..clock import Clock
from ..errors import CredentialExpired, CredentialInvalid
from .secret import new_secret
from .store import Store

__all__ = ["Sessions"]


class Sessions:
    """Opens, finds and closes sessions.

    :param ttl: seconds a session lives at most; never beyond the identity it was opened with.
    """

    def __init__(self, store: Store, clock: Clock, *, ttl: float) -> None:
        self._store = store
        self._clock = clock
        self._ttl = ttl

    async def open(self, identity: Identity) -> tuple[str, Identity]:
        """Return a new cookie value and the identity it stands for."""
        token = new_secret()
        derived = identity.derive(
            way="cookie", token_id=f"session:{hashed(token)[:32]}", expires_at=self._clock.wall() + self._ttl
        )
        assert derived.expires_at is not None
        await self._store.put(_key(token), msgspec.json.encode(derived), derived.expires_at)
        return token, derived

    async def find(self, token: str) -> Identity:
        """Return whose session this is.

        :raises CredentialInvalid: unknown, ended or expired (which of these is not told).
        """
        if len(token) != TOKEN_LENGTH:
            raise CredentialInvalid("not a session", way="cookie")
        raw = await self._store.get(_key(token))
        if raw is None:
            raise CredentialInvalid("unknown or ended session", way="cookie")
        identity = msgspec.json.decode(raw, type=Identity)
        if identity.expired(self._clock.wall()):
            raise CredentialExpired(way="cookie")
        return identity

    async def close(self, token: str) -> Identity | None:
        """End a session; return whose it was, None if there was none."""
        if len(token) != TOKEN_LENGTH:
            return None
        raw = await self._store.take(_key(token))
        return None if raw is None else msgspec.json.decode(raw, type=Identity)


def _key(token: str) -> str:
    return f"session/{hashed(token)}"
