"""One HTTP request as the endpoints see it: headers, query, where it came from, its JSON body."""

from __future__ import annotations

from typing import Final, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.types import Receive, Scope

from ..auth.credential import LastEventId
from ..auth.origin import Caller, normal_origin
from ..errors import InvalidInput, TooLarge, UnsupportedMediaType
from .decoding import decode

__all__ = ["Ask", "ClientGone"]

T = TypeVar("T")

MAX_QUERY_FIELDS: Final = 256
"""Fields of a query string: 64 topics and a handful of others, with room."""
STREAM_TYPE: Final = "text/event-stream"


class ClientGone(Exception):  # noqa: N818 - an event, not a fault
    """The client left before its request was complete."""


class Ask:
    """A request. Reading it twice gives the same answer; nothing is decoded before it is asked for.

    :raises InvalidInput: a query string that is not UTF-8 or has too many fields.
    """

    __slots__ = ("_fields", "caller", "headers", "query", "scope")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.query = _parse_query(scope.get("query_string", b""))
        self._fields: dict[bytes, bytes] = {}
        for name, value in self.headers:
            self._fields.setdefault(name, value)
        origin = self.header(b"origin")
        self.caller = Caller(
            origin=origin,
            own=None if origin is None else self.own_origin,
            fetch_site=self.header(b"sec-fetch-site"),
        )

    @property
    def own_origin(self) -> str | None:
        """The origin this request was sent to, from scheme and Host; None if Host is missing or no host."""
        return _own_origin(self.scope.get("scheme", "http"), self.header(b"host"))

    def header(self, name: bytes) -> str | None:
        """Return the first header of that (lower-case) name, None if absent."""
        value = self._fields.get(name)
        return None if value is None else value.decode("latin-1").strip()

    def values(self, name: str) -> list[str]:
        """Return every value of a query field, in order."""
        return [value for key, value in self.query if key == name] if self.query else []

    def single(self, name: str) -> str | None:
        """Return the value of a query field that may stand once.

        :raises InvalidInput: it stands twice.
        """
        values = self.values(name)
        if len(values) > 1:
            raise InvalidInput(name, "stands twice; send it once")
        return values[0] if values else None

    def flag(self, name: str) -> bool:
        """Return whether a query field is ``1``; absent and ``0`` are no.

        :raises InvalidInput: it is anything else.
        """
        value = self.single(name)
        if value not in (None, "0", "1"):
            raise InvalidInput(name, f"must be 0 or 1, not {value!r}")
        return value == "1"

    @property
    def address(self) -> str:
        """The client's address, empty when the server does not say."""
        client = self.scope.get("client")
        return client[0] if client else ""

    @property
    def has_cookie(self) -> bool:
        """Whether the browser sent any cookie."""
        return self.header(b"cookie") is not None

    @property
    def native(self) -> bool:
        """Whether this may be a native EventSource, which any status but 200 ends for good (W35)."""
        return self.header(b"accept") == STREAM_TYPE and self.header(b"authorization") is None

    @property
    def opens_stream(self) -> bool:
        """Whether this is a script asking for a stream, not a navigation, an image or a scanner (W22)."""
        accepts = [part.split(";")[0].strip() for part in (self.header(b"accept") or "").split(",")]
        mode = self.header(b"sec-fetch-mode")
        return self.scope["method"] == "GET" and STREAM_TYPE in accepts and mode not in ("navigate", "no-cors")

    @property
    def has_body(self) -> bool:
        """Whether a body was announced."""
        length = self.header(b"content-length")
        return self.header(b"transfer-encoding") is not None or length not in (None, "0")

    def last_event_id(self) -> LastEventId | None:
        """Return what the client says it has seen; the header wins over the query, which ages (W38).

        :raises InvalidInput: a resume token in the query, where it would be logged and re-sent for ever.
        """
        query = self.single("last_event_id")
        if query is not None and LastEventId.parse(query).token is not None:
            raise InvalidInput("last_event_id", "a resume token belongs in the Last-Event-ID header only")
        for key, value in self.headers:
            if key == b"last-event-id":
                return LastEventId.parse(value.decode("latin-1").strip())
        return None if query is None else LastEventId.parse(query)

    async def body(
        self, receive: Receive, decoder: msgspec.json.Decoder[T], *, limit: int, absent: T | None = None
    ) -> T:
        """Read and decode the body.

        :param decoder: of the Struct it is to be.
        :param absent: what to return when there is no body; None: there must be one.
        :raises UnsupportedMediaType: not ``application/json``, which a cross-site form cannot send (W12).
        :raises TooLarge: over ``limit`` bytes.
        :raises InvalidInput: not JSON, or of another shape; names the place.
        :raises ClientGone: the client left.
        """
        length = self.header(b"content-length")
        if length is not None and length.isdecimal() and int(length) > limit:
            raise TooLarge("body", f"is {length} bytes, at most {limit} are allowed")
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            body += message.get("body", b"")
            if len(body) > limit:
                raise TooLarge("body", f"is over {limit} bytes")
            if not message.get("more_body", False):
                break
        if absent is not None and not body:
            return absent
        media = (self.header(b"content-type") or "").split(";")[0].strip().lower()
        if media != "application/json":
            raise UnsupportedMediaType("Content-Type", f"must be application/json, not {media or 'absent'}")
        return decode(body, decoder)


def _parse_query(raw: bytes) -> list[tuple[str, str]]:
    """Decode a query string strictly (WHATWG URL section 5.1), so that what is checked is what was sent."""
    pairs = []
    for part in raw.split(b"&") if raw else ():
        if not part:
            continue
        name, _, value = part.partition(b"=")
        try:
            pairs.append((_decode(name), _decode(value)))
        except UnicodeDecodeError:
            raise InvalidInput("query", "is not UTF-8") from None
    if len(pairs) > MAX_QUERY_FIELDS:
        raise InvalidInput("query", f"has {len(pairs)} fields, at most {MAX_QUERY_FIELDS} are allowed")
    return pairs


def _decode(raw: bytes) -> str:
    return unquote_to_bytes(raw.replace(b"+", b" ")).decode()


def _own_origin(scheme: str, host: str | None) -> str | None:
    if not host:
        return None
    try:
        return normal_origin(f"{scheme}://{host}")
    except InvalidInput:
        return None
