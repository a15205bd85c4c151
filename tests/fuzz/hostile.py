"""What is thrown: requests that are right but for one or several things, and bytes that never were a request."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

from hypothesis import strategies as st

from .target import token

__all__ = ["POSITIONS", "TICKETS", "TOKENS", "complete", "raw"]

_GOOD = token()
_HEADER, _PAYLOAD, _SIGNATURE = _GOOD.split(".")
_TEXT = st.text(max_size=40)
_BYTES = st.binary(max_size=60)
_LATIN = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60)

_HEADERS = st.sampled_from([_HEADER, "", "e30", "eyJhbGciOiJub25lIn0", "eyJhbGciOiJIUzI1NiIsImNyaXQiOlsiYiJdfQ", "="])
TOKENS = st.one_of(
    st.just(_GOOD),
    st.builds(lambda head, body, tail: f"{head}.{body}.{tail}", _HEADERS, st.just(_PAYLOAD) | _LATIN, _LATIN),
    st.builds(lambda at, char: _GOOD[:at] + char + _GOOD[at + 1 :], st.integers(0, len(_GOOD)), st.characters()),
    st.builds(lambda count: ".".join([_PAYLOAD] * count), st.integers(0, 9)),
    st.builds(lambda count: f"{_HEADER}.{'A' * count}.{_SIGNATURE}", st.integers(0, 9000)),
    _LATIN,
)
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
TICKETS = st.one_of(
    st.text(_ALPHABET, min_size=26, max_size=26),
    st.text(_ALPHABET + "_-.%/01", max_size=60),
    st.builds(lambda count: "a" * count, st.integers(0, 6000)),
    _TEXT,
)
_EPOCHS = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=8, max_size=8)
POSITIONS = st.one_of(
    st.builds(lambda epoch, offset: f"{epoch}-{offset}", _EPOCHS, st.integers(-1, 10**18)),
    st.builds(
        lambda secret, epoch, offset: f"{secret}_{epoch}-{offset}",
        st.text(_ALPHABET, min_size=26, max_size=26),
        _EPOCHS,
        st.integers(0, 10**16),
    ),
    st.sampled_from(["earliest", "0", "-", "_", "a-0", "aaaaaaaa-00000000000000000001", "aaaaaaaa-٣", ""]),
    _LATIN,
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=True) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)
_FIELDS = st.sampled_from(
    [
        *("topic", "topics", "data", "event", "ttl", "key", "retry"),
        *("token", "subject", "grants", "username", "password", "connection", "issuer", "jti"),
        *("targetUserId", "message", "type"),
    ]
)
_OBJECTS = st.dictionaries(_FIELDS, _JSON | st.sampled_from(["a", "user/root", ["a"], 1]), max_size=5)
_BODIES = st.one_of(
    st.builds(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"), _OBJECTS | st.lists(_OBJECTS) | _JSON),
    st.builds(
        lambda topic, data: json.dumps({"topic": topic, "data": data}).encode(), st.sampled_from(["a", "user/b"]), _TEXT
    ),
    st.builds(lambda depth, char: char * depth, st.integers(0, 5000), st.sampled_from([b"[", b'{"a":', b'"', b"1"])),
    _BYTES,
)

_PLACES = st.sampled_from(
    [
        *(("GET", path) for path in ("/events", "/events/", "/events/{}", "/admin/connections", "/admin/stats")),
        *(("GET", path) for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/{}", "//events", "*", "/")),
        *(("POST", path) for path in ("/events", "/notifications", "/auth/sse", "/auth/login", "/auth/session")),
        *(("POST", path) for path in ("/auth/refresh", "/admin/revocations", "/events/../admin/stats")),
        *(("DELETE", path) for path in ("/auth/session", "/admin/connections/{}")),
    ]
)
_PARAMETERS = [
    *("topic", "last_event_id", "lastEventId", "subject", "anonymous", "envelope", "ticket", "token"),
    *("after", "x", "", "%ff", "+"),
]
_QUERIES = st.lists(
    st.tuples(
        st.sampled_from(_PARAMETERS),
        st.one_of(
            st.sampled_from(["1", "0", "a", "public/a", "user/root", "**", "%", "%zz", "%ff", "&", "a=b", "%00"]),
            TOKENS.map(lambda text: quote(text, errors="surrogatepass")),
            TICKETS.map(lambda text: quote(text, errors="surrogatepass")),
            POSITIONS.map(lambda text: quote(text, errors="surrogatepass")),
            _TEXT.map(lambda text: quote(text, errors="surrogatepass")),
        ),
    ),
    max_size=5,
).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs))
_FITTING = st.sampled_from(
    [
        ("GET", "/events", b""),
        ("GET", "/events?topic=public/a&anonymous=1", b""),
        ("POST", "/events", b'{"topic":"user/root","data":1}'),
        ("POST", "/events", b'[{"topic":"a","data":"x","key":"k"},{"topics":["a","b"],"data":{}}]'),
        ("POST", "/notifications", b'{"targetUserId":"root","message":1}'),
        ("POST", "/auth/sse", b'{"topics":["a"]}'),
        ("POST", "/auth/sse", b'{"subject":"bob","topics":["a"]}'),
        ("POST", "/auth/session", b""),
        ("POST", "/auth/refresh", b'{"connection":"aaaaaaaa.aaaaaaaaaaaaaaaa"}'),
        ("POST", "/admin/revocations", b'{"jti":"x"}'),
        ("GET", "/admin/connections", b""),
    ]
)
_METHODS = st.sampled_from(["GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH", "TRACE"])

_FOREIGN = st.one_of(
    st.tuples(st.just("Authorization"), TOKENS.map(lambda text: f"Bearer {text}") | _LATIN),
    st.tuples(st.just("Last-Event-ID"), POSITIONS),
    st.tuples(st.just("Cookie"), TOKENS.map(lambda text: f"app_jwt={text}") | _LATIN.map(lambda t: f"sseal-dev={t}")),
    st.tuples(st.just("Accept"), st.sampled_from(["text/event-stream", "*/*", "application/problem+json"]) | _LATIN),
    st.tuples(st.just("Content-Type"), st.sampled_from(["application/json", "text/plain", "application/json;a"])),
    st.tuples(st.just("Origin"), st.sampled_from(["null", "https://app.example", "http://[", "*", "http://a:99999"])),
    st.tuples(st.just("Sec-Fetch-Site"), st.sampled_from(["same-origin", "cross-site", "none", "x"])),
    st.tuples(st.just("Sec-Fetch-Mode"), st.sampled_from(["navigate", "cors", "no-cors"])),
    st.tuples(st.just("X-Forwarded-For"), _LATIN | st.just("::1, 10.0.0.1")),
    st.tuples(st.just("X-Forwarded-Proto"), st.sampled_from(["https", "wss", "x"]) | _LATIN),
    st.tuples(st.just("If-None-Match"), _LATIN),
    st.tuples(st.from_regex(r"[A-Za-z-]{1,20}", fullmatch=True), _LATIN),
)


def _latin(text: str) -> bytes:
    """Return a header's bytes: text beyond latin-1 as UTF-8, which is what clients do; no line ends in it."""
    return _CONTROL.sub(b"?", text.encode("utf-8", "surrogatepass"))


