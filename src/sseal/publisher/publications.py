"""Checks what somebody wants to publish and makes a `Publication` of it: valid, encoded, within the limits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeGuard

import msgspec
from msgspec import UNSET, Meta, UnsetType

from .. import wire
from ..errors import Forbidden, InvalidInput, TooLarge
from ..limits import Limits
from ..storage import IdempotencyKey, Publication
from ..topics import MAX_TOPIC_LENGTH, check_topic

__all__ = ["TOPIC_SCHEMA", "EventBody", "TopicText", "body_to_publication", "publication"]

RETRY_RANGE: Final = (500, 60_000)
"""Milliseconds a publisher may send its readers away for (W19)."""
RESERVED_ROOT: Final = "$sseal"
"""First segment of the hub's own topics, such as the one the canary of `/readyz` travels on."""
TOPIC_SCHEMA: Final = {"minLength": 1, "maxLength": MAX_TOPIC_LENGTH, "pattern": "^[^/]+(/[^/]+)*$"}
"""What JSON Schema can say of a topic or pattern; the rest is checked where it is read."""

TopicText = Annotated[str, Meta(extra_json_schema=TOPIC_SCHEMA)]
_TTL_SCHEMA: Final = {"exclusiveMinimum": 0}
_RETRY_SCHEMA: Final = {"minimum": RETRY_RANGE[0], "maximum": RETRY_RANGE[1]}


class EventBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    """One event to publish. Send either `topic` or `topics`."""

    topic: Annotated[TopicText, Meta(description="An exact topic.", examples=["user/alice"])] | UnsetType = UNSET
    topics: (
        Annotated[list[TopicText], Meta(description="Several exact topics: one event all the same.")] | UnsetType
    ) = UNSET
    data: Annotated[Any, Meta(description="Text is sent as it is, any other JSON as JSON.", examples=["hello"])]
    event: Annotated[str | None, Meta(description="The event type; `message` without one.", examples=["note"])] = None
    ttl: (
        Annotated[
            float,
            Meta(description="Seconds until it is no longer worth reading.", extra_json_schema=_TTL_SCHEMA),
        ]
        | None
    ) = None
    key: Annotated[
        str | None,
        Meta(description="Idempotency key: the same key with the same content is published once in 24 h."),
    ] = None
    retry: (
        Annotated[
            int,
            Meta(
                description="Milliseconds readers wait before they reconnect. Needs the admin grant.",
                extra_json_schema=_RETRY_SCHEMA,
            ),
        ]
        | None
    ) = None


def publication(
    topics: str | Sequence[str],
    data: object,
    *,
    event: str = "message",
    ttl: float | None = None,
    key: str | None = None,
    retry: int | None = None,
    scope: tuple[str, str] = ("", ""),
    limits: Limits,
    field: str = "",
) -> Publication:
    """Make a publication, or say which field is wrong.

    :param topics: one exact topic or several; one event all the same.
    :param data: text is sent as it is, anything else as JSON.
    :param event: the event type; not one of the reserved ones (W18).
    :param ttl: seconds until it is no longer worth reading.
    :param key: idempotency key, unique per ``scope``.
    :param retry: milliseconds readers shall wait before they reconnect.
    :param field: prefix for the field names in errors, such as ``[3].``.
    :raises InvalidInput: names the field.
    :raises TooLarge: the data is over ``limits.data`` bytes.
    """
    listed = _topics(topics, field, limits)
    _check_event(event, f"{field}event")
    text = _text(data, f"{field}data")
    try:
        wire.check_line("event", event)
        size = wire.utf8_length("data", text)
    except InvalidInput as error:
        raise InvalidInput(f"{field}{error.field}", error.problem) from None
    if size > limits.data:
        raise TooLarge(f"{field}data", f"is {size} bytes, at most {limits.data} are allowed")
    if ttl is not None and (not _is_number(ttl) or not 0 < ttl <= limits.ttl):
        raise InvalidInput(f"{field}ttl", f"must be a number of seconds from 0 to {limits.ttl:g}")
    if retry is not None and (
        isinstance(retry, bool) or not isinstance(retry, int) or not RETRY_RANGE[0] <= retry <= RETRY_RANGE[1]
    ):
        raise InvalidInput(f"{field}retry", "must be a whole number of milliseconds from 500 to 60000")
    claim = None if key is None else _claim(key, scope, listed, event, text, f"{field}key", limits)
    return Publication(
        topics=listed, type=event, data=text, ttl=None if ttl is None else float(ttl), retry=retry, key=claim
    )


def body_to_publication(
    body: EventBody, *, scope: tuple[str, str], admin: bool, limits: Limits, field: str = ""
) -> Publication:
    """Make a publication of one event of ``POST /events``.

    :raises InvalidInput: names the field.
    :raises Forbidden: ``retry`` without the admin grant.
    """
    topic, topics = body.topic, body.topics
    if isinstance(topic, UnsetType) == isinstance(topics, UnsetType):
        raise InvalidInput(f"{field}topic", "send either topic or topics")
    if body.retry is not None and not admin:
        raise Forbidden("retry: only an admin may change the reconnection time of readers", code="admin_required")
    return publication(
        topic if isinstance(topics, UnsetType) else topics,  # type: ignore[arg-type]
        body.data,
        event="message" if body.event is None else body.event,
        ttl=body.ttl,
        key=body.key,
        retry=body.retry,
        scope=scope,
        limits=limits,
        field=field,
    )


def json_type(value: object) -> str:
    """Return what JSON calls the type of a decoded value."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _topics(topics: object, field: str, limits: Limits) -> tuple[str, ...]:
    if isinstance(topics, str):
        return (_topic(topics, f"{field}topic"),)
    if not isinstance(topics, Sequence) or not topics:
        raise InvalidInput(f"{field}topics", "must name at least one topic")
    if len(topics) > limits.event_topics:
        raise InvalidInput(f"{field}topics", f"holds {len(topics)} topics, at most {limits.event_topics} are allowed")
    checked = (_topic(topic, f"{field}topics[{index}]") for index, topic in enumerate(topics))
    return tuple(dict.fromkeys(checked))


def _topic(topic: str, field: str) -> str:
    if check_topic(topic, field).split("/", 1)[0] == RESERVED_ROOT:
        raise InvalidInput(field, f"topics below {RESERVED_ROOT!r} are reserved for the hub")
    return topic


def _check_event(event: object, field: str) -> None:
    if not isinstance(event, str):
        raise InvalidInput(field, f"must be a string, not {json_type(event)}")
    if event in wire.RESERVED_TYPES:
        raise InvalidInput(field, f"{event!r} is reserved; choose another name")
    if len(event) > 128:
        raise InvalidInput(field, f"has {len(event)} characters, at most 128 are allowed")


def _text(data: object, field: str) -> str:
    if isinstance(data, str):
        return data
    try:
        return msgspec.json.encode(data).decode()
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise InvalidInput(field, f"cannot be written as JSON: {error}") from None


def _claim(
    key: object, scope: tuple[str, str], topics: tuple[str, ...], event: str, text: str, field: str, limits: Limits
) -> IdempotencyKey:
    if not isinstance(key, str) or not key:
        raise InvalidInput(field, "must be a string that is not empty")
    if len(key) > limits.key:
        raise InvalidInput(field, f"has {len(key)} characters, at most {limits.key} are allowed")
    if not key.isprintable():
        raise InvalidInput(field, "holds a character that is not printable")
    content = msgspec.json.encode([sorted(topics), event, text])
    return IdempotencyKey(scope=scope, key=key, digest=hashlib.sha256(content).digest())


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
