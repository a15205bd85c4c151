"""What other hubs may ask of this one: its streams are listed, ended and refreshed where they live (W42)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, cast

import msgspec

from ..auth.identity import Identity
from ..authorizer import Authorizer
from ..clock import Clock
from ..delivery.node import Node
from ..delivery.node_rpc import NodeRpc
from ..errors import Forbidden, NotFound
from ..identity_sources.tickets import Tickets
from ..stream import reasons
from ..stream.connection import Connection
from .bodies import StreamAnswer

__all__ = ["PAGE", "ConnectionsPage", "NodeCommands", "node_of"]

PAGE: Final = 500
"""Streams of one answer."""
PAGE_SIZE: Final = 512 * 1024
"""Bytes of one answer, half of what mail may hold: topics are many where patterns are refused."""

_ID = re.compile(r"([a-z0-9]{8})\.[a-z2-7]{16}", re.ASCII)


def node_of(connection_id: str) -> str:
    """Return the node that a connection id names.

    :raises NotFound: it is no connection id.
    """
    match = _ID.fullmatch(connection_id)
    if match is None:
        raise NotFound("there is no such stream")
    return match[1]


class ConnectionsPage(msgspec.Struct, frozen=True):
    """Open streams of one hub, by id; ``more`` when that is not all."""

    connections: list[StreamAnswer]
    more: bool


class NodeCommands:
    """The commands of one hub; makes itself known to the other hubs."""

    def __init__(self, *, node: Node, rpc: NodeRpc, authorizer: Authorizer, tickets: Tickets, clock: Clock) -> None:
        self._node = node
        self._rpc = rpc
        self._authorizer = authorizer
        self._tickets = tickets
        self._clock = clock
        rpc.handlers |= {
            "connections": self.connections,
            "disconnect": self.disconnect,
            "refresh": self.refresh,
            "replace": self.replace,
            "supersede": self.supersede,
        }

    async def connections(self, args: Mapping[str, object]) -> dict[str, object]:
        """List open streams by id, of one subject or all, after an id: ``{"connections", "more"}``."""
        subject, after = args.get("subject"), str(args.get("after") or "")
        streams = sorted(
            (key, connection)
            for key, connection in self._node.connections.items()
            if key > after and subject in (None, connection.subscription.identity.subject)
        )
        found: list[dict[str, object]] = []
        size = 0
        for _, connection in streams[:PAGE]:
            described = self._describe(connection)
            size += len(msgspec.json.encode(described))
            if found and size > PAGE_SIZE:
                break
            found.append(described)
        return {"connections": found, "more": len(found) < len(streams)}

    async def disconnect(self, args: Mapping[str, object]) -> None:
        """End a stream; its client may come back (W37)."""
        self._node.close(self._stream(args), reasons.KICKED)

    async def replace(self, args: Mapping[str, object]) -> None:
        """End a stream whose subject has opened one too many at another hub (W45)."""
        connection = self._node.connections.get(str(args["connection"]))
        if connection is not None:
            self._node.close(connection, reasons.REPLACED)

    async def refresh(self, args: Mapping[str, object]) -> dict[str, object]:
        """Extend a live stream with a fresh identity of the same subject, with the rights of now (W21)."""
        connection = self._stream(args)
        fresh = msgspec.convert(args["identity"], Identity)
        subscription = connection.subscription
        if not fresh.same_person(subscription.identity):
            raise Forbidden("the stream belongs to somebody else")
        granted = await self._authorizer.subscribe(fresh, list(subscription.topics.names), self._clock.wall())
        if connection.closed_by is not None:
            raise NotFound("the stream has ended")
        identity = self._node.refresh(connection, granted)
        if identity.family is not None:
            await self._tickets.touch(identity.family, identity)
        return {"expires_at": identity.expires_at}

    async def supersede(self, args: Mapping[str, object]) -> None:
        """End the streams of a family that has gone on to another hub (W14), unless it has come back."""
        family = str(args["family"])
        if await self._tickets.node_of(family) != self._rpc.node_id:
            self._node.supersede(family)

    def _stream(self, args: Mapping[str, object]) -> Connection:
        connection = self._node.connections.get(str(args["connection"]))
        if connection is None:
            raise NotFound("there is no such stream")
        return connection

    def _describe(self, connection: Connection) -> dict[str, object]:
        identity = connection.subscription.identity
        described = StreamAnswer(
            id=connection.id,
            subject=identity.subject,
            issuer=identity.issuer,
            auth_method=identity.auth_method,
            topics=list(connection.subscription.topics.names),
            state=connection.state.name.lower(),
            direct=connection.sink is not None and connection.sink.chunked,
            position=connection.position,
            delivered=connection.delivered,
            buffered=connection.sink.buffered if connection.sink else 0,
            address=connection.address,
            seconds=round(self._clock.monotonic() - connection.opened_at, 3),
            expires_at=identity.expires_at,
        )
        return cast("dict[str, object]", msgspec.to_builtins(described))
