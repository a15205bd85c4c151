"""``POST /auth/sse``: one-time tickets, for oneself or by an admin for somebody else."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from ..audit import Audit
from ..auth.identity import Grants, Identity, minter
from ..authorizer import Authorizer
from ..clock import Clock
from ..delivery.throttling import Throttling
from ..errors import Forbidden, InvalidInput
from ..hub_settings import HubSettings
from ..identity_sources.tickets import Tickets
from ..topics import MAX_TOPIC_LENGTH, Pattern, user_topic
from .audit import who
from .authentication import API, Authenticator
from .bodies import GrantsBody, TicketAnswer, TicketBody
from .requests import HubRequest
from .responses import JsonResponse

__all__ = ["TicketEndpoint"]

MAX_BODY = 64 * 1024
"""Bytes of a body: a large token and 64 topics fit."""
_TICKET: Final = msgspec.json.Decoder(TicketBody)


class TicketEndpoint:
    """Mints tickets."""

    def __init__(
        self,
        *,
        settings: HubSettings,
        clock: Clock,
        audit: Audit,
        throttling: Throttling,
        authorizer: Authorizer,
        tickets: Tickets,
        authenticator: Authenticator,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._audit = audit
        self._throttling = throttling
        self._authorizer = authorizer
        self._tickets = tickets
        self._authenticator = authenticator

    async def __call__(self, request: HubRequest) -> JsonResponse:
        """Answer one request."""
        body = await request.decode_body(_TICKET, limit=MAX_BODY, absent=TicketBody())
        topics = self._topics(body)
        identity = await self._identify(request, body)
        ticket = await self.issue(identity, body, topics, request.caller.origin, request.address)
        # Never from the Host header: whoever forges that would be sent the ticket.
        root = (self._settings.public_url or request.root_path).rstrip("/")
        return JsonResponse(
            TicketAnswer(
                ticket=ticket,
                session_id=ticket,
                url=f"{root}/events?ticket={ticket}",
                expires_in=self._tickets.ttl,
            ),
            201,
        )

    async def issue(
        self, identity: Identity, body: TicketBody, topics: list[str], origin: str | None, address: str
    ) -> str:
        """Return a new ticket, for whoever asks or, by an admin, for somebody else (W40).

        :param identity: who asks.
        :param topics: those of the body, checked.
        :param origin: of the page that asked, which the ticket is bound to.
        :param address: where the request came from, for the audit log.
        :raises Forbidden: it is for somebody else and this is no admin, or a topic is not granted.
        :raises TooManyRequests: this subject has asked for too many in a minute.
        """
        admin = None
        if body.subject is not UNSET or body.grants is not UNSET:
            admin, identity = identity, self._on_behalf(identity, body, topics)
        else:
            self._throttling.ticket(identity)
        subscription = await self._authorizer.subscribe(identity, topics, self._clock.wall())
        names = list(subscription.topics.names)
        ticket = await self._tickets.issue(identity, names, origin)
        if admin is not None:
            self._audit.emit("admin_minted", **who(admin), target=identity.subject, topics=names, address=address)
        return ticket

    async def _identify(self, request: HubRequest, body: TicketBody) -> Identity:
        """Return who asks for a ticket; a token in the body counts when no other credential is present."""
        policy = self._authenticator.policy
        credential = policy.find(API, request.raw_headers)
        if (
            not isinstance(body.token, UnsetType)
            and "bearer" in policy.auth_methods
            and (credential is None or credential.auth_method == "custom")
        ):
            self._authenticator.check_token_origin(request)
            return await self._authenticator.identify_by_token(body.token, request)
        return await self._authenticator.identify(request)

    def _topics(self, body: TicketBody) -> list[str]:
        if isinstance(body.topics, UnsetType):
            return []
        if not body.topics:
            raise InvalidInput("topics", "must name at least one topic; leave it out for the subject's own")
        most = self._settings.limits.topics_per_stream
        if most and len(body.topics) > most:
            raise InvalidInput("topics", f"holds {len(body.topics)} topics, at most {most} are allowed")
        return _patterns(body.topics, "topics")

    def _on_behalf(self, admin: Identity, body: TicketBody, topics: list[str]) -> Identity:
        if not admin.grants.admin:
            raise Forbidden("only an admin may mint a ticket for somebody else", code="admin_required")
        subject = body.subject
        if isinstance(subject, UnsetType):
            raise InvalidInput("subject", "is missing")
        if len(user_topic(subject)) > MAX_TOPIC_LENGTH:
            raise InvalidInput("subject", "is too long to be part of a topic")
        given = _grants(body.grants)
        # Naming the topics grants them: the app knows its users, the hub need not (W40).
        grants = Grants(subscribe=(*given.subscribe, *topics), publish=given.publish)
        # Revoking the admin, the admin's token or the person ends it; it may outlive a short-lived admin token.
        return Identity(
            subject=subject,
            issuer=admin.issuer,
            grants=grants,
            issued_at=self._clock.wall(),
            expires_at=self._clock.wall() + self._settings.session_ttl,
            parent_ids=(*(name for name in admin.token_ids if not name.startswith("account:")), minter(admin)),
            auth_method="ticket",
        )


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
