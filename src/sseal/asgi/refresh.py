"""``POST /auth/refresh``: extend a live stream with a fresh credential of the same subject."""

from __future__ import annotations

from typing import Final

import msgspec

from ..auth.identity import Identity
from ..delivery.node_rpc import NodeRpc
from ..delivery.throttling import Throttling
from .authentication import Authenticator
from .bodies import RefreshAnswer, RefreshBody
from .node_commands import node_of
from .requests import HubRequest
from .responses import JsonResponse

__all__ = ["RefreshEndpoint"]

MAX_BODY = 64 * 1024
"""Bytes of a body: the id of a stream fits."""
_REFRESH: Final = msgspec.json.Decoder(RefreshBody)


class RefreshEndpoint:
    """Extends streams, on whatever hub they are (W42)."""

    def __init__(self, *, throttling: Throttling, rpc: NodeRpc, authenticator: Authenticator) -> None:
        self._throttling = throttling
        self._rpc = rpc
        self._authenticator = authenticator

    async def __call__(self, request: HubRequest) -> JsonResponse:
        """Answer one request."""
        body = await request.decode_body(_REFRESH, limit=MAX_BODY)
        return JsonResponse(await self.refresh(await self._authenticator.identify(request), body))

    async def refresh(self, fresh: Identity, body: RefreshBody) -> RefreshAnswer:
        """Have the stream follow another identity of the same subject from now on.

        :raises NotFound: there is no such stream.
        :raises Forbidden: it is somebody else's.
        :raises TooManyRequests: this subject has refreshed too often in a minute.
        """
        self._throttling.refresh(fresh)
        answer = await self._rpc.call(
            node_of(body.connection), "refresh", connection=body.connection, identity=msgspec.to_builtins(fresh)
        )
        return msgspec.convert(answer, RefreshAnswer)
