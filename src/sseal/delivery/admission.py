"""Admission: from a request for a stream, whatever front it came by, to an open stream or the reason why not.

The order of the steps is the order of docs/explanation/architecture.md, and these hold over all of it:

- What is refused for now spends no ticket: before the credential is looked at its life is extended, after it was
  redeemed it is given back (W35).
- A stream is checked against the revocations, given its room and registered in one synchronous step (W17); a position
  that was found in one epoch of the log is not used in another (W10).
- A resume ends the other streams of its family, here before room is made, and elsewhere once it has entered; if the
  family has meanwhile gone on to another hub it ends itself (W14).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..auth.identity import Identity
from ..auth.last_event_id import LastEventId
from ..authorizer import Authorizer
from ..errors import CredentialInvalid, Forbidden, SsealError, TooManyRequests, Unavailable
from ..identity_sources.secret import new_name
from ..identity_sources.tickets import RedeemedTicket, Tickets
from ..position import Resolution
from ..stream import reasons
from ..stream.connection import Connection
from ..subscription import Subscription
from ..topics import Pattern
from . import control_events
from .node import Node
from .node_rpc import NodeRpc
from .retry_jitter import jittered
from .stream_limits import StreamLimits
from .throttling import Throttling

__all__ = ["Admission", "Authenticate", "Authenticated", "StreamRequest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """What a request for a stream says, already parsed.

    :param topics: topics and patterns asked for; none for the subject's own.
    :param subject: whom the client expects to be (W16); None for whomever its credential names.
    :param last_event_id: what it says it has seen, None if nothing.
    :param envelope: frames as one JSON each.
    :param address: of the client; empty when the server does not say.
    :param ticket: the ticket it brings, if it may be redeemed here; None for another credential.
    """

    topics: Sequence[str] = ()
    subject: str | None = None
    last_event_id: LastEventId | None = None
    envelope: bool = False
    address: str = ""
    ticket: str | None = None


class Authenticated(Protocol):
    """Who opens a stream."""

    @property
    def identity(self) -> Identity:
        """Who it is."""
        ...

    @property
    def redeemed(self) -> RedeemedTicket | None:
        """What a ticket or resume token opened, None when it was another credential."""
        ...


Authenticate = Callable[[], Awaitable[Authenticated]]
"""Looks at the credential of one request, and spends it if it is a ticket; raises what a client is refused with."""


class Admission:
    """Opens streams on a node.

    :param node: where they are opened.
    :param authorizer: decides with the rights of now which topics one may read (W21).
    :param tickets: tickets and the families that grow from them.
    :param rpc: tells the node that held a family's stream before.
    """

    def __init__(
        self,
        node: Node,
        authorizer: Authorizer,
        tickets: Tickets,
        throttling: Throttling,
        stream_limits: StreamLimits,
        rpc: NodeRpc,
    ) -> None:
        self._node = node
        self._authorizer = authorizer
        self._tickets = tickets
        self._throttling = throttling
        self._stream_limits = stream_limits
        self._rpc = rpc

    async def open(self, request: StreamRequest, authenticate: Authenticate) -> Connection:
        """Open a stream, registered and without a sink; see `NodeSinks.attach`.

        :raises SsealError: why not; `TooManyRequests` and `Unavailable` for now.
        """
        await self._check_capacity(request)
        caller = await authenticate()
        identity, redeemed = caller.identity, caller.redeemed
        try:
            if redeemed is None or redeemed.ticket is None:  # a fresh ticket was counted when it was issued
                self._throttling.connect(identity)
            if request.subject is not None and request.subject != identity.subject:
                raise CredentialInvalid(
                    "another subject than the one pinned",
                    auth_method=identity.auth_method,
                    kind="subject",
                    subject=identity.subject,
                )
            subscription = await self._subscribe(identity, redeemed, request.topics)
            return await self._enter(request, subscription, redeemed)
        except (TooManyRequests, Unavailable):
            if redeemed is not None:
                await self._tickets.unredeem(redeemed)
            raise

    def first_body(self, connection: Connection) -> bytes:
        """Return the first bytes of a stream: ``retry:`` and ``auth`` with the starting position (W1)."""
        start = connection.start(self._node.window.epoch)
        return control_events.opening(connection, start, jittered(self._node.settings.retry_ms))

    async def _check_capacity(self, request: StreamRequest) -> None:
        """Refuse for now what cannot be served now; spends no ticket (W35)."""
        node = self._node
        try:
            if node.draining:
                raise Unavailable("the hub is shutting down", code="draining", retry_after=2.0)
            if node.isolated:
                raise Unavailable("the hub cannot hear of revocations now", code="cut_off", retry_after=2.0)
            if (full := self._stream_limits.full(request.address)) is not None:
                raise full
            self._throttling.connect_from(request.address)
        except SsealError:
            if request.ticket is not None:
                await self._tickets.extend(request.ticket)
            raise

    async def _subscribe(
        self, identity: Identity, redeemed: RedeemedTicket | None, topics: Sequence[str]
    ) -> Subscription:
        """Ask the authorizer, with the rights of now; a ticket bounds what may be asked for (W41)."""
        authorizer, now = self._authorizer, self._node.clock.wall()
        if redeemed is None:
            return await authorizer.subscribe(identity, topics, now)
        bound = [Pattern.parse(text) for text in redeemed.topics]
        asked = authorizer.parse(identity, topics or redeemed.topics)
        outside = [name for name, pattern in asked.items() if not any(b.covers(pattern) for b in bound)]
        if outside:
            raise Forbidden("the ticket is not for: " + ", ".join(outside), refused=outside, code="topic_refused")
        return await authorizer.subscribe(identity, list(asked), now)

    async def _enter(
        self, request: StreamRequest, subscription: Subscription, redeemed: RedeemedTicket | None
    ) -> Connection:
        """Make the stream, give it room, and register it."""
        node = self._node
        await node.interest.listen(subscription)
        try:
            connection = await self._connection(request, subscription, redeemed)
            epoch = node.window.epoch
            if not node.replay.replayable(connection):
                raise Unavailable("what this stream missed cannot be read now", code="broker_lost", retry_after=2.0)
            if redeemed is not None and redeemed.ticket is not None:
                await self._tickets.start_family(redeemed, connection.start(epoch))
            # From here on nothing waits until the stream is registered.
            if epoch != node.window.epoch:
                raise Unavailable("the log is in a new epoch", code="new_epoch")  # the stream's place is of the old
            family = subscription.identity.family
            node.streams.supersede(family, connection)  # it takes the place of its own old stream
            self._stream_limits.make_room(connection)
            if (full := self._stream_limits.full(request.address)) is not None:
                raise full  # others came in while we were asking who this is
            if node.draining or not node.started:
                raise Unavailable("the hub is shutting down", code="draining", retry_after=2.0)
            node.revocations.check(subscription.identity)
            node.streams.register(connection)
        except BaseException:
            node.interest.unlisten(subscription)
            raise
        if redeemed is not None and redeemed.ticket is None and family is not None:
            await self._check_still_here(connection, family)
            if redeemed.previous_node not in ("", node.id):
                self._rpc.cast(redeemed.previous_node, "supersede", family=family)
        return connection

    async def _connection(
        self, request: StreamRequest, subscription: Subscription, redeemed: RedeemedTicket | None
    ) -> Connection:
        """Translate the presented position and make the stream, not yet registered."""
        node, last = self._node, request.last_event_id
        presented = None if last is None else last.position
        if presented is not None:
            where = await node.locate(presented)
        else:
            start = node.window.head_of(subscription.topics)
            where = Resolution(start, None if last is None else "unknown_position")
        return Connection(
            f"{node.id}.{new_name(16)}",  # names this node, and cannot be guessed (W42)
            subscription,
            where.offset,
            presented=presented,
            gap=where.reason,
            from_oldest=where.oldest,
            token=None if redeemed is None else redeemed.token.encode(),
            envelope=request.envelope,
            address=request.address,
            opened_at=node.clock.monotonic(),
        )

    async def _check_still_here(self, connection: Connection, family: str) -> None:
        """End a resumed stream whose family went on to another hub before this one was registered (W14)."""
        streams = self._node.streams
        try:
            here = await self._tickets.node_of(family) == self._node.id
        except BaseException:
            streams.unregister(connection, reasons.UNAVAILABLE)
            raise
        if not here:
            streams.unregister(connection, reasons.SUPERSEDED)
            raise CredentialInvalid("its stream has gone on at another hub", auth_method="resume", kind="superseded")
