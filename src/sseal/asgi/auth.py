"""``/auth``: tickets, login, sessions, refresh."""

from __future__ import annotations

from http.cookies import Morsel
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET, UnsetType
from starlette.types import Receive, Scope

from ..auth.credential import AuthMethod
from ..auth.identity import ISSUER, Grants, Identity, minter
from ..auth.origin import is_loopback
from ..auth.revocation import Revocation
from ..errors import CredentialInvalid, CredentialMissing, Forbidden, InvalidInput, NotFound
from ..topics import MAX_TOPIC_LENGTH, Pattern, user_topic
from .audit import who
from .authentication import CALLER, Authenticator
from .bodies import (
    GrantsBody,
    LoginBody,
    RefreshAnswer,
    RefreshBody,
    SessionAnswer,
    SessionBody,
    TicketAnswer,
    TicketBody,
)
from .login_throttle import Guesses
from .node_commands import node_of
from .requests import Ask
from .responses import Answer
from .services import Services

if TYPE_CHECKING:
    from ..identity_sources.accounts import Account

__all__ = ["AuthEndpoints"]

MAX_BODY = 64 * 1024
"""Bytes of a body under /auth: a large token and 64 topics fit."""
_TICKET: Final = msgspec.json.Decoder(TicketBody)
_LOGIN: Final = msgspec.json.Decoder(LoginBody)
_SESSION: Final = msgspec.json.Decoder(SessionBody)
_REFRESH: Final = msgspec.json.Decoder(RefreshBody)
_BEARER: frozenset[AuthMethod] = frozenset(("bearer",))


