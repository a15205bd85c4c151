"""From a request to an identity: which auth method, whether its Origin counts, whether it is good."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from starlette.requests import HTTPConnection

from ..auth.credential import AuthMethod, Credential, CredentialPolicy
from ..auth.identity import ISSUER as ACCOUNTS
from ..auth.identity import Identity
from ..auth.last_event_id import LastEventId
from ..auth.origin import OriginPolicy
from ..auth.revocation import Revocation
from ..clock import Clock
from ..delivery.node import Node
from ..delivery.throttling import Throttling
from ..errors import CredentialExpired, CredentialInvalid, CredentialMissing, Forbidden, Unavailable
from ..hub_settings import HubSettings
from ..identity_sources.bearer import Bearer
from ..identity_sources.sessions import LoginSessions
from ..identity_sources.tickets import RedeemedTicket, SpentTicket, Tickets, VoidToken
from .audit import UnredactedQuery, redacted_path
from .requests import HubRequest

if TYPE_CHECKING:
    from ..identity_sources.accounts import Accounts

__all__ = ["API", "STREAM", "AuthResult", "Authenticate", "Authenticator"]

Authenticate = Callable[[HTTPConnection], Awaitable[Identity | None]]
"""The app's own authentication: an identity, or None when the request carries nothing it knows."""

STREAM: Final[frozenset[AuthMethod]] = frozenset(("bearer", "ticket", "resume", "cookie", "query", "custom"))
"""The auth methods good for opening a stream."""
API: Final[frozenset[AuthMethod]] = frozenset(("bearer", "cookie", "custom"))
"""Those good for everything else; a ticket or resume token there would renew itself for ever (W13)."""


@dataclass(frozen=True, slots=True)
class AuthResult:
    """An identity that may open a stream; ``redeemed`` when it came by ticket or resume token."""

    identity: Identity
    redeemed: RedeemedTicket | None = None


