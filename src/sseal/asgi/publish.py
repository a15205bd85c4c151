"""``POST /events`` and ``POST /notifications``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from ..auth.identity import Identity
from ..clock import Clock
from ..delivery.node import Node
from ..delivery.throttling import Throttling
from ..errors import Forbidden, InvalidInput, TooLarge
from ..limits import Limits
from ..publisher import EventBody, body_to_publication, publication
from ..storage import Publication
from ..topics import MAX_TOPIC_LENGTH, user_topic
from .authentication import Authenticator
from .bodies import NotificationAnswer, NotificationBody, PublishAnswer
from .requests import HubRequest
from .responses import JsonResponse

__all__ = ["PublishEndpoints"]

_EVENTS: Final[msgspec.json.Decoder[EventBody | list[EventBody]]] = msgspec.json.Decoder(EventBody | list[EventBody])
_NOTIFICATION: Final = msgspec.json.Decoder(NotificationBody)


class PublishEndpoints:
    """The endpoints that put events into the log; each request whole or not at all."""

    def __init__(
        self, *, limits: Limits, clock: Clock, node: Node, throttling: Throttling, authenticator: Authenticator
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._node = node
        self._throttling = throttling
        self._authenticator = authenticator

    async def events(self, request: HubRequest) -> JsonResponse:
        """``POST /events``: one event or an array of them."""
        identity = await self._authenticator.identify(request)
        body = await request.decode_body(_EVENTS, limit=self._limits.body)
        return JsonResponse(await self.publish_events(identity, body), 201)

    async def notifications(self, request: HubRequest) -> JsonResponse:
        """``POST /notifications``: a message from whoever asks on somebody's own topic."""
        identity = await self._authenticator.identify(request)
        body = await request.decode_body(_NOTIFICATION, limit=self._limits.body)
        return JsonResponse(await self.publish_notification(identity, body))

    async def publish_events(self, identity: Identity, body: EventBody | list[EventBody]) -> PublishAnswer:
        """Publish as somebody; return the ids.

        :raises InvalidInput: an event is malformed; names the field, in an array with its index.
        :raises Forbidden: a topic is not granted; none of the events is published.
        :raises TooManyRequests: too many events of this subject in a minute, or delivery is overloaded (W29).
        """
        items = body if isinstance(body, list) else [body]
        if not items:
            raise InvalidInput("body", "must hold at least one event")
        if len(items) > self._limits.batch:
            raise TooLarge("body", f"holds {len(items)} events, at most {self._limits.batch} are allowed")
        publications = [
            body_to_publication(
                item,
                scope=(identity.issuer, str(identity.subject)),
                admin=identity.grants.admin,
                limits=self._limits,
                field=f"[{index}]." if isinstance(body, list) else "",
            )
            for index, item in enumerate(items)
        ]
        positions = await self._publish(identity, publications)
        return PublishAnswer(ids=positions)

    async def publish_notification(self, identity: Identity, body: NotificationBody) -> NotificationAnswer:
        """Publish a message from somebody to somebody; errors as in `publish_events`."""
        if len(body.target) > MAX_TOPIC_LENGTH:  # before each character is looked at: a body holds a million
            raise InvalidInput(
                "targetUserId", f"has {len(body.target)} characters, at most {MAX_TOPIC_LENGTH} are allowed"
            )
        content = {
            "type": body.type,
            "message": body.message,
            "timestamp": datetime.fromtimestamp(self._clock.wall(), UTC).isoformat(timespec="milliseconds"),
            "sender": identity.subject,
        }
        try:
            made = publication(user_topic(body.target), content, event=body.type, limits=self._limits)
        except InvalidInput as error:
            field = {"topic": "targetUserId", "event": "type", "data": "message"}.get(error.field, error.field)
            raise type(error)(field, error.problem) from None
        (position,) = await self._publish(identity, [made])
        return NotificationAnswer(id=position)

    async def _publish(self, identity: Identity, publications: list[Publication]) -> list[str]:
        granted = identity.grants.bound("publish", identity.subject)
        topics = dict.fromkeys(topic for item in publications for topic in item.topics)
        refused = [topic for topic in topics if not any(pattern.matches(topic) for pattern in granted)]
        if refused:
            raise Forbidden("not allowed to publish to: " + ", ".join(refused), refused=refused, code="topic_refused")
        self._throttling.publish(identity, len(publications))
        return [str(position) for position in await self._node.publish(publications, wait=False)]
