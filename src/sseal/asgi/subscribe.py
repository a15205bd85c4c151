"""``GET /events``: from a request to an open stream."""

from __future__ import annotations

import logging
import random
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from .. import wire
from ..auth.credential import Credential, LastEventId
from ..auth.identity import Identity
from ..authorizer import Authorizer
from ..clock import Clock
from ..delivery.node import Node
from ..delivery.node_rpc import NodeRpc
from ..delivery.quotas import Quotas
from ..errors import (
    CredentialInvalid,
    CredentialMissing,
    Forbidden,
    InvalidInput,
    MethodNotAllowed,
    SsealError,
    TooManyRequests,
    Unavailable,
)
from ..hub_settings import HubSettings
from ..identity_sources.tickets import RedeemedTicket, Tickets
from ..limits import address_key
from ..position import Resolution
from ..stream import reasons
from ..stream.connection import Connection
from ..subscription import Subscription
from ..topics import Pattern
from .audit import audit_refusal
from .authentication import FAILURES, Authenticator
from .connect_throttle import ConnectThrottle
from .requests import HubRequest
from .responses import HARDENING, problem, refusal
from .sink import PlainSink

__all__ = ["Subscribe"]

_HEAD: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx buffers otherwise, and the stream arrives in lumps
    *HARDENING,
)
_CLOSE: Final = (b"connection", b"close")  # what follows a stream on its connection may be lost (W33)

logger = logging.getLogger("sseal.asgi")
access = logging.getLogger("sseal.access")


