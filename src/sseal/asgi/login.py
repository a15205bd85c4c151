"""``POST /auth/login``: user name and password of an account for a session cookie."""

from __future__ import annotations

from typing import Final

import msgspec

from ..audit import Audit
from ..auth.identity import ISSUER, Identity
from ..clock import Clock
from ..errors import CredentialInvalid, NotFound
from ..hub_settings import HubSettings
from .authentication import Authenticator
from .bodies import LoginBody
from .login_throttle import LoginThrottle
from .requests import HubRequest
from .responses import JsonResponse
from .session_cookie import SessionCookie
from .sessions import SessionEndpoints

__all__ = ["LoginEndpoint"]

MAX_BODY = 64 * 1024
"""Bytes of a body: a long name and a long password fit."""
_LOGIN: Final = msgspec.json.Decoder(LoginBody)


class LoginEndpoint:
    """Logs in by password.

    :param throttle: checks passwords, within limits; None when there are no accounts.
    :param sessions: sets the cookie.
    """

    def __init__(
        self,
        *,
        settings: HubSettings,
        clock: Clock,
        audit: Audit,
        throttle: LoginThrottle | None,
        sessions: SessionEndpoints,
        authenticator: Authenticator,
    ) -> None:
        self._cookie = SessionCookie(settings)
        self._clock = clock
        self._audit = audit
        self._throttle = throttle
        self._sessions = sessions
        self._authenticator = authenticator

    async def __call__(self, request: HubRequest) -> JsonResponse:
        """Answer one login."""
        self._authenticator.check_login_origin(request)
        if self._throttle is None:
            raise NotFound("accounts are not switched on; set accounts to the path of their file")
        self._cookie.check_host(request)
        body = await request.decode_body(_LOGIN, limit=MAX_BODY)
        with self._authenticator.counting_failures(request):
            identity = await self.log_in(self._throttle, body, request.address)
        return await self._sessions.respond(request, identity)

    async def log_in(self, throttle: LoginThrottle, body: LoginBody, address: str) -> Identity:
        """Return who has this name and password.

        :raises CredentialInvalid: nobody has.
        :raises TooManyRequests: too many guesses; see `LoginThrottle.verify`.
        """
        began = self._clock.wall()
        try:
            account = await throttle.verify(address, body.username, body.password)
        except CredentialInvalid as error:
            self._audit.emit("login_failed", subject=error.subject, detail=error.reason, address=address)
            raise
        self._audit.emit("login_succeeded", subject=account.username, address=address)
        return Identity(
            subject=account.username,
            issuer=ISSUER,
            grants=account.grants,
            parent_ids=(f"account:{account.generation}",),
            issued_at=began,  # what is revoked while the password is checked stays revoked
            auth_method="password",
        )
