"""``/admin``: who is connected, end a stream, revoke, numbers. Admin grant only."""

from __future__ import annotations

from operator import attrgetter
from typing import Final

import msgspec
from msgspec import UnsetType
from starlette.types import Receive, Scope

from ..auth.identity import Identity
from ..auth.revocation import Revocation
from ..errors import Forbidden, InvalidInput
from .audit import who
from .authentication import Authenticator
from .bodies import ConnectionsAnswer, RevocationAnswer, RevocationBody, StatsAnswer
from .node_commands import ConnectionsPage, node_of
from .requests import Ask
from .responses import Answer
from .services import Services

__all__ = ["AdminEndpoints"]

_REVOCATION: Final = msgspec.json.Decoder(RevocationBody)


class AdminEndpoints:
    """The endpoints of the operator."""

    def __init__(self, services: Services, authenticator: Authenticator) -> None:
        self._services = services
        self._authenticator = authenticator

    async def connections(self, scope: Scope, receive: Receive) -> Answer:
        """``GET /admin/connections``: the open streams of all hubs, by id; ``?subject=`` filters, ``?after=`` goes on.

        Hubs that did not answer are listed as ``silent``.
        """
        del receive
        ask = Ask(scope)
        await self._admin(ask)
        answers, silent = await self._services.rpc.ask_all(
            "connections", subject=ask.single("subject"), after=ask.single("after")
        )
        pages = msgspec.convert(answers, list[ConnectionsPage])
        # Nothing may be listed that lies behind what a page left out.
        ends = [page.connections[-1].id for page in pages if page.more]
        found = sorted((each for page in pages for each in page.connections), key=attrgetter("id"))
        streams = [each for each in found if not ends or each.id <= min(ends)]
        return Answer(200, ConnectionsAnswer(connections=streams, more=bool(ends), silent=silent))

    async def disconnect(self, scope: Scope, receive: Receive) -> Answer:
        """``DELETE /admin/connections/{id}``: end a stream, on whatever hub; its client may come back (W37)."""
        del receive
        ask = Ask(scope)
        admin = await self._admin(ask)
        connection_id = scope["path_params"]["id"]
        await self._services.rpc.call(node_of(connection_id), "disconnect", connection=connection_id)
        self._services.node.audit.emit(
            "admin_disconnected", **who(admin), connection=connection_id, address=ask.address
        )
        return Answer(204)

    async def revoke(self, scope: Scope, receive: Receive) -> Answer:
        """``POST /admin/revocations``: ``{"subject", "issuer"?}`` or ``{"jti"}``; ends streams at once."""
        ask = Ask(scope)
        admin = await self._admin(ask)
        body = await ask.body(receive, _REVOCATION, limit=64 * 1024)
        subject, issuer, jti = (None if isinstance(v, UnsetType) else v for v in (body.subject, body.issuer, body.jti))
        if (subject is None) == (jti is None):
            raise InvalidInput("subject", "send either subject or jti")
        if jti is not None and issuer is not None:
            raise InvalidInput("issuer", "goes with a subject only; a token id is revoked whoever issued it")
        now = self._services.clock.wall()
        ends = now + self._services.settings.revocation_ttl
        if subject is None:
            revocation = Revocation(kind="token", value=f"jti:{jti}", at=now, expires_at=ends)
        else:
            revocation = Revocation(kind="subject", value=subject, issuer=issuer, at=now, expires_at=ends)
        ended = None  # until it is stored: then the answer is an error, and the action is in the log all the same
        try:
            ended = await self._services.revoke(revocation)
        finally:
            self._services.node.audit.emit(
                "admin_revoked",
                **who(admin),
                kind=revocation.kind,
                target=revocation.value,
                target_issuer=revocation.issuer,
                ended=ended,
                address=ask.address,
            )
        return Answer(201, RevocationAnswer(ended=ended, expires_at=ends))

    async def stats(self, scope: Scope, receive: Receive) -> Answer:
        """``GET /admin/stats``: the counters of this node."""
        del receive
        await self._admin(Ask(scope))
        node = self._services.node
        stats = node.stats
        return Answer(
            200,
            StatsAnswer(
                node=node.id,
                position=str(node.position),
                streams=len(node.connections),
                topics=node.topic_count,
                published=stats.published,
                delivered=stats.delivered,
                writes=stats.writes,
                gaps=stats.gaps,
                history_reads=stats.history_reads,
                connects=stats.connects,
                refused=stats.refused,
                closed=stats.closed,
                revocations=len(node.revocations),
                audit=node.audit.counts,
                credentials_refused=node.audit.refused,
            ),
        )

    async def _admin(self, ask: Ask) -> Identity:
        identity = await self._authenticator.caller(ask)
        if not identity.grants.admin:
            raise Forbidden("the admin grant is needed", code="admin_required")
        return identity
