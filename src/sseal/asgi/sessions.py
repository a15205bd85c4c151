"""``/auth/session``: a session cookie for a bearer token, and logging out."""

from __future__ import annotations

from typing import Final

import msgspec

from ..audit import Audit
from ..auth.credential import AuthMethod
from ..auth.identity import Identity
from ..auth.revocation import Revocation
from ..clock import Clock
from ..delivery.node import Node
from ..delivery.throttling import Throttling
from ..errors import CredentialMissing
from ..hub_settings import HubSettings
from ..identity_sources.sessions import LoginSessions
from .audit import who
from .authentication import Authenticator
from .bodies import SessionAnswer, SessionBody
from .requests import HubRequest
from .responses import JsonResponse
from .session_cookie import SessionCookie

__all__ = ["SessionEndpoints", "Sessions"]

MAX_BODY = 64 * 1024
"""Bytes of a body: there is nothing to send."""
_SESSION: Final = msgspec.json.Decoder(SessionBody)
_BEARER: Final[frozenset[AuthMethod]] = frozenset(("bearer",))
_COOKIE: Final[frozenset[AuthMethod]] = frozenset(("cookie",))


class Sessions:
    """What opening and ending a login session means, whoever asks for it and however."""

    def __init__(
        self,
        *,
        settings: HubSettings,
        clock: Clock,
        node: Node,
        throttling: Throttling,
        sessions: LoginSessions,
    ) -> None:
        self._ttl = settings.session_ttl
        self._clock = clock
        self._node = node
        self._throttling = throttling
        self._sessions = sessions
        self._audit: Audit = node.audit

    async def open(self, identity: Identity, replaced: str | None, address: str) -> tuple[str, Identity]:
        """Open a session; return its cookie's value and the identity it stands for.

        :param identity: who proved who they are.
        :param replaced: the session cookie that came with the request, whose place the new one takes (W12).
        :param address: where the request came from, for the audit log.
        :raises TooManyRequests: this subject has opened too many in a minute, at all hubs together.
        """
        await self._throttling.session(identity)
        chain = None if replaced is None else await self._rotate(replaced, identity, address)
        token, derived = await self._sessions.open(identity, chain)
        self._audit.emit("session_opened", **who(identity), address=address)
        return token, derived

    async def close(self, token: str, address: str) -> bool:
        """End a session with its streams and everything that came of it; tell whether there was one."""
        identity = await self._sessions.look_up(token)
        if identity is None or identity.token_id is None:
            return False
        # No session outlives its opening by more than session_ttl, and so nothing that came of this login lives
        # longer from now. Revoked first, deleted after: if the store fails in between, it is over all the same.
        now = self._clock.wall()
        await self._node.revocations.apply(
            Revocation(kind="token", value=identity.token_id, at=now, expires_at=now + self._ttl)
        )
        await self._sessions.close(token)
        self._audit.emit("session_closed", subject=identity.subject, issuer=identity.issuer, address=address)
        return True

    async def _rotate(self, token: str, identity: Identity, address: str) -> str | None:
        """End the session of a cookie that is about to be replaced (W12); return the login it goes on with.

        Another person's ends with its streams. The same person's cookie is void too, but the other tabs' streams
        go on: both sessions are one login, and logging out ends it.
        """
        old = await self._sessions.look_up(token)
        if old is None or self._node.revocations.revoked(old):
            return None
        if not old.same_person(identity):
            await self.close(token, address)
            return None
        await self._sessions.close(token)
        return old.token_id


class SessionEndpoints:
    """The endpoints that set and delete the session cookie."""

    def __init__(
        self, *, settings: HubSettings, clock: Clock, sessions: Sessions, authenticator: Authenticator
    ) -> None:
        self._cookie = SessionCookie(settings)
        self._cookie_extra = settings.session_cookie_extra
        self._clock = clock
        self._sessions = sessions
        self._authenticator = authenticator

    async def open(self, request: HubRequest) -> JsonResponse:
        """``POST /auth/session``: a bearer token for a session cookie that lives no longer than it."""
        await request.decode_body(_SESSION, limit=MAX_BODY, absent=SessionBody())
        identity = await self._authenticator.identify(request, _BEARER)
        self._authenticator.check_token_origin(request)
        self._cookie.check_host(request)
        return await self.respond(request, identity)

    async def close(self, request: HubRequest) -> JsonResponse:
        """``DELETE /auth/session``: log out; ends the session, its streams and everything derived from it."""
        token = self._presented(request)
        if token is None:
            raise CredentialMissing("there is no session cookie to log out")
        self._authenticator.check_origin(request)
        with self._authenticator.counting_failures(request):
            known = await self._sessions.close(token, request.address)
        if not known:
            self._authenticator.count_failure(request)  # the answer is the same, so that it tells nothing
        return JsonResponse(None, 204, {"set-cookie": self._cookie.delete()})

    async def respond(self, request: HubRequest, identity: Identity) -> JsonResponse:
        """Open a session for an identity, in place of the one the request has a cookie of."""
        token, derived = await self._sessions.open(identity, self._presented(request), request.address)
        assert derived.expires_at is not None
        max_age = derived.expires_at - self._clock.wall() + self._cookie_extra
        return JsonResponse(
            SessionAnswer(subject=str(derived.subject), expires_at=derived.expires_at),
            headers={"set-cookie": self._cookie.set(token, max_age)},
        )

    def _presented(self, request: HubRequest) -> str | None:
        credential = self._authenticator.policy.find(_COOKIE, request.raw_headers)
        return credential.value if credential is not None and credential.session else None
