"""What the OpenAPI document says of each endpoint beside its bodies: auth methods, parameters, answers.

A test holds this table against the routes of the app, and every answer the other tests get against the document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ..publisher import TOPIC_SCHEMA, EventBody
from . import bodies

__all__ = ["OPERATIONS", "Operation", "Success"]

Access = Literal["stream", "api", "bearer", "cookie", "ticket", "none"]
"""Who may ask: by every auth method, by those of the API, by one; ``ticket`` is the API's or a token in the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """An answer that is no refusal.

    :param body: what it holds, None for nothing that has a schema.
    :param media: its media type, None for no body.
    :param headers: names of the headers that matter.
    """

    description: str
    body: Any = None
    media: str | None = "application/json"
    headers: tuple[str, ...] = ()
    example: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One endpoint with one method.

    :param problems: statuses of the problem documents it may answer with; 421, 500 and 503 are added.
    :param body: what a request holds; None for nothing.
    :param examples: of request bodies, by name.
    """

    name: str
    tag: Literal["streams", "publishing", "credentials", "administration", "health"]
    summary: str
    description: str = ""
    access: Access = "none"
    parameters: tuple[Mapping[str, Any], ...] = ()
    body: Any = None
    body_required: bool = True
    examples: Mapping[str, Any] = field(default_factory=dict)
    success: Mapping[int, Success]
    problems: tuple[int, ...] = ()
    unavailable: bool = True


def _query(name: str, description: str, schema: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema or {"type": "string"}, **more}


def _path(name: str, description: str, example: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1}
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": schema,
        "example": example,
    }


_FLAG: Final = {"type": "string", "enum": ["0", "1"]}
_STREAM_PARAMETERS: Final = (
    _query(
        "topic",
        "A topic or pattern; repeatable. At most 8 are patterns. Without one: the subject's own, `user/<sub>`.",
        {"type": "array", "items": {"type": "string", **TOPIC_SCHEMA}, "maxItems": 64},
        example=["public/news", "user/alice"],
    ),
    _query(
        "last_event_id", "A position to go on after; the header `Last-Event-ID` wins over it.", example="k3v9x0aa-42"
    ),
    _query("subject", "Refuse with 401 if the identity is another.", example="alice"),
    _query("anonymous", "`1`: without a credential, read public topics.", _FLAG),
    _query("envelope", "`1`: each event's data is one JSON object of `topic`, `type` and `data`.", _FLAG),
    {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "The id of the last event seen, as an EventSource sends it: a position, on the streams of a "
        "ticket with a resume token in front.",
        "schema": {"type": "string"},
        "example": "k3v9x0aa-42",
    },
)
_STREAM: Final = Success(
    description="An event stream that does not end by itself. A client that only takes `text/event-stream` gets a "
    "refusal for now in this form too: `retry:` and a `bye`.",
    media="text/event-stream",
    example="id: k3v9x0aa-42\nevent: auth\nretry: 3000\n"
    'data: {"session":"valid","connection":"hub0node.abcdefghijklmnop","subject":"alice",'
    '"topics":["user/alice"],"expires_at":1800000000}\n\n'
    'id: k3v9x0aa-43\nevent: note\ntopic: user/alice\ndata: {"n":1}\n\n',
)
_SESSION: Final = Success(description="A new session cookie.", body=bodies.SessionAnswer, headers=("Set-Cookie",))
_READ: Final = (400, 401, 403, 429)
_WRITE: Final = (400, 401, 403, 408, 413, 415, 429)

OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/events"): Operation(
        name="openStream",
        tag="streams",
        summary="Open an event stream",
        description="It never redirects, and `/events/` is the same.",
        access="stream",
        parameters=_STREAM_PARAMETERS,
        success={200: _STREAM},
        problems=_READ,
    ),
    ("GET", "/events/{ticket}"): Operation(
        name="openStreamByTicket",
        tag="streams",
        summary="Open an event stream with the ticket in the path",
        parameters=(_path("ticket", "A one-time ticket.", "abcdefghijklmnopqrstuvwxyz"), *_STREAM_PARAMETERS),
        success={200: _STREAM},
        problems=_READ,
    ),
    ("POST", "/events"): Operation(
        name="publish",
        tag="publishing",
        summary="Publish an event, or several: all or none",
        description="A list of events is published whole or not at all. The same `key` with other content is 409.",
        access="api",
        body=EventBody | list[EventBody],
        examples={
            "one": {"topic": "user/alice", "data": {"n": 1}, "event": "count", "key": "n-1", "ttl": 60},
            "several": [
                {"topic": "user/alice", "data": "text"},
                {"topics": ["user/alice", "public/news"], "data": {"n": 2}},
            ],
        },
        success={201: Success(description="In the log.", body=bodies.PublishAnswer)},
        problems=(*_WRITE, 409),
    ),
    ("POST", "/notifications"): Operation(
        name="notify",
        tag="publishing",
        summary="Send a message to one subject",
        description="An event on `user/<targetUserId>` whose data is `type`, `message`, `timestamp` and `sender`.",
        access="api",
        body=bodies.NotificationBody,
        examples={"message": {"targetUserId": "bob", "message": "lunch?", "type": "chat"}},
        success={200: Success(description="In the log.", body=bodies.NotificationAnswer)},
        problems=_WRITE,
    ),
    ("POST", "/auth/sse"): Operation(
        name="issueTicket",
        tag="credentials",
        summary="Get a one-time ticket for a stream",
        access="ticket",
        body=bodies.TicketBody,
        body_required=False,
        examples={
            "custom": {"topics": ["user/alice", "public/news"]},
            "for somebody": {"subject": "alice", "topics": ["user/alice"], "grants": {"publish": ["user/alice"]}},
        },
        success={201: Success(description="The ticket.", body=bodies.TicketAnswer)},
        problems=_WRITE,
    ),
    ("POST", "/auth/login"): Operation(
        name="logIn",
        tag="credentials",
        summary="Log in to an account of the hub",
        description="Only from a page whose origin is known; 404 where accounts are not switched on.",
        body=bodies.LoginBody,
        examples={"account": {"username": "alice", "password": "correct horse battery"}},
        success={200: _SESSION},
        problems=(*_WRITE, 404),
    ),
    ("POST", "/auth/session"): Operation(
        name="openSession",
        tag="credentials",
        summary="Exchange a bearer token for a session cookie",
        access="bearer",
        body=bodies.SessionBody,
        body_required=False,
        examples={"nothing": {}},
        success={200: _SESSION},
        problems=_WRITE,
    ),
    ("DELETE", "/auth/session"): Operation(
        name="logOut",
        tag="credentials",
        summary="Log out",
        description="Ends the session of the cookie, its streams, and what was derived from it.",
        access="cookie",
        success={204: Success(description="It is over.", media=None, headers=("Set-Cookie",))},
        problems=_READ,
    ),
    ("POST", "/auth/refresh"): Operation(
        name="refreshStream",
        tag="credentials",
        summary="Extend an open stream with a fresh credential",
        access="api",
        body=bodies.RefreshBody,
        examples={"stream": {"connection": "hub0node.abcdefghijklmnop"}},
        success={200: Success(description="It goes on.", body=bodies.RefreshAnswer)},
        problems=(*_WRITE, 404),
    ),
    ("GET", "/admin/connections"): Operation(
        name="listStreams",
        tag="administration",
        summary="List the open streams of all hubs",
        access="api",
        parameters=(
            _query("subject", "Only those of this subject.", example="alice"),
            _query("after", "Go on after this id."),
        ),
        success={200: Success(description="A page.", body=bodies.ConnectionsAnswer)},
        problems=_READ,
    ),
    ("DELETE", "/admin/connections/{id}"): Operation(
        name="endStream",
        tag="administration",
        summary="End one stream; its client may come back",
        access="api",
        parameters=(_path("id", "The stream's id.", "hub0node.abcdefghijklmnop"),),
        success={204: Success(description="It is over.", media=None)},
        problems=(*_READ, 404),
    ),
    ("POST", "/admin/revocations"): Operation(
        name="revoke",
        tag="administration",
        summary="Revoke a subject or a token, and end its streams",
        access="api",
        body=bodies.RevocationBody,
        examples={"subject": {"subject": "bob"}, "token": {"jti": "7c9e6679"}},
        success={201: Success(description="Revoked.", body=bodies.RevocationAnswer)},
        problems=_WRITE,
    ),
    ("GET", "/admin/stats"): Operation(
        name="readStats",
        tag="administration",
        summary="Read the counters of this hub",
        access="api",
        success={200: Success(description="The counters.", body=bodies.StatsAnswer)},
        problems=_READ,
    ),
    ("GET", "/healthz"): Operation(
        name="checkHealth",
        tag="health",
        summary="Does the process answer?",
        success={200: Success(description="It does.", body=bodies.HealthAnswer)},
        unavailable=False,
    ),
    ("GET", "/readyz"): Operation(
        name="checkReadiness",
        tag="health",
        summary="Do events go through the log and back?",
        success={200: Success(description="They do.", body=bodies.ReadyAnswer)},
    ),
    ("GET", "/metrics"): Operation(
        name="readMetrics",
        tag="health",
        summary="Prometheus metrics",
        success={200: Success(description="The metrics; 404 where they are off.", media="text/plain")},
        problems=(404,),
    ),
    ("GET", "/openapi.json"): Operation(
        name="readDocument",
        tag="health",
        summary="This document",
        success={
            200: Success(description="An OpenAPI 3.1 document.", media="application/json", headers=("ETag",)),
            304: Success(description="As `If-None-Match` has it already.", media=None, headers=("ETag",)),
        },
    ),
}