class Authenticator:
    """Decides who sent a request. The first auth method present decides alone (docs/explanation/authentication.md).

    :param bearer: verifies JWTs; None when no keys are configured.
    :param accounts: sseal's own, whose grants may have changed since; None when there are none.
    :param authenticate: the app's own authentication, asked last.
    :param redacted: tells whether tokens are kept out of the logs, without which none may be in a query string.
    """

    def __init__(
        self,
        *,
        settings: HubSettings,
        clock: Clock,
        node: Node,
        policy: CredentialPolicy,
        origins: OriginPolicy,
        throttling: Throttling,
        tickets: Tickets,
        sessions: LoginSessions,
        bearer: Bearer | None,
        accounts: Accounts | None,
        authenticate: Authenticate | None,
        redacted: Callable[[], bool],
    ) -> None:
        self.policy = policy
        self.origins = origins
        self._settings = settings
        self._clock = clock
        self._node = node
        self._throttling = throttling
        self._tickets = tickets
        self._sessions = sessions
        self._bearer = bearer
        self._accounts = accounts
        self._authenticate = authenticate
        self._redacted = redacted

    # -- who sent a request -------------------------------------------------------------------------------

    async def identify(self, request: HubRequest, auth_methods: frozenset[AuthMethod] = API) -> Identity:
        """Return who sent a request to an endpoint other than the stream.

        :raises CredentialMissing: nobody said who they are.
        :raises CredentialInvalid: what they said is not good.
        :raises Forbidden: an ambient credential from a page whose Origin does not count.
        :raises TooManyRequests: too many credentials from this address were refused; this one is not looked at.
        """
        self._throttling.check_failed_credentials(request.address)
        credential = self.policy.find(auth_methods, request.raw_headers, request.query)
        try:
            identity = None if credential is None else await self._identity(credential, request)
            if identity is None or identity.subject is None:
                raise CredentialMissing
            return _remember(request, await self._current(identity))
        except CredentialInvalid as error:  # not `counting_failures`: every publish comes by here
            self._on_refused(error, request)
            raise

    async def identify_by_token(self, token: str, request: HubRequest) -> Identity:
        """Return who a bearer token is of that did not come in a header; errors as in `identify`."""
        with self.counting_failures(request):
            return await self._current(await self._verify(token, "bearer"))

    def find(
        self, request: HubRequest, *, path_ticket: str | None, last_event_id: LastEventId | None
    ) -> Credential | None:
        """Return the credential a stream request carries."""
        return self.policy.find(
            STREAM, request.raw_headers, request.query, path_ticket=path_ticket, last_event_id=last_event_id
        )

    async def admit(
        self, request: HubRequest, credential: Credential | None, last_event_id: LastEventId | None
    ) -> AuthResult:
        """Return who opens a stream; errors as in `identify`, and 401 for whatever is wrong with a ticket.

        Whether its address was refused too often has to be checked before: that spends no ticket (W35).
        """
        try:
            if credential is not None and credential.auth_method in ("ticket", "resume"):
                return await self._admit_redeemed(request, credential, last_event_id)
            identity = None if credential is None else await self._identity(credential, request)
            if identity is not None:
                return AuthResult(_remember(request, await self._current(identity)))
        except CredentialInvalid as error:
            self._on_refused(error, request)
            raise
        if not request.flag("anonymous"):
            raise CredentialMissing
        return AuthResult(Identity.anonymous())

    # -- failures -----------------------------------------------------------------------------------------

    @contextmanager
    def counting_failures(self, request: HubRequest) -> Iterator[None]:
        """Count a credential that is refused in the block against the client's address.

        :raises TooManyRequests: too many of them were before; this one is not looked at.
        """
        self._throttling.check_failed_credentials(request.address)
        try:
            yield
        except CredentialInvalid as error:
            self._on_refused(error, request)
            raise

    def count_failure(self, request: HubRequest) -> None:
        """Count one refused credential against the client's address."""
        self._throttling.count_failed_credential(request.address)

    def _on_refused(self, error: CredentialInvalid, request: HubRequest) -> None:
        if not isinstance(error, CredentialExpired):  # what was good once is no guess
            self.count_failure(request)

    # -- Origin -------------------------------------------------------------------------------------------

    def check_origin(self, request: HubRequest) -> None:
        """Refuse a request whose credential is ambient and whose page is not known (W12).

        :raises Forbidden: code ``origin_refused``.
        """
        allows = self.origins.allows_cookie if request.has_cookie else self.origins.allows_explicit
        if not allows(request.caller):
            raise Forbidden(_origin_help(request), code="origin_refused")

    def check_login_origin(self, request: HubRequest) -> None:
        """Refuse a login from a page that is not known, cookie or not.

        :raises Forbidden: code ``origin_refused``.
        """
        if not self.origins.allows_cookie(request.caller):
            raise Forbidden(_origin_help(request), code="origin_refused")

    def check_token_origin(self, request: HubRequest) -> None:
        """Refuse a token whose page says that it is of another site, though the token itself would do.

        :raises Forbidden: code ``origin_refused``.
        """
        if not self.origins.allows_explicit(request.caller):
            raise Forbidden("Origin: this page is not on the hub's list of allowed origins", code="origin_refused")

    # -- by auth method -----------------------------------------------------------------------------------

    async def _identity(self, credential: Credential, request: HubRequest) -> Identity | None:
        """Return whose a credential is; None when the app's own authentication knows nobody."""
        if credential.ambient:
            self.check_origin(request)
        if credential.auth_method == "custom":
            return await self._custom(request)
        if credential.auth_method == "cookie" and credential.session:
            return await self._sessions.find(credential.value)
        if credential.auth_method == "query" and not self._redacted():
            raise UnredactedQuery
        return await self._verify(credential.value, credential.auth_method)

    async def _verify(self, token: str, auth_method: str) -> Identity:
        """Verify a JWT."""
        if self._bearer is None:
            raise CredentialInvalid("no keys are configured", auth_method=auth_method, kind="key")
        identity = await self._bearer.verify(token, self._clock.wall(), auth_method)
        if identity.issuer == ACCOUNTS and self._settings.jwt_issuer != ACCOUNTS:
            raise CredentialInvalid(
                f"iss {ACCOUNTS!r} is reserved for own accounts", auth_method=auth_method, kind="claims"
            )
        return identity

    async def _custom(self, request: HubRequest) -> Identity | None:
        """Ask the app, which vouches anew with each request; it may also raise that there is nothing it knows."""
        try:
            identity = None if self._authenticate is None else await self._authenticate(HTTPConnection(request.scope))
        except CredentialMissing:
            return None
        if identity is None:
            return None
        if not isinstance(identity, Identity):
            raise TypeError(f"authenticate= must return an Identity or None, not {type(identity).__name__}")
        now = self._clock.wall()
        if identity.expired(now):
            raise CredentialInvalid(
                "the identity has expired", auth_method=identity.auth_method, kind="expired", subject=identity.subject
            )
        # A revocation ends what is open, and then the app decides.
        return identity if identity.issued_at else replace(identity, issued_at=now)

    async def _admit_redeemed(
        self, request: HubRequest, credential: Credential, last_event_id: LastEventId | None
    ) -> AuthResult:
        redeemed = await self._redeem(credential, request, last_event_id)
        try:
            identity = await self._current(redeemed.identity)
        except Unavailable:
            await self._tickets.unredeem(redeemed)  # a refusal for now spends no ticket (W35)
            raise
        return AuthResult(_remember(request, identity), redeemed)

    async def _redeem(
        self, credential: Credential, request: HubRequest, last_event_id: LastEventId | None
    ) -> RedeemedTicket:
        if not request.opens_stream:
            raise CredentialInvalid(
                "only a script asking for text/event-stream may use it",
                auth_method=credential.auth_method,
                kind="place",
            )
        if credential.auth_method == "ticket":
            try:
                return await self._tickets.redeem(credential.value, request.caller, self.origins)
            except SpentTicket:
                if credential.fallback is None:
                    raise
        token = credential.fallback or credential.value
        ticket = credential.value if credential.auth_method == "ticket" else None
        if last_event_id is None or last_event_id.position is None:
            raise CredentialInvalid("a resume token without a position", auth_method="resume", kind="position")
        where = await self._node.locate(last_event_id.position)
        try:
            return await self._tickets.resume(
                token,
                last_event_id.position,
                self._node.broker.lineage,
                request.caller,
                self.origins,
                head=max(self._node.position.offset, where.offset),
                revoked=self._node.revocations.revoked,
                ticket=ticket,
            )
        except VoidToken as void:
            await self._end_family(void.identity, request)
            raise

    async def _end_family(self, identity: Identity, request: HubRequest) -> None:
        """End every stream of a family whose superseded token was shown: somebody has it who should not."""
        self._node.audit.emit(
            "family_ended",
            subject=identity.subject,
            issuer=identity.issuer,
            family=identity.family,
            address=request.address,
            path=redacted_path(request.scope),
        )
        if identity.family is not None:
            now, settings = self._clock.wall(), self._settings
            # Its record is gone, so nothing grows from it any more: what is left to end are its open streams, at hubs
            # that may not have heard yet. Remembered for longer, it would be a way to fill every hub's memory.
            kept = max(settings.resume_ttl, 2 * settings.cut_off_after) if settings.cut_off_after else math.inf
            ends = min(identity.expires_at or math.inf, now + min(kept, settings.revocation_ttl))
            await self._node.revocations.apply(
                Revocation(kind="family", value=identity.family, at=now, expires_at=ends)
            )

    # -- the rights of now --------------------------------------------------------------------------------

    async def _current(self, identity: Identity) -> Identity:
        """Return the identity with the rights of now, if it was not revoked; that it has not expired is checked."""
        if self._accounts is not None and identity.subject is not None:
            password = next((parent for parent in identity.parent_ids if parent.startswith("account:")), None)
            if password is not None:
                identity = await self._with_account(identity, identity.subject, password, self._accounts)
        if self._node.revocations.revoked(identity):
            raise CredentialInvalid(
                "revoked", auth_method=identity.auth_method, kind="revoked", subject=identity.subject
            )
        return identity

    async def _with_account(self, identity: Identity, username: str, password: str, accounts: Accounts) -> Identity:
        """Return the identity with the grants its account has now."""
        account = await accounts.find(username)
        if account is None or f"account:{account.generation}" != password:
            what = "the account was removed, or has a new password"
            raise CredentialInvalid(what, auth_method=identity.auth_method, kind="account", subject=identity.subject)
        return replace(identity, grants=account.grants)


def _remember(request: HubRequest, identity: Identity) -> Identity:
    """Note who sent a request, for what may be said about it later."""
    request.scope["sseal.identity"] = identity
    return identity


def _origin_help(request: HubRequest) -> str:
    if request.caller.origin is None:
        return "Origin: absent, and Sec-Fetch-Site does not say same-origin; cookies count only from a known page"
    return "Origin: this page is not on the hub's list of allowed origins"
