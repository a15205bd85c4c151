"""``/admin``: who is connected, end a stream, revoke, numbers. Admin grant only."""

from __future__ import annotations

from operator import attrgetter
from typing import Final

import msgspec
from msgspec import UnsetType

from ..auth.identity import Identity
from ..auth.revocation import Revocation
from ..clock import Clock
from ..delivery.node import Node
from ..delivery.node_rpc import NodeRpc
from ..errors import Forbidden, InvalidInput
from ..hub_settings import HubSettings
from .audit import who
from .authentication import Authenticator
from .bodies import ConnectionsAnswer, RevocationAnswer, RevocationBody, StatsAnswer
from .node_commands import ConnectionsPage, node_of
from .requests import HubRequest
from .responses import JsonResponse

__all__ = ["AdminEndpoints"]

MAX_BODY = 64 * 1024
"""Bytes of a body: a subject or the id of a token fits."""
_REVOCATION: Final = msgspec.json.Decoder(RevocationBody)


class AdminEndpoints:
    """The endpoints of the operator."""

    def __init__(
        self,
        *,
        settings: HubSettings,
        clock: Clock,
        node: Node,
        rpc: NodeRpc,
        authenticator: Authenticator,
    ) -> None:
        self._revocation_ttl = settings.revocation_ttl
        self._clock = clock
        self._node = node
        self._rpc = rpc
        self._authenticator = authenticator

    async def connections(self, request: HubRequest) -> JsonResponse:
        """``GET /admin/connections``: the open streams of all hubs, by id; see `list_connections`."""
        await self._admin(request)
        return JsonResponse(await self.list_connections(request.single("subject"), request.single("after")))

    async def disconnect(self, request: HubRequest) -> JsonResponse:
        """``DELETE /admin/connections/{id}``: end a stream, on whatever hub; its client may come back (W37)."""
        admin = await self._admin(request)
        connection_id = request.path_params["id"]
        await self._rpc.call(node_of(connection_id), "disconnect", connection=connection_id)
        self._node.audit.emit("admin_disconnected", **who(admin), connection=connection_id, address=request.address)
        return JsonResponse(None, 204)

    async def revoke(self, request: HubRequest) -> JsonResponse:
        """``POST /admin/revocations``: ``{"subject", "issuer"?}`` or ``{"jti"}``; ends streams at once."""
        admin = await self._admin(request)
        body = await request.decode_body(_REVOCATION, limit=MAX_BODY)
        return JsonResponse(await self.apply_revocation(admin, body, request.address), 201)

    async def stats(self, request: HubRequest) -> JsonResponse:
        """``GET /admin/stats``: the counters of this node."""
        await self._admin(request)
        node, stats = self._node, self._node.stats
        return JsonResponse(
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
            )
        )

    async def list_connections(self, subject: str | None, after: str | None) -> ConnectionsAnswer:
        """Return a page of the open streams of all hubs, by id; hubs that did not answer are listed as ``silent``.

        :param subject: whose streams; None for everybody's.
        :param after: the last id of the page before.
        """
        answers, silent = await self._rpc.ask_all("connections", subject=subject, after=after)
        pages = msgspec.convert(answers, list[ConnectionsPage])
        # Nothing may be listed that lies behind what a page left out.
        ends = [page.connections[-1].id for page in pages if page.more]
        found = sorted((each for page in pages for each in page.connections), key=attrgetter("id"))
        streams = [each for each in found if not ends or each.id <= min(ends)]
        return ConnectionsAnswer(connections=streams, more=bool(ends), silent=silent)

    async def apply_revocation(self, admin: Identity, body: RevocationBody, address: str) -> RevocationAnswer:
        """Revoke what a body names.

        :param address: where the request came from, for the audit log.
        :raises InvalidInput: it names nothing, or two things.
        :raises Unavailable: the store could not keep it; it is in force all the same.
        """
        subject, issuer, jti = (None if isinstance(v, UnsetType) else v for v in (body.subject, body.issuer, body.jti))
        if (subject is None) == (jti is None):
            raise InvalidInput("subject", "send either subject or jti")
        if jti is not None and issuer is not None:
            raise InvalidInput("issuer", "goes with a subject only; a token id is revoked whoever issued it")
        now = self._clock.wall()
        ends = now + self._revocation_ttl
        if subject is None:
            revocation = Revocation(kind="token", value=f"jti:{jti}", at=now, expires_at=ends)
        else:
            revocation = Revocation(kind="subject", value=subject, issuer=issuer, at=now, expires_at=ends)
        ended = None  # until it is stored: then the answer is an error, and the action is in the log all the same
        try:
            ended = await self._node.revocations.apply(revocation)
        finally:
            self._node.audit.emit(
                "admin_revoked",
                **who(admin),
                kind=revocation.kind,
                target=revocation.value,
                target_issuer=revocation.issuer,
                ended=ended,
                address=address,
            )
        return RevocationAnswer(ended=ended, expires_at=ends)

    async def _admin(self, request: HubRequest) -> Identity:
        identity = await self._authenticator.identify(request)
        if not identity.grants.admin:
            raise Forbidden("the admin grant is needed", code="admin_required")
        return identity
