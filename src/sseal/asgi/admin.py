"""``/admin``: who is connected, end a stream, revoke, numbers. Admin grant only."""

from __future__ import annotations

from typing import Any, Final

from starlette.types import Receive, Scope

from ..auth.identity import Identity
from ..auth.revocation import Revocation
from ..errors import Forbidden, InvalidInput, NotFound
from ..stream import reasons
from ..stream.connection import Connection
from .answers import Answer
from .ask import Ask
from .authenticator import Authenticator
from .services import Services

__all__ = ["AdminEndpoints"]

PAGE: Final = 1000
"""Streams of one answer; ask on with ``after``."""


class AdminEndpoints:
    """The endpoints of the operator."""

    def __init__(self, services: Services, authenticator: Authenticator) -> None:
        self._services = services
        self._authenticator = authenticator

    async def connections(self, scope: Scope, receive: Receive) -> Answer:
        """``GET /admin/connections``: the open streams, by id; ``?subject=`` filters, ``?after=`` goes on."""
        del receive
        ask = Ask(scope)
        await self._admin(ask)
        subject, after = ask.single("subject"), ask.single("after") or ""
        streams = sorted(self._services.engine.connections.items())
        found = [
            self._describe(connection)
            for key, connection in streams
            if key > after and (subject is None or connection.subscription.identity.subject == subject)
        ]
        return Answer(200, {"connections": found[:PAGE], "more": len(found) > PAGE})

    async def disconnect(self, scope: Scope, receive: Receive) -> Answer:
        """``DELETE /admin/connections/{id}``: end a stream; its client may come back (W37)."""
        del receive
        await self._admin(Ask(scope))
        connection = self._services.engine.connections.get(scope["path_params"]["id"])
        if connection is None:
            raise NotFound("there is no such stream")
        self._services.engine.close(connection, reasons.KICKED)
        return Answer(204)

    async def revoke(self, scope: Scope, receive: Receive) -> Answer:
        """``POST /admin/revocations``: ``{"subject", "issuer"?}`` or ``{"jti"}``; ends streams at once."""
        ask = Ask(scope)
        await self._admin(ask)
        body = await ask.object(receive, limit=64 * 1024, fields=frozenset(("subject", "issuer", "jti")))
        if ("subject" in body) == ("jti" in body):
            raise InvalidInput("subject", "send either subject or jti")
        if "jti" in body and "issuer" in body:
            raise InvalidInput("issuer", "goes with a subject only; a token id is revoked whoever issued it")
        for name, value in body.items():
            if not isinstance(value, str) or not value:
                raise InvalidInput(name, "must be a string that is not empty")
        now = self._services.clock.wall()
        ends = now + self._services.settings.revocation_ttl
        if "jti" in body:
            revocation = Revocation(kind="token", value=f"jti:{body['jti']}", at=now, expires_at=ends)
        else:
            revocation = Revocation(
                kind="subject", value=body["subject"], issuer=body.get("issuer"), at=now, expires_at=ends
            )
        ended = await self._services.revoke(revocation)
        return Answer(201, {"ended": ended, "expires_at": ends})

    async def stats(self, scope: Scope, receive: Receive) -> Answer:
        """``GET /admin/stats``: the counters of this node."""
        del receive
        await self._admin(Ask(scope))
        engine = self._services.engine
        stats = engine.stats
        return Answer(
            200,
            {
                "node": engine.node,
                "position": str(engine.position),
                "streams": len(engine.connections),
                "topics": engine.topic_count,
                "published": stats.published,
                "delivered": stats.delivered,
                "writes": stats.writes,
                "gaps": stats.gaps,
                "history_reads": stats.history_reads,
                "connects": stats.connects,
                "refused": stats.refused,
                "closed": stats.closed,
                "revocations": len(engine.revocations),
            },
        )

    async def _admin(self, ask: Ask) -> Identity:
        identity = await self._authenticator.caller(ask)
        if not identity.grants.admin:
            raise Forbidden("the admin grant is needed", code="admin_required")
        return identity

    def _describe(self, connection: Connection) -> dict[str, Any]:
        identity = connection.subscription.identity
        return {
            "id": connection.id,
            "subject": identity.subject,
            "issuer": identity.issuer,
            "way": identity.way,
            "topics": connection.subscription.topics.names,
            "state": connection.state.name.lower(),
            "direct": connection.sink is not None and connection.sink.chunked,
            "position": connection.position,
            "delivered": connection.delivered,
            "buffered": connection.sink.buffered if connection.sink else 0,
            "address": connection.address,
            "seconds": round(self._services.clock.monotonic() - connection.opened_at, 3),
            "expires_at": identity.expires_at,
        }
