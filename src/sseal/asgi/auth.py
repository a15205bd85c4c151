"""``/auth``: tickets, login, sessions, refresh."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http.cookies import Morsel
from typing import Any

from starlette.types import Receive, Scope

from ..auth.credential import Way
from ..auth.identity import Grants, Identity
from ..auth.origin import is_loopback
from ..auth.revocation import Revocation
from ..errors import CredentialMissing, Forbidden, InvalidInput, NotFound, TooManyRequests
from .answers import Answer
from .ask import Ask
from .authenticator import CALLER, Authenticator
from .services import Services

__all__ = ["AuthEndpoints"]

MAX_BODY = 64 * 1024
"""Bytes of a body under /auth: a large token and 64 topics fit."""
_BEARER: frozenset[Way] = frozenset(("bearer",))

audit = logging.getLogger("sseal.audit")


class AuthEndpoints:
    """The endpoints that give out, take back and extend credentials."""

    def __init__(self, services: Services, authenticator: Authenticator) -> None:
        self._services = services
        self._authenticator = authenticator

    async def ticket(self, scope: Scope, receive: Receive) -> Answer:
        """``POST /auth/sse``: a one-time ticket for the caller, or by an admin for somebody else (WHY 40)."""
        ask = Ask(scope)
        fields = frozenset(("topics", "token", "subject", "grants"))
        body = await ask.object(receive, limit=MAX_BODY, fields=fields, optional=True)
        topics = _strings(body, "topics")
        identity = await self._mint_caller(ask, body)
        rate = self._services.settings.limits.tickets_per_minute_per_subject
        if "subject" in body or "grants" in body:
            identity = self._on_behalf(identity, body)
        elif not self._services.rates.hit(rate, "ticket", identity.issuer, str(identity.subject)):
            raise TooManyRequests("too many tickets for this subject", code="rate", retry_after=10.0)
        subscription = await self._services.authorizer.subscribe(identity, topics)
        names = list(subscription.topics.names)
        ticket = await self._services.tickets.issue(identity, names, ask.caller.origin)
        root = scope.get("root_path", "").rstrip("/")
        return Answer(
            201,
            {
                "ticket": ticket,
                "sessionId": ticket,
                "url": f"{root}/events?ticket={ticket}",
                "expires_in": self._services.tickets.ttl,
            },
        )

    async def login(self, scope: Scope, receive: Receive) -> Answer:
        """``POST /auth/login``: user name and password for a new session cookie."""
        ask = Ask(scope)
        self._authenticator.check_login_origin(ask)
        if self._services.accounts is None:
            raise NotFound("accounts are not switched on; set accounts to the path of their file")
        self._check_cookie_place(ask)
        body = await ask.object(receive, limit=MAX_BODY, fields=frozenset(("username", "password")))
        username, password = _string(body, "username"), _string(body, "password")
        limits, rates = self._services.settings.limits, self._services.rates
        if not rates.hit(limits.logins_per_minute_per_address, "login-address", ask.address) or not rates.hit(
            limits.logins_per_minute_per_user, "login-user", username
        ):
            raise TooManyRequests("too many logins; wait a minute", code="rate", retry_after=60.0)
        account = await self._services.accounts.verify(username, password)
        identity = Identity(
            subject=account.username,
            issuer="sseal",
            grants=account.grants,
            issued_at=self._services.clock.wall(),
            way="password",
        )
        return await self._new_session(ask, identity)

    async def open_session(self, scope: Scope, receive: Receive) -> Answer:
        """``POST /auth/session``: a bearer token for a session cookie that lives no longer than it."""
        ask = Ask(scope)
        await ask.object(receive, limit=MAX_BODY, fields=frozenset(), optional=True)
        identity = await self._authenticator.caller(ask, _BEARER)
        if not self._services.origins.allows_explicit(ask.caller):
            raise Forbidden("Origin: this page is not on the hub's list of allowed origins", code="origin_refused")
        self._check_cookie_place(ask)
        return await self._new_session(ask, identity)

    async def close_session(self, scope: Scope, receive: Receive) -> Answer:
        """``DELETE /auth/session``: log out; ends the session, its streams and everything derived from it."""
        del receive
        ask = Ask(scope)
        credential = self._services.policy.find(frozenset(("cookie",)), ask.headers)
        if credential is None or not credential.session:
            raise CredentialMissing("there is no session cookie to log out")
        self._authenticator.check_origin(ask)
        await self._end_session(credential.value)
        return Answer(204, headers={"set-cookie": self._cookie("", 0.0)})

    async def refresh(self, scope: Scope, receive: Receive) -> Answer:
        """``POST /auth/refresh``: extend a live stream with a fresh credential of the same subject."""
        ask = Ask(scope)
        body = await ask.object(receive, limit=MAX_BODY, fields=frozenset(("connection",)))
        connection_id = _string(body, "connection")
        fresh = await self._authenticator.caller(ask, CALLER)
        connection = self._services.engine.connections.get(connection_id)
        if connection is None:
            raise NotFound("there is no such stream")
        subscription = connection.subscription
        if not fresh.same_person(subscription.identity):
            raise Forbidden("the stream belongs to somebody else")
        granted = await self._services.authorizer.subscribe(fresh, list(subscription.topics.names))
        if connection.closed_by is not None:
            raise NotFound("the stream has ended")
        identity = self._services.engine.refresh(connection, granted)
        if identity.family is not None:
            await self._services.tickets.touch(identity.family, identity)
        return Answer(200, {"expires_at": identity.expires_at})

    async def _mint_caller(self, ask: Ask, body: Mapping[str, Any]) -> Identity:
        """Return who asks for a ticket; a token in the body counts when no other way is present."""
        credential = self._services.policy.find(CALLER, ask.headers)
        if "token" in body and (credential is None or credential.way == "own"):
            token = _string(body, "token")
            if not self._services.origins.allows_explicit(ask.caller):
                raise Forbidden("Origin: this page is not on the hub's list of allowed origins", code="origin_refused")
            return await self._authenticator.token(token, "bearer")
        return await self._authenticator.caller(ask)

    def _on_behalf(self, admin: Identity, body: Mapping[str, Any]) -> Identity:
        if not admin.grants.admin:
            raise Forbidden("only an admin may mint a ticket for somebody else", code="admin_required")
        subject = _string(body, "subject")
        given = _grants(body.get("grants"))
        # Naming the topics grants them: the app knows its users, the hub need not (WHY 40).
        grants = Grants(subscribe=(*given.subscribe, *_strings(body, "topics")), publish=given.publish)
        # Derived from the admin's credential, and so ended with it; the person's own revocation ends it too.
        derived = admin.derive(way="bearer", token_id=None, expires_at=None)
        return Identity(
            subject=subject,
            issuer=admin.issuer,
            grants=grants,
            issued_at=self._services.clock.wall(),
            expires_at=self._services.clock.wall() + self._services.settings.session_ttl,
            parents=derived.parents,
            way="ticket",
        )

    async def _new_session(self, ask: Ask, identity: Identity) -> Answer:
        old = self._services.policy.find(frozenset(("cookie",)), ask.headers)
        if old is not None and old.session:
            await self._services.sessions.close(old.value)
        token, derived = await self._services.sessions.open(identity)
        assert derived.expires_at is not None
        age = derived.expires_at - self._services.clock.wall() + self._services.settings.session_cookie_extra
        audit.info("session opened", extra={"subject": derived.subject, "issuer": derived.issuer})
        return Answer(
            200,
            {"subject": derived.subject, "expires_at": derived.expires_at},
            headers={"set-cookie": self._cookie(token, age)},
        )

    async def _end_session(self, token: str) -> None:
        identity = await self._services.sessions.close(token)
        if identity is None or identity.token_id is None:
            return
        now = self._services.clock.wall()
        ends = now + self._services.settings.revocation_ttl
        await self._services.revoke(Revocation(kind="token", value=identity.token_id, at=now, expires_at=ends))
        audit.info("session closed", extra={"subject": identity.subject, "issuer": identity.issuer})

    def _cookie(self, value: str, age: float) -> str:
        """Return a Set-Cookie value (RFC 6265bis section 4.1): ours alone, for scripts of this site only."""
        settings = self._services.settings
        morsel: Morsel[str] = Morsel()
        morsel.set(settings.session_cookie, value, value)
        morsel["path"] = "/"
        morsel["max-age"] = str(int(age))
        morsel["httponly"] = True
        morsel["samesite"] = "Strict"
        if not settings.insecure_cookies:
            morsel["secure"] = True
        return morsel.OutputString()

    def _check_cookie_place(self, ask: Ask) -> None:
        """Refuse to give out a cookie without Secure to anything but loopback (WHY 23)."""
        own = ask.caller.own or ""
        host = own.partition("://")[2].rpartition(":")[0] or own.partition("://")[2]
        host = own.partition("://")[2] if host.startswith("[") and not host.endswith("]") else host
        if self._services.settings.insecure_cookies and not is_loopback(host):
            raise Forbidden("insecure cookies are for loopback only; unset insecure_cookies", code="insecure_cookie")


def _string(body: Mapping[str, Any], name: str) -> str:
    if name not in body:
        raise InvalidInput(name, "is missing")
    value = body[name]
    if not isinstance(value, str) or not value:
        raise InvalidInput(name, "must be a string that is not empty")
    return value


def _strings(body: Mapping[str, Any], name: str) -> list[str]:
    value = body.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidInput(name, "must be an array of strings")
    if name in body and not value:
        raise InvalidInput(name, "must name at least one topic; leave it out for the subject's own")
    return value


def _grants(value: object) -> Grants:
    """Read the grants of a ticket minted for somebody; never admin."""
    if value is None:
        return Grants()
    if not isinstance(value, dict):
        raise InvalidInput("grants", "must be an object with subscribe and publish")
    for name in value:
        if name not in ("subscribe", "publish"):
            raise InvalidInput(f"grants.{name}", "is not a field; known are publish, subscribe")
    return Grants(
        subscribe=tuple(_strings(value, "subscribe") if "subscribe" in value else ()),
        publish=tuple(_strings(value, "publish") if "publish" in value else ()),
    )
