"""One HTTP request as the endpoints see it: Starlette's, with what this interface asks of it."""

from __future__ import annotations

from typing import Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import ClientDisconnect, Request, empty_receive
from starlette.types import Receive, Scope

from ..auth.last_event_id import LastEventId
from ..auth.origin import Caller, normal_origin
from ..errors import InvalidInput, TooLarge, UnsupportedMediaType
from .decoding import decode

__all__ = ["HubRequest"]

T = TypeVar("T")

MAX_QUERY_FIELDS: Final = 256
"""Fields of a query string: 64 topics and a handful of others, with room."""
STREAM_TYPE: Final = "text/event-stream"
PROBLEM_TYPE: Final = "application/problem+json"
POSITION_FIELDS: Final = ("last_event_id", "lastEventId", "lastEventID")
"""Query fields for a position: ours, and those of two polyfills (W53)."""


class HubRequest(Request):
    """A request. Reading it twice gives the same answer.

    Headers are looked up in a dict that is made once, not in Starlette's `Headers`, which goes through all of them for
    each: of the eight names that opening a stream asks for, that takes 7 µs instead of 1.5.

    :param read_query: whether the query string matters; one that does not is not looked at.
    :raises InvalidInput: a query string that is not UTF-8 or has too many fields.
    """

    def __init__(self, scope: Scope, receive: Receive = empty_receive, *, read_query: bool = True) -> None:
        super().__init__(scope, receive)
        raw = scope["query_string"] if read_query else b""
        self.query = _parse_query(raw) if raw else []  # name and value of each field, in order
        self.raw_headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._first: dict[bytes, bytes] = {}  # the first header of each name
        for name, value in self.raw_headers:
            self._first.setdefault(name, value)

    @property
    def caller(self) -> Caller:
        """What the request says of the page it came from."""
        origin = self.header(b"origin")
        return Caller(
            origin=origin,
            own=None if origin is None else self.own_origin,
            fetch_site=self.header(b"sec-fetch-site"),
        )

    @property
    def own_origin(self) -> str | None:
        """The origin this request was sent to, from scheme and Host; None if Host is missing or no host."""
        host = self.header(b"host")
        try:
            return normal_origin(f"{self.scope.get('scheme', 'http')}://{host}") if host else None
        except InvalidInput:
            return None

    @property
    def root_path(self) -> str:
        """Where the hub is mounted, as far as the server says; empty for the root."""
        path: str = self.scope.get("root_path", "")
        return path

    @property
    def address(self) -> str:
        """The client's address, empty when the server does not say."""
        client = self.scope.get("client")
        return client[0] if client else ""

    def header(self, name: bytes) -> str | None:
        """Return the first header of that (lower-case) name, None if absent."""
        value = self._first.get(name)
        return None if value is None else value.decode("latin-1").strip()

    def getlist(self, name: str) -> list[str]:
        """Return every value of a query field, in order."""
        return [value for key, value in self.query if key == name] if self.query else []

    def single(self, name: str) -> str | None:
        """Return the value of a query field that may stand once.

        :raises InvalidInput: it stands twice.
        """
        values = self.getlist(name)
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
    def has_cookie(self) -> bool:
        """Whether the browser sent any cookie."""
        return self.header(b"cookie") is not None

    @property
    def outlives_refusals(self) -> bool:
        """Whether a refusal for now is told as a stream: EventSource and most libraries give up for good on any status
        but 200 (W35, W52). Who wants a status says that problem documents are accepted, too.
        """
        accepts = self._accepts()
        return STREAM_TYPE in accepts and PROBLEM_TYPE not in accepts

    @property
    def opens_stream(self) -> bool:
        """Whether this is a script asking for a stream, not a navigation, an image or a scanner (W22)."""
        mode = self.header(b"sec-fetch-mode")
        return self.scope["method"] == "GET" and STREAM_TYPE in self._accepts() and mode not in ("navigate", "no-cors")

    def _accepts(self) -> list[str]:
        """Return the media types of ``Accept``, without their parameters."""
        return [part.split(";")[0].strip().lower() for part in (self.header(b"accept") or "").split(",")]

    @property
    def has_body(self) -> bool:
        """Whether a body was announced."""
        length = self.header(b"content-length")
        return self.header(b"transfer-encoding") is not None or length not in (None, "0")

    def last_event_id(self) -> LastEventId | None:
        """Return what the client says it has seen; the header wins over the query, which ages (W38).

        :raises InvalidInput: a resume token in the query, where it would be logged and re-sent for ever.
        """
        named = [name for name in POSITION_FIELDS if self.single(name) is not None]
        if len(named) > 1:
            raise InvalidInput(named[1], f"means the same as {named[0]}; send one of them")
        query = self.single(named[0]) if named else None
        if query is not None and LastEventId.parse(query).token is not None:
            raise InvalidInput(named[0], "a resume token belongs in the Last-Event-ID header only")
        header = self.header(b"last-event-id")
        if header is not None:
            return LastEventId.parse(header)
        return None if query is None else LastEventId.parse(query)

    async def decode_body(self, decoder: msgspec.json.Decoder[T], *, limit: int, absent: T | None = None) -> T:
        """Read the body and decode it, once.

        :param decoder: of the Struct it is to be.
        :param limit: bytes it may have.
        :param absent: what to return when there is no body; None: there must be one.
        :raises UnsupportedMediaType: not ``application/json``, which a cross-site form cannot send (W12).
        :raises TooLarge: over ``limit`` bytes.
        :raises InvalidInput: not JSON, or of another shape; names the place.
        :raises ClientDisconnect: the client left.
        """
        length = self.header(b"content-length")
        if length is not None and length.isdecimal() and int(length) > limit:
            raise TooLarge("body", f"is {length} bytes, at most {limit} are allowed")
        body = bytearray()
        more = True
        while more:  # what `stream` does, whose generator, made and closed for each request, costs a publish 2 %
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            if len(body) > limit:
                raise TooLarge("body", f"is over {limit} bytes")
            more = message.get("more_body", False)
        if absent is not None and not body:
            return absent
        media = (self.header(b"content-type") or "").split(";")[0].strip().lower()
        if media != "application/json":
            raise UnsupportedMediaType("Content-Type", f"must be application/json, not {media or 'absent'}")
        return decode(body, decoder)


def _parse_query(raw: bytes) -> list[tuple[str, str]]:
    """Decode a query string strictly, so that what is checked is what was sent."""
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise InvalidInput("query", "is not UTF-8") from None
    if len(pairs) > MAX_QUERY_FIELDS:  # the server bounds what is parsed: a head is 64 KiB at most
        raise InvalidInput("query", f"has {len(pairs)} fields, at most {MAX_QUERY_FIELDS} are allowed")
    return pairs