class AuthEndpoints:
    """The endpoints that give out, take back and extend credentials."""

    def __init__(self, services: Services, authenticator: Authenticator) -> None:
        self._services = services
        self._authenticator = authenticator
        self._audit = services.node.audit
        self._guesses = Guesses(services)

    async def ticket(self, scope: Scope, receive: Receive) -> Answer:
        """``POST /auth/sse``: a one-time ticket for the caller, or by an admin for somebody else (W40)."""
        ask = Ask(scope)
        body = await ask.body(receive, _TICKET, limit=MAX_BODY, absent=TicketBody())
        topics = self._topics(body)
        identity = await self._mint_caller(ask, body)
        admin = None
        if body.subject is not UNSET or body.grants is not UNSET:
            admin, identity = identity, self._on_behalf(identity, body)
        else:
            self._services.throttling.ticket(identity)
        subscription = await self._services.authorizer.subscribe(identity, topics, self._services.clock.wall())
        names = list(subscription.topics.names)
        ticket = await self._services.tickets.issue(identity, names, ask.caller.origin)
        if admin is not None:
            self._audit.emit("admin_minted", **who(admin), target=identity.subject, topics=names, address=ask.address)
        # Never from the Host header: whoever forges that would be sent the ticket.
        root = (self._services.settings.public_url or scope.get("root_path", "")).rstrip("/")
        return Answer(
            201,
            TicketAnswer(
                ticket=ticket,
                session_id=ticket,
                url=f"{root}/events?ticket={ticket}",
                expires_in=self._services.tickets.ttl,
            ),
        )

    async def login(self, scope: Scope, receive: Receive) -> Answer:
        """``POST /auth/login``: user name and password for a new session cookie."""
        ask = Ask(scope)
        self._authenticator.check_login_origin(ask)
        if self._services.accounts is None:
            raise NotFound("accounts are not switched on; set accounts to the path of their file")
        self._check_cookie_place(ask)
        body = await ask.body(receive, _LOGIN, limit=MAX_BODY)
        began = self._services.clock.wall()
        with self._authenticator.counting_failures(ask):
            account = await self._verify(body.username, body.password, ask.address)
        self._audit.emit("login_succeeded", subject=account.username, address=ask.address)
        identity = Identity(
            subject=account.username,
            issuer=ISSUER,
            grants=account.grants,
            parent_ids=(f"account:{account.generation}",),
            issued_at=began,  # what is revoked while the password is checked stays revoked
            auth_method="password",
        )
        await self._services.throttling.session(identity)
        return await self._new_session(ask, identity)

    async def _verify(self, username: str, password: str, address: str) -> Account:
        assert self._services.accounts is not None
        try:
            return await self._guesses.verify(self._services.accounts, address, username, password)
        except CredentialInvalid as error:
            self._audit.emit("login_failed", subject=error.subject, detail=error.reason, address=address)
            raise

    async def open_session(self, scope: Scope, receive: Receive) -> Answer:
        """``POST /auth/session``: a bearer token for a session cookie that lives no longer than it."""
        ask = Ask(scope)
        await ask.body(receive, _SESSION, limit=MAX_BODY, absent=SessionBody())
        identity = await self._authenticator.caller(ask, _BEARER)
        if not self._services.origins.allows_explicit(ask.caller):
            raise Forbidden("Origin: this page is not on the hub's list of allowed origins", code="origin_refused")
        self._check_cookie_place(ask)
        await self._services.throttling.session(identity)
        return await self._new_session(ask, identity)

    async def close_session(self, scope: Scope, receive: Receive) -> Answer:
        """``DELETE /auth/session``: log out; ends the session, its streams and everything derived from it."""
        del receive
        ask = Ask(scope)
        credential = self._services.policy.find(frozenset(("cookie",)), ask.headers)
        if credential is None or not credential.session:
            raise CredentialMissing("there is no session cookie to log out")
        self._authenticator.check_origin(ask)
        with self._authenticator.counting_failures(ask):
            known = await self._end_session(credential.value, ask)
        if not known:
            self._authenticator.count_failure(ask)  # the answer is the same, so that it tells nothing
        return Answer(204, headers={"set-cookie": self._cookie("", 0.0)})

    async def refresh(self, scope: Scope, receive: Receive) -> Answer:
        """``POST /auth/refresh``: extend a live stream with a fresh credential of the same subject."""
        ask = Ask(scope)
        connection_id = (await ask.body(receive, _REFRESH, limit=MAX_BODY)).connection
        fresh = await self._authenticator.caller(ask, CALLER)
        self._services.throttling.refresh(fresh)
        answer = await self._services.rpc.call(
            node_of(connection_id), "refresh", connection=connection_id, identity=msgspec.to_builtins(fresh)
        )
        return Answer(200, msgspec.convert(answer, RefreshAnswer))

    async def _mint_caller(self, ask: Ask, body: TicketBody) -> Identity:
        """Return who asks for a ticket; a token in the body counts when no other way is present."""
        credential = self._services.policy.find(CALLER, ask.headers)
        if (
            not isinstance(body.token, UnsetType)
            and "bearer" in self._services.policy.auth_methods
            and (credential is None or credential.auth_method == "custom")
        ):
            if not self._services.origins.allows_explicit(ask.caller):
                raise Forbidden("Origin: this page is not on the hub's list of allowed origins", code="origin_refused")
            with self._authenticator.counting_failures(ask):
                return await self._authenticator.token(body.token, "bearer")
        return await self._authenticator.caller(ask)

    def _topics(self, body: TicketBody) -> list[str]:
        if isinstance(body.topics, UnsetType):
            return []
        if not body.topics:
            raise InvalidInput("topics", "must name at least one topic; leave it out for the subject's own")
        most = self._services.settings.limits.topics_per_stream
        if most and len(body.topics) > most:
            raise InvalidInput("topics", f"holds {len(body.topics)} topics, at most {most} are allowed")
        return _patterns(body.topics, "topics")

    def _on_behalf(self, admin: Identity, body: TicketBody) -> Identity:
        if not admin.grants.admin:
            raise Forbidden("only an admin may mint a ticket for somebody else", code="admin_required")
        subject = body.subject
        if isinstance(subject, UnsetType):
            raise InvalidInput("subject", "is missing")
        if len(user_topic(subject)) > MAX_TOPIC_LENGTH:
            raise InvalidInput("subject", "is too long to be part of a topic")
        given = _grants(body.grants)
        # Naming the topics grants them: the app knows its users, the hub need not (W40).
        grants = Grants(subscribe=(*given.subscribe, *self._topics(body)), publish=given.publish)
        # Revoking the admin, the admin's token or the person ends it; it may outlive a short-lived admin token.
        return Identity(
            subject=subject,
            issuer=admin.issuer,
            grants=grants,
            issued_at=self._services.clock.wall(),
            expires_at=self._services.clock.wall() + self._services.settings.session_ttl,
            parent_ids=(*(name for name in admin.token_ids if not name.startswith("account:")), minter(admin)),
            auth_method="ticket",
        )

    async def _new_session(self, ask: Ask, identity: Identity) -> Answer:
        old = self._services.policy.find(frozenset(("cookie",)), ask.headers)
        chain = await self._rotate(old.value, identity, ask) if old is not None and old.session else None
        token, derived = await self._services.sessions.open(identity, chain)
        assert derived.expires_at is not None
        age = derived.expires_at - self._services.clock.wall() + self._services.settings.session_cookie_extra
        self._audit.emit("session_opened", **who(identity), address=ask.address)
        return Answer(
            200,
            SessionAnswer(subject=str(derived.subject), expires_at=derived.expires_at),
            headers={"set-cookie": self._cookie(token, age)},
        )

    async def _rotate(self, token: str, identity: Identity, ask: Ask) -> str | None:
        """End the session of a cookie that is about to be replaced (W12); return the login it goes on with.

        Another person's ends with its streams. The same person's cookie is void too, but the other tabs' streams
        go on: both sessions are one login, and logging out ends it.
        """
        old = await self._services.sessions.look_up(token)
        if old is None or self._services.node.revocations.revoked(old):
            return None
        if not old.same_person(identity):
            await self._end_session(token, ask)
            return None
        await self._services.sessions.close(token)
        return old.token_id

    async def _end_session(self, token: str, ask: Ask) -> bool:
        """End a session with everything that came of it; tell whether there was one."""
        identity = await self._services.sessions.look_up(token)
        if identity is None or identity.token_id is None:
            return False
        # No session outlives its opening by more than session_ttl, and so nothing that came of this login lives
        # longer from now. Revoked first, deleted after: if the store fails in between, it is over all the same.
        now = self._services.clock.wall()
        ends = now + self._services.settings.session_ttl
        await self._services.revoke(Revocation(kind="token", value=identity.token_id, at=now, expires_at=ends))
        await self._services.sessions.close(token)
        self._audit.emit("session_closed", subject=identity.subject, issuer=identity.issuer, address=ask.address)
        return True

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
        """Refuse to give out a cookie without Secure to anything but loopback (W23)."""
        own = ask.own_origin or ""
        host = own.partition("://")[2].rpartition(":")[0] or own.partition("://")[2]
        host = own.partition("://")[2] if host.startswith("[") and not host.endswith("]") else host
        if self._services.settings.insecure_cookies and not is_loopback(host):
            raise Forbidden("insecure cookies are for loopback only; unset insecure_cookies", code="insecure_cookie")


def _patterns(texts: list[str], field: str) -> list[str]:
    for index, text in enumerate(texts):
        Pattern.parse(text, f"{field}[{index}]")
    return texts


def _grants(body: GrantsBody | UnsetType | None) -> Grants:
    """Read the grants of a ticket minted for somebody; never admin."""
    if body is None or isinstance(body, UnsetType):
        return Grants()
    return Grants(
        subscribe=tuple(_patterns(body.subscribe, "grants.subscribe")),
        publish=tuple(_patterns(body.publish, "grants.publish")),
    )