class Subscribe:
    """The stream endpoint. Path parameter ``ticket`` is optional."""

    def __init__(
        self,
        *,
        settings: HubSettings,
        clock: Clock,
        node: Node,
        rpc: NodeRpc,
        quotas: Quotas,
        authorizer: Authorizer,
        tickets: Tickets,
        authenticator: Authenticator,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._node = node
        self._rpc = rpc
        self._quotas = quotas
        self._authorizer = authorizer
        self._tickets = tickets
        self._authenticator = authenticator
        self._throttle = ConnectThrottle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request with a stream, or say why not."""
        ask = None
        try:
            if scope["method"] == "HEAD":
                raise CredentialMissing("HEAD authenticates nothing")
            if scope["method"] != "GET":
                raise MethodNotAllowed(f"{scope['method']} is not allowed here")
            await self._throttle.enter()
            ask = HubRequest(scope)
            if (unavailable := scope.get("sseal.unavailable")) is not None:
                raise unavailable  # the hub has not started; see HubApp
            connection = await self._open(ask, scope.get("path_params", {}).get("ticket"))
        except (TooManyRequests, Unavailable) as error:
            self._node.stats.refuse(error.code)
            audit_refusal(error, scope)
            if ask is not None and ask.native:
                await self._transient(error, scope, send)
            else:
                await problem(error)(scope, receive, send)
        except SsealError as error:
            self._node.stats.refuse(error.code)
            ticket = scope.get("path_params", {}).get("ticket")
            await refusal(error, scope, allow="GET, HEAD" if ticket else "GET, HEAD, POST")(scope, receive, send)
        except Exception:
            logger.exception("a stream could not be opened")
            self._node.stats.refuse(SsealError.code)
            await problem(SsealError("the request failed; the log says why"))(scope, receive, send)
        else:
            await self._stream(connection, scope, receive, send)

    async def _open(self, ask: HubRequest, path_ticket: str | None) -> Connection:
        """Check everything, in the order of docs/explanation/architecture.md, and enter the stream."""
        if ask.has_body:
            raise InvalidInput("body", "GET /events takes none")
        last_event_id = ask.last_event_id()
        envelope = ask.flag("envelope")
        ask.flag("anonymous")
        pinned, topics = ask.single("subject"), ask.getlist("topic")
        for text in topics:
            Pattern.parse(text)  # what is malformed spends no ticket
        credential = self._authenticator.find(ask, path_ticket=path_ticket, last_event_id=last_event_id)
        await self._check_room(ask, credential)
        admission = await self._authenticator.admit(ask, credential, last_event_id)
        identity, redeemed = admission.identity, admission.redeemed
        try:
            self._check_rate(identity, redeemed)
            if pinned is not None and pinned != identity.subject:
                raise CredentialInvalid(
                    "another subject than the one pinned",
                    auth_method=identity.auth_method,
                    kind="subject",
                    subject=identity.subject,
                )
            subscription = await self._subscription(identity, redeemed, topics)
            return await self._enter(ask, subscription, redeemed, last_event_id, envelope)
        except (TooManyRequests, Unavailable):
            if redeemed is not None:
                await self._tickets.unredeem(redeemed)
            raise

    async def _enter(
        self,
        ask: HubRequest,
        subscription: Subscription,
        redeemed: RedeemedTicket | None,
        last_event_id: LastEventId | None,
        envelope: bool,
    ) -> Connection:
        """Make the stream, give it room, and put it into the hub."""
        node = self._node
        await node.listen(subscription)
        try:
            connection = await self._connection(ask, subscription, redeemed, last_event_id, envelope)
            epoch = node.position.epoch
            if not node.replayable(connection):
                raise Unavailable("what this stream missed cannot be read now", code="broker_lost", retry_after=2.0)
            if redeemed is not None and redeemed.ticket is not None:
                await self._tickets.start_family(redeemed, node.start_of(connection))
            if epoch != node.position.epoch:
                raise Unavailable("the log is in a new epoch", code="new_epoch")  # the stream's place is of the old
            family = subscription.identity.family
            node.supersede(family, connection)  # before room is made: it takes the place of its own old stream
            self._quotas.make_room(connection)
            if (refused := self._full(ask.address)) is not None:
                raise refused  # others came in while we were asking who this is
            node.enter(connection)
        except BaseException:
            node.unlisten(subscription)
            raise
        if redeemed is not None and redeemed.ticket is None and family is not None:
            await self._check_still_here(connection, family)
            if redeemed.previous_node not in ("", node.id):
                self._rpc.cast(redeemed.previous_node, "supersede", family=family)
        return connection

    async def _check_still_here(self, connection: Connection, family: str) -> None:
        """End a resumed stream whose family went on to another hub before this one had entered (W14)."""
        node = self._node
        try:
            here = await self._tickets.node_of(family) == node.id
        except BaseException:
            node.leave(connection, reasons.UNAVAILABLE)
            raise
        if not here:
            node.leave(connection, reasons.SUPERSEDED)
            raise CredentialInvalid("its stream has gone on at another hub", auth_method="resume", kind="superseded")

    async def _check_room(self, ask: HubRequest, credential: Credential | None) -> None:
        """Refuse for now what cannot be served now; spends no ticket (W35)."""
        node, limits, quotas = self._node, self._settings.limits, self._quotas
        address, key = ask.address, address_key(ask.address)
        connects, failures = limits.connects_per_minute_per_address, limits.failures_per_minute_per_address
        refused: SsealError | None
        if node.draining:
            refused = Unavailable("the hub is shutting down", code="draining", retry_after=2.0)
        elif node.isolated:
            refused = Unavailable("the hub cannot hear of revocations now", code="cut_off", retry_after=2.0)
        elif (refused := self._full(address)) is not None:
            pass
        elif not key:
            pass  # a server that does not say who asks: one bound for everybody would let one lock out all
        elif not quotas.rates.allows(failures, FAILURES, key):
            refused = quotas.exceeded(FAILURES, failures)
        elif not quotas.rates.hit(connects, "connects-per-address", key):
            refused = quotas.exceeded("connects-per-address", connects)
        if refused is not None:
            if credential is not None and credential.auth_method == "ticket" and ask.opens_stream:
                await self._tickets.extend(credential.value)
            raise refused

    def _full(self, address: str) -> SsealError | None:
        """Return why one more stream has no room, None if it has."""
        node, limits = self._node, self._settings.limits
        if limits.streams and len(node.connections) >= limits.streams:
            return Unavailable("the hub is full", code="full", retry_after=5.0)
        return self._quotas.full(address)

    def _check_rate(self, identity: Identity, redeemed: RedeemedTicket | None) -> None:
        """Limit a subject's connects; a fresh ticket is exempt, it was counted when it was issued."""
        if identity.subject is None or (redeemed is not None and redeemed.ticket is not None):
            return
        rate = self._settings.limits.connects_per_minute_per_subject
        self._quotas.spend("connects-per-subject", rate, identity.issuer, identity.subject)

    async def _subscription(
        self, identity: Identity, redeemed: RedeemedTicket | None, topics: list[str]
    ) -> Subscription:
        """Ask the authorizer, with the rights of now; a ticket bounds what may be asked for (W41)."""
        authorizer, now = self._authorizer, self._clock.wall()
        if redeemed is None:
            return await authorizer.subscribe(identity, topics, now)
        bound = [Pattern.parse(text) for text in redeemed.topics]
        asked = authorizer.parse(identity, topics or redeemed.topics)
        outside = [name for name, pattern in asked.items() if not any(b.covers(pattern) for b in bound)]
        if outside:
            raise Forbidden("the ticket is not for: " + ", ".join(outside), refused=outside, code="topic_refused")
        return await authorizer.subscribe(identity, list(asked), now)

    async def _connection(
        self,
        ask: HubRequest,
        subscription: Subscription,
        redeemed: RedeemedTicket | None,
        last_event_id: LastEventId | None,
        envelope: bool,
    ) -> Connection:
        """Translate the presented position and make the stream, not yet entered."""
        node = self._node
        presented = None if last_event_id is None else last_event_id.position
        if presented is not None:
            where = await node.locate(presented)
        else:
            start = node.head_of(subscription).offset
            where = Resolution(start, None if last_event_id is None else "unknown_position")
        return Connection(
            node.new_connection_id(),
            subscription,
            where.offset,
            presented=presented,
            gap=where.reason,
            from_oldest=where.oldest,
            token=None if redeemed is None else redeemed.token.encode(),
            envelope=envelope,
            address=ask.address,
            opened_at=self._clock.monotonic(),
        )

    async def _stream(self, connection: Connection, scope: Scope, receive: Receive, send: Send) -> None:
        """Send head and first body; then the hub owns the transport, or this task serves the plain path."""
        node = self._node
        owned = False
        try:
            first = node.opening(connection)
            await send({"type": "http.response.start", "status": 200, "headers": _head(scope)})
            direct = scope.get("extensions", {}).get("sseal.direct")
            if direct is not None:
                await send({"type": "http.response.body", "body": first, "more_body": True})
                owned = self._own(connection, await direct.detach(first))
                first = b""
            if not owned:
                sink = PlainSink(first, node, connection, cut=getattr(direct, "abort", None))
                node.attach(connection, sink)
                await sink.run(receive, send)
        finally:
            if not owned:
                node.leave(connection, reasons.CLIENT_GONE)

    def _own(self, connection: Connection, sink: Any) -> bool:
        """Take the direct sink over, if there is one."""
        if sink is None:
            return False
        node = self._node
        sink.begin(node, connection)
        node.attach(connection, sink)
        return True

    async def _transient(self, error: TooManyRequests | Unavailable, scope: Scope, send: Send) -> None:
        """Refuse a native EventSource for now, by a stream it survives (W35)."""
        access.info("stream refused for now", extra={"code": error.code})
        # Half a minute at most, though a rate may be over for longer: the ticket shall outlive it (W35).
        wait = max(min(error.retry_after, 30.0) * 1000.0, self._settings.retry_ms)
        body = wire.retry_line(round(wait * random.uniform(1.0, 2.0)))  # noqa: S311 - not a secret
        body += wire.bye_event(reason=error.code, reconnect=True)
        await send({"type": "http.response.start", "status": 200, "headers": _head(scope)})
        await send({"type": "http.response.body", "body": body})


def _head(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the head of a stream; HTTP/2 knows no Connection header (RFC 9113 section 8.2.2)."""
    return [*_HEAD, _CLOSE] if scope.get("http_version", "1.1").startswith("1") else [*_HEAD]
