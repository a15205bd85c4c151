"""From a request to an identity: which way in, whether its Origin counts, whether it is good."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from starlette.requests import HTTPConnection

from ..auth.credential import AuthMethod, Credential, LastEventId
from ..auth.identity import ISSUER as ACCOUNTS
from ..auth.identity import Identity
from ..auth.revocation import Revocation
from ..errors import CredentialExpired, CredentialInvalid, CredentialMissing, Forbidden, Unavailable
from ..identity_sources.tickets import RedeemedTicket, SpentTicket, VoidToken
from .audit import UnredactedQuery, redacted_path
from .requests import Ask
from .services import Services

__all__ = ["CALLER", "STREAM", "AuthResult", "Authenticator"]

STREAM: Final[frozenset[AuthMethod]] = frozenset(("bearer", "ticket", "resume", "cookie", "query", "custom"))
"""The ways good for opening a stream."""
CALLER: Final[frozenset[AuthMethod]] = frozenset(("bearer", "cookie", "custom"))
"""The ways good for everything else; a ticket or resume token there would renew itself for ever (W13)."""


@dataclass(frozen=True, slots=True)
class AuthResult:
    """An identity let in to a stream; ``redeemed`` when it came by ticket or resume token."""

    identity: Identity
    redeemed: RedeemedTicket | None = None


class Authenticator:
    """Decides who a request is. The first way present decides alone (docs/explanation/authentication.md)."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def caller(self, ask: Ask, auth_methods: frozenset[AuthMethod] = CALLER) -> Identity:
        """Return who calls an endpoint other than the stream.

        :raises CredentialMissing: nobody said who they are.
        :raises CredentialInvalid: what they said is not good.
        :raises Forbidden: an ambient credential from a page whose Origin does not count.
        """
        self._check_failures(ask)
        try:
            credential = self._services.policy.find(auth_methods, ask.headers, ask.query)
            if credential is None:
                raise CredentialMissing
            identity = await self._identity(credential, ask)
            if identity.subject is None:
                raise CredentialMissing
            return self._known(ask, await self._alive(identity))
        except CredentialExpired:
            raise
        except CredentialInvalid:  # not `counting_failures`: every publish comes by here
            self.count_failure(ask)
            raise

    @contextmanager
    def counting_failures(self, ask: Ask) -> Iterator[None]:
        """Count a credential that is refused in the block against the client's address.

        One that was good once is no guess.

        :raises TooManyRequests: too many of them were before; this one is not looked at.
        """
        self._check_failures(ask)
        try:
            yield
        except CredentialExpired:
            raise
        except CredentialInvalid:
            self.count_failure(ask)
            raise

    def _check_failures(self, ask: Ask) -> None:
        self._services.throttling.check_failed_credentials(ask.address)

    def count_failure(self, ask: Ask) -> None:
        """Count one refused credential against the client's address."""
        self._services.throttling.count_failed_credential(ask.address)

    def find(self, ask: Ask, *, path_ticket: str | None, last_event_id: LastEventId | None) -> Credential | None:
        """Return the credential a stream request carries."""
        return self._services.policy.find(
            STREAM, ask.headers, ask.query, path_ticket=path_ticket, last_event_id=last_event_id
        )

    async def admit(self, ask: Ask, credential: Credential | None, last_event_id: LastEventId | None) -> AuthResult:
        """Return who opens a stream; errors as in `caller`, and 401 for whatever is wrong with a ticket.

        Whether its address was refused too often is for the caller to ask: that spends no ticket (W35).
        """
        try:
            return await self._admit(ask, credential, last_event_id)
        except CredentialExpired:
            raise
        except CredentialInvalid:
            self.count_failure(ask)
            raise

    async def _admit(self, ask: Ask, credential: Credential | None, last_event_id: LastEventId | None) -> AuthResult:
        if credential is not None and credential.auth_method in ("ticket", "resume"):
            redeemed = await self._redeem(credential, ask, last_event_id)
            try:
                return AuthResult(self._known(ask, await self._alive(redeemed.identity)), redeemed)
            except Unavailable:
                await self._services.tickets.unredeem(redeemed)  # a refusal for now spends no ticket (W35)
                raise
        try:
            if credential is None:
                raise CredentialMissing
            return AuthResult(self._known(ask, await self._alive(await self._identity(credential, ask))))
        except CredentialMissing:
            if ask.flag("anonymous"):
                return AuthResult(Identity.anonymous())
            raise

    def _known(self, ask: Ask, identity: Identity) -> Identity:
        """Note who a request is, for what may be said about it later."""
        ask.scope["sseal.identity"] = identity
        return identity

    def check_origin(self, ask: Ask) -> None:
        """Refuse a request whose credential is ambient and whose page is not known (W12).

        :raises Forbidden: code ``origin_refused``.
        """
        origins = self._services.origins
        fine = origins.allows_cookie(ask.caller) if ask.has_cookie else origins.allows_explicit(ask.caller)
        if not fine:
            raise Forbidden(_origin_help(ask), code="origin_refused")

    def check_login_origin(self, ask: Ask) -> None:
        """Refuse a login from a page that is not known, cookie or not.

        :raises Forbidden: code ``origin_refused``.
        """
        if not self._services.origins.allows_cookie(ask.caller):
            raise Forbidden(_origin_help(ask), code="origin_refused")

    async def token(self, token: str, auth_method: str) -> Identity:
        """Return who a JWT is of that came by some way.

        :raises CredentialInvalid: it is not good, or no keys are configured.
        """
        return await self._alive(await self._verify(token, auth_method))

    async def _verify(self, token: str, auth_method: str) -> Identity:
        """Verify a JWT; whether it is good now is for `_alive` to say."""
        if self._services.bearer is None:
            raise CredentialInvalid("no keys are configured", auth_method=auth_method, kind="key")
        identity = await self._services.bearer.verify(token, self._services.clock.wall(), auth_method)
        if identity.issuer == ACCOUNTS and self._services.settings.jwt_issuer != ACCOUNTS:
            raise CredentialInvalid(
                f"iss {ACCOUNTS!r} is reserved for own accounts", auth_method=auth_method, kind="claims"
            )
        return identity

    async def _identity(self, credential: Credential, ask: Ask) -> Identity:
        if credential.ambient:
            self.check_origin(ask)
        if credential.auth_method == "custom":
            return await self._own(ask)
        if credential.auth_method == "cookie" and credential.session:
            return await self._services.sessions.find(credential.value)
        if credential.auth_method == "query" and not self._services.redacted():
            raise UnredactedQuery
        return await self._verify(credential.value, credential.auth_method)

    async def _own(self, ask: Ask) -> Identity:
        authenticate = self._services.authenticate
        identity = None if authenticate is None else await authenticate(HTTPConnection(ask.scope))
        if identity is None:
            raise CredentialMissing
        if not isinstance(identity, Identity):
            raise TypeError(f"authenticate= must return an Identity or None, not {type(identity).__name__}")
        if not identity.issued_at:
            # The app vouches anew at every connect: a revocation ends what is open, and then the app decides.
            identity = replace(identity, issued_at=self._services.clock.wall())
        return identity

    async def _redeem(self, credential: Credential, ask: Ask, last_event_id: LastEventId | None) -> RedeemedTicket:
        if not ask.opens_stream:
            raise CredentialInvalid(
                "only a script asking for text/event-stream may use it",
                auth_method=credential.auth_method,
                kind="place",
            )
        tickets, origins = self._services.tickets, self._services.origins
        if credential.auth_method == "ticket":
            try:
                return await tickets.redeem(credential.value, ask.caller, origins)
            except SpentTicket:
                if credential.fallback is None:
                    raise
        token = credential.fallback or credential.value
        ticket = credential.value if credential.auth_method == "ticket" else None
        if last_event_id is None or last_event_id.position is None:
            raise CredentialInvalid("a resume token without a position", auth_method="resume", kind="position")
        node = self._services.node
        where = await node.locate(last_event_id.position)
        try:
            return await tickets.resume(
                token,
                last_event_id.position,
                node.broker.lineage,
                ask.caller,
                origins,
                head=max(node.position.offset, where.offset),
                revoked=node.revocations.revoked,
                ticket=ticket,
            )
        except VoidToken as void:
            await self._end_family(void.identity, ask)
            raise

    async def _end_family(self, identity: Identity, ask: Ask) -> None:
        """End every stream of a family whose superseded token was shown: somebody has it who should not."""
        self._services.node.audit.emit(
            "family_ended",
            subject=identity.subject,
            issuer=identity.issuer,
            family=identity.family,
            address=ask.address,
            path=redacted_path(ask.scope),
        )
        if identity.family is not None:
            now, settings = self._services.clock.wall(), self._services.settings
            # Its record is gone, so nothing grows from it any more: what is left to end are its open streams, at hubs
            # that may not have heard yet. Remembered for longer, it would be a way to fill every hub's memory.
            kept = max(settings.resume_ttl, 2 * settings.cut_off_after) if settings.cut_off_after else math.inf
            ends = min(identity.expires_at or math.inf, now + min(kept, settings.revocation_ttl))
            await self._services.revoke(Revocation(kind="family", value=identity.family, at=now, expires_at=ends))

    async def _alive(self, identity: Identity) -> Identity:
        """Return the identity with the rights of now, if it is still good."""
        accounts = self._services.accounts
        password = None
        if accounts is not None:
            password = next((parent for parent in identity.parent_ids if parent.startswith("account:")), None)
        if accounts is not None and password is not None and identity.subject is not None:
            account = await accounts.find(identity.subject)
            if account is None or f"account:{account.generation}" != password:
                what = "the account was removed, or has a new password"
                raise CredentialInvalid(
                    what, auth_method=identity.auth_method, kind="account", subject=identity.subject
                )
            identity = replace(identity, grants=account.grants)
        if identity.expired(self._services.clock.wall()):
            raise CredentialInvalid(
                "the identity has expired", auth_method=identity.auth_method, kind="expired", subject=identity.subject
            )
        if self._services.node.revocations.revoked(identity):
            raise CredentialInvalid(
                "revoked", auth_method=identity.auth_method, kind="revoked", subject=identity.subject
            )
        return identity


def _origin_help(ask: Ask) -> str:
    if ask.caller.origin is None:
        return "Origin: absent, and Sec-Fetch-Site does not say same-origin; cookies count only from a known page"
    return "Origin: this page is not on the hub's list of allowed origins"
