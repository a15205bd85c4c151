"""The JSON bodies of the HTTP interface, one Struct each: what decodes and encodes them, and what documents them.

A field of a request that is left out is ``UNSET``, which is not the same as ``null``. What a Struct cannot say (either
of two fields, a topic's form) is checked where it is used. `EventBody`, of ``POST /events``, is in
`sseal.publisher.publications`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from ..publisher import TopicText

__all__ = [
    "ConnectionsAnswer",
    "GrantsBody",
    "HealthAnswer",
    "LoginBody",
    "NotificationAnswer",
    "NotificationBody",
    "ProblemAnswer",
    "PublishAnswer",
    "ReadyAnswer",
    "RefreshAnswer",
    "RefreshBody",
    "RevocationAnswer",
    "RevocationBody",
    "SessionAnswer",
    "SessionBody",
    "StatsAnswer",
    "StreamAnswer",
    "TicketAnswer",
    "TicketBody",
]

Text = Annotated[str, Meta(min_length=1)]
Patterns = Annotated[list[TopicText], Meta(description="Topics or patterns: `*` is one segment, a final `**` more.")]
Seconds = Annotated[float, Meta(description="Seconds since 1970.")]
Position = Annotated[str, Meta(description="A position, which is also the event's id.", examples=["k3v9x0aa-42"])]


# -- requests -----------------------------------------------------------------------------------------------


class GrantsBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a subject may read and publish to."""

    subscribe: Patterns = []
    publish: Patterns = []


class TicketBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a ticket is for. Every field is optional, and so is the body."""

    topics: (
        Annotated[list[TopicText], Meta(description="What the ticket is for; without it the subject's own topic.")]
        | UnsetType
    ) = UNSET
    token: (
        Annotated[Text, Meta(description="A JWT, when neither a bearer token nor a cookie is there.")] | UnsetType
    ) = UNSET
    subject: (
        Annotated[Text, Meta(description="Whose ticket this is. Needs the admin grant.", examples=["alice"])]
        | UnsetType
    ) = UNSET
    grants: GrantsBody | UnsetType | None = UNSET


class LoginBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """Name and password of an account."""

    username: Annotated[Text, Meta(examples=["alice"])]
    password: Annotated[Text, Meta(examples=["correct horse battery"])]


class SessionBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """Nothing: the credential is the bearer token."""


class RefreshBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """The stream to extend."""

    connection: Annotated[
        Text, Meta(description="From the stream's `auth` event.", examples=["hub0node.abcdefghijklmnop"])
    ]


class NotificationBody(Struct, forbid_unknown_fields=True, kw_only=True, rename={"target": "targetUserId"}):
    """A message for one subject."""

    target: Annotated[Text, Meta(examples=["bob"])]
    message: Annotated[object, Meta(description="Any JSON.", examples=["lunch?"])]
    type: Annotated[Text, Meta(description="The event type.", examples=["chat"])] = "notification"


class RevocationBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """What to revoke: a subject, of one issuer or of all, or one token. Send either `subject` or `jti`."""

    subject: Annotated[Text, Meta(examples=["alice"])] | UnsetType = UNSET
    issuer: Annotated[Text, Meta(description="Goes with a subject only.")] | UnsetType = UNSET
    jti: Annotated[Text, Meta(description="The id of a token, its claim `jti`.")] | UnsetType = UNSET


# -- answers ------------------------------------------------------------------------------------------------


class ProblemAnswer(Struct, kw_only=True):
    """A refusal (RFC 9457). `code` is stable, `title` the phrase of the status; `detail`, for people, may change."""

    type: Annotated[str, Meta(examples=["about:blank"])] = "about:blank"
    title: Annotated[str, Meta(examples=["Bad Request"])]
    status: Annotated[int, Meta(ge=400, le=599, examples=[400])]
    detail: Annotated[str, Meta(examples=["topic: send either topic or topics"])]
    code: Annotated[str, Meta(pattern="^[a-z_]+$", examples=["invalid_request"])]
    field: Annotated[str, Meta(description="What is malformed.", examples=["topic"])] | UnsetType = UNSET
    refused: Annotated[list[str], Meta(description="The topics that are not granted.")] | UnsetType = UNSET


class TicketAnswer(Struct, kw_only=True, rename={"session_id": "sessionId"}):
    """A one-time ticket for one stream."""

    ticket: Annotated[str, Meta(examples=["abcdefghijklmnopqrstuvwxyz"])]
    session_id: Annotated[str, Meta(description="The ticket, by a name that other hubs use.")]
    url: Annotated[
        str,
        Meta(
            description="Where to open the stream: below `public_url` where that is set, else a path of this host.",
            examples=["https://hub.example/events?ticket=abcdefghijklmnopqrstuvwxyz"],
        ),
    ]
    expires_in: Annotated[float, Meta(description="Seconds until an unused ticket is void.", examples=[30.0])]


class SessionAnswer(Struct, kw_only=True):
    """Who the new session cookie stands for, and until when."""

    subject: Annotated[str, Meta(examples=["alice"])]
    expires_at: Seconds


class RefreshAnswer(Struct, kw_only=True):
    """When the stream ends now; `null` for one that does not end by itself."""

    expires_at: Seconds | None


class PublishAnswer(Struct, kw_only=True):
    """The ids of the events, in the order they were sent in."""

    ids: list[Position]


class NotificationAnswer(Struct, kw_only=True):
    """The message was published."""

    success: Literal[True] = True
    id: Position


class StreamAnswer(Struct, kw_only=True):
    """One open stream."""

    id: str
    subject: str | None
    issuer: str
    auth_method: Annotated[str, Meta(description="How its identity was proven.", examples=["bearer"])] = field(
        name="way"
    )
    topics: list[str]
    state: str
    direct: Annotated[bool, Meta(description="Whether the hub writes to the socket itself.")]
    position: Annotated[int, Meta(description="Offset of the last event written.")]
    delivered: Annotated[int, Meta(description="Events written.")]
    buffered: Annotated[int, Meta(description="Bytes not yet taken by the network.")]
    address: str
    seconds: Annotated[float, Meta(description="How long it has been open.")]
    expires_at: Seconds | None


class ConnectionsAnswer(Struct, kw_only=True):
    """A page of the open streams of all hubs, by id."""

    connections: list[StreamAnswer]
    more: Annotated[bool, Meta(description="Whether to go on with `after` and the last id.")]
    silent: Annotated[list[str], Meta(description="Hubs that did not answer within a second.")]


class RevocationAnswer(Struct, kw_only=True):
    """What a revocation did."""

    ended: Annotated[int, Meta(description="Streams that ended.")]
    expires_at: Annotated[float, Meta(description="When the revocation is forgotten, in seconds since 1970.")]


class StatsAnswer(Struct, kw_only=True):
    """The counters of one hub since its start."""

    node: str
    position: Position
    streams: int
    topics: int
    published: int
    delivered: int
    writes: int
    gaps: int
    history_reads: int
    connects: Annotated[dict[str, int], Meta(description="By auth method.")]
    refused: Annotated[dict[str, int], Meta(description="By code.")]
    closed: Annotated[dict[str, int], Meta(description="By reason.")]
    revocations: int
    audit: Annotated[dict[str, int], Meta(description="Security events, by name.")]
    credentials_refused: Annotated[dict[str, int], Meta(description="By reason.")]


class HealthAnswer(Struct, kw_only=True):
    """The process answers."""

    status: Literal["ok"] = "ok"


class ReadyAnswer(Struct, kw_only=True):
    """An event went through the log and back."""

    status: Literal["ready"] = "ready"
    canary_seconds: float
    streams: int
