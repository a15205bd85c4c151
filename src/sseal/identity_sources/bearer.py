"""Bearer tokens against configured keys and those of a JWKS address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..auth.identity import Identity
from ..auth.jwt import JwtVerifier, UnknownKey
from ..errors import CredentialExpired, CredentialInvalid, InvalidInput

if TYPE_CHECKING:
    from .jwks import JwksSource

__all__ = ["Bearer"]


class Bearer:
    """Checks tokens and sees to it that the keys for them are there.

    :param verifier: what checks them.
    :param jwks: what keeps its JWKS keys fresh; None if all keys are configured.
    :raises InvalidInput: there is no key and nowhere to get one from.
    """

    def __init__(self, verifier: JwtVerifier, jwks: JwksSource | None = None) -> None:
        if jwks is None and not verifier.usable_keys:
            raise InvalidInput("jwt", "there is no key to check tokens with: set a secret, a public key or a JWKS URL")
        self._verifier = verifier
        self._jwks = jwks

    async def verify(self, token: str, now: float, auth_method: str = "bearer") -> Identity:
        """Return who the token says.

        A token with an unknown key id has the keys read again, throttled, and gets a second chance. Until keys were
        read once, a token the configured keys do not verify is neither good nor bad: "starting" is never 401.

        :param now: Unix seconds.
        :raises CredentialExpired: see `JwtVerifier.verify`.
        :raises CredentialInvalid: see `JwtVerifier.verify`.
        :raises Unavailable: no keys could be read so far.
        """
        try:
            return self._verifier.verify(token, now, auth_method=auth_method)
        except CredentialExpired:
            raise
        except CredentialInvalid as error:
            if self._jwks is None:
                raise
            if not self._jwks.loaded:
                await self._jwks.load()
            elif not isinstance(error, UnknownKey) or not await self._jwks.refresh():
                raise
        return self._verifier.verify(token, now, auth_method=auth_method)
