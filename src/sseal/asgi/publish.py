"""``POST /events`` and ``POST /notifications``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec
from starlette.types import Receive, Scope

from ..auth.identity import Identity
from ..errors import Forbidden, InvalidInput, TooLarge
from ..publisher import EventBody, body_to_draft, publication
from ..storage import Publication
from ..topics import MAX_TOPIC_LENGTH, user_topic
from .authentication import Authenticator
from .bodies import NotificationAnswer, NotificationBody, PublishAnswer
from .requests import Ask
from .responses import Answer
from .services import Services

__all__ = ["PublishEndpoints"]

_EVENTS: Final[msgspec.json.Decoder[EventBody | list[EventBody]]] = msgspec.json.Decoder(EventBody | list[EventBody])
_NOTIFICATION: Final = msgspec.json.Decoder(NotificationBody)


class PublishEndpoints:
    """The endpoints that put events into the log; each request whole or not at all."""

    def __init__(self, services: Services, authenticator: Authenticator) -> None:
        self._services = services
        self._authenticator = authenticator

    async def events(self, scope: Scope, receive: Receive) -> Answer:
        """``POST /events``: one event or an array of them."""
        ask = Ask(scope)
        identity = await self._authenticator.caller(ask)
        limits = self._services.settings.limits
        body = await ask.body(receive, _EVENTS, limit=limits.body)
        items = body if isinstance(body, list) else [body]
        if not items:
            raise InvalidInput("body", "must hold at least one event")
        if len(items) > limits.batch:
            raise TooLarge("body", f"holds {len(items)} events, at most {limits.batch} are allowed")
        publications = [
            body_to_draft(
                item,
                scope=(identity.issuer, str(identity.subject)),
                admin=identity.grants.admin,
                limits=limits,
                field=f"[{index}]." if isinstance(body, list) else "",
            )
            for index, item in enumerate(items)
        ]
        self._check_grants(identity, publications)
        self._services.throttling.publish(identity, len(publications))
        positions = await self._services.node.publish(publications, wait=False)
        return Answer(201, PublishAnswer(ids=[str(position) for position in positions]))

    async def notifications(self, scope: Scope, receive: Receive) -> Answer:
        """``POST /notifications``: a message from the caller on somebody's own topic."""
        ask = Ask(scope)
        identity = await self._authenticator.caller(ask)
        limits = self._services.settings.limits
        body = await ask.body(receive, _NOTIFICATION, limit=limits.body)
        if len(body.target) > MAX_TOPIC_LENGTH:  # before each character is looked at: a body holds a million
            raise InvalidInput(
                "targetUserId", f"has {len(body.target)} characters, at most {MAX_TOPIC_LENGTH} are allowed"
            )
        content = {
            "type": body.type,
            "message": body.message,
            "timestamp": datetime.fromtimestamp(self._services.clock.wall(), UTC).isoformat(timespec="milliseconds"),
            "sender": identity.subject,
        }
        try:
            made = publication(user_topic(body.target), content, event=body.type, limits=limits)
        except InvalidInput as error:
            field = {"topic": "targetUserId", "event": "type", "data": "message"}.get(error.field, error.field)
            raise type(error)(field, error.problem) from None
        self._check_grants(identity, [made])
        self._services.throttling.publish(identity, 1)
        (position,) = await self._services.node.publish([made], wait=False)
        return Answer(200, NotificationAnswer(id=str(position)))

    def _check_grants(self, identity: Identity, publications: list[Publication]) -> None:
        granted = identity.grants.bound("publish", identity.subject)
        topics = dict.fromkeys(topic for item in publications for topic in item.topics)
        refused = [topic for topic in topics if not any(pattern.matches(topic) for pattern in granted)]
        if refused:
            raise Forbidden("not allowed to publish to: " + ", ".join(refused), refused=refused, code="topic_refused")