_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


@st.composite
def complete(draw: st.DrawFn) -> bytes:
    """Return a request whose end is clear, so that it has to be answered: hostile in all but its framing."""
    if draw(st.booleans()):
        method, target, body = draw(_FITTING)
        if not draw(st.integers(0, 3)):
            body = draw(_BODIES)
    else:
        method, target = draw(_PLACES)
        method = method if draw(st.integers(0, 7)) else draw(_METHODS)
        body = draw(_BODIES) if method == "POST" or not draw(st.integers(0, 7)) else b""
        target = target.replace("{}", draw(TICKETS.map(lambda text: quote(text, safe="", errors="surrogatepass"))))
        if query := draw(_QUERIES):
            target += f"?{query}"
    headers = draw(st.lists(_FOREIGN, max_size=4))
    if draw(st.integers(0, 3)):
        headers.append(("Authorization", f"Bearer {_GOOD}"))
    if body and draw(st.integers(0, 3)):
        headers.append(("Content-Type", "application/json"))
    lines = [f"{method} {target} HTTP/1.1".encode(), b"Host: localhost"]
    lines += [f"{name}: ".encode() + _latin(value) for name, value in headers if name.lower() not in _FRAMING]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", b""]) + body


_FRAMING = frozenset(("content-length", "transfer-encoding", "connection", "upgrade", "expect", "host"))


@st.composite
def raw(draw: st.DrawFn) -> bytes:
    """Return bytes that were a request once, and have been cut, doubled, shifted or overwritten; or never were one."""
    if not draw(st.integers(0, 7)):
        return draw(st.binary(max_size=400))
    text = draw(complete())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        piece = draw(st.one_of(st.sampled_from(_PIECES), _BYTES))
        text = draw(
            st.sampled_from([text[:at], text[:at] + piece + text[at:], text[:at] + piece + text[at + len(piece) :]])
        )
    return text * draw(st.sampled_from([1, 1, 1, 2, 5]))


_PIECES = [
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\r\n ", b"\xff", b"HTTP/1.0", b"HTTP/2.0", b"%00"),
    *(b"\r\nTransfer-Encoding: chunked", b"\r\nTransfer-Encoding: gzip, chunked", b"\r\nContent-Length: 5"),
    *(b"\r\nContent-Length: -1", b"\r\nContent-Length: 99999999999999999999", b"\r\nConnection: Upgrade"),
    *(b"\r\nUpgrade: h2c", b"\r\nExpect: 100-continue", b"\r\nHost: b", b"\r\n\r\n0\r\n\r\n", b"\r\n5\r\nabcde\r\n"),
    *(b"\r\nffffffffffffffff\r\n", b"\r\nAuthorization: Bearer x", b"\r\nCookie: a", b"GET / HTTP/1.1\r\n\r\n"),
]
