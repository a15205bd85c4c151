"""Anything at every parser that reads what a client sent: a value, or a refusal of sseal's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st

from sseal import wire
from sseal.asgi import bodies
from sseal.asgi.decoding import decode
from sseal.asgi.node_commands import node_of
from sseal.asgi.requests import HubRequest
from sseal.auth.credential import AUTH_METHODS, CredentialPolicy
from sseal.auth.jwt import JwtVerifier
from sseal.auth.last_event_id import LastEventId
from sseal.auth.origin import Caller, OriginPolicy, is_loopback, normal_origin
from sseal.errors import SsealError
from sseal.position import Position
from sseal.publisher import EventBody
from sseal.telemetry.redaction import redact
from sseal.topics import Pattern, check_topic, literal

from .conftest import SHARES, Fuzz
from .hostile import POSITIONS, TICKETS, TOKENS
from .target import SECRET

VERIFIER = JwtVerifier(secrets=[SECRET])
POLICY = CredentialPolicy(auth_methods=frozenset(AUTH_METHODS), session_cookie="sseal-dev", jwt_cookie="app_jwt")
ORIGINS = OriginPolicy(["https://app.example"])
EVENTS: Any = msgspec.json.Decoder(EventBody | list[EventBody])
TEXT = st.text(max_size=300)
BYTES = st.binary(max_size=300)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"authorization", b"cookie", b"origin", b"host", b"accept", b"last-event-id", b"x"]),
        st.one_of(BYTES, TOKENS.map(lambda text: b"Bearer " + text.encode("utf-8", "replace"))),
    ),
    max_size=6,
)


def ask(given: tuple[list[tuple[bytes, bytes]], bytes, str]) -> None:
    """Read a request as the endpoints do."""
    headers, query, scheme = given
    made = HubRequest({"type": "http", "method": "GET", "scheme": scheme, "headers": headers, "query_string": query})
    for read in (made.last_event_id, lambda: made.flag("envelope"), lambda: made.single("topic")):
        with_refusal(read)
    assert made.outlives_refusals in (True, False)
    assert made.opens_stream in (True, False)
    assert made.has_body in (True, False)
    with_refusal(lambda: POLICY.find(frozenset(AUTH_METHODS), made.raw_headers, made.query))
    for allowed in (ORIGINS.allows_cookie, ORIGINS.allows_explicit):
        assert allowed(made.caller) in (True, False)


def with_refusal(read: Callable[[], object]) -> None:
    """Call; a refusal of sseal's own is fine."""
    try:
        read()
    except SsealError as error:
        refusal = error
    else:
        return
    assert 400 <= refusal.status < 500, refusal
    assert str(refusal)


def body(raw: bytes) -> None:
    """Decode a body as each endpoint does."""
    shapes = (bodies.TicketBody, bodies.LoginBody, bodies.NotificationBody, bodies.RevocationBody)
    for decoder in (EVENTS, *(msgspec.json.Decoder(shape) for shape in shapes)):
        with_refusal(lambda decoder=decoder: decode(raw, decoder))  # type: ignore[misc]


def caller(given: tuple[str, str]) -> None:
    """Ask every question about where a request came from."""
    origin, own = given
    made = Caller(origin=origin, own=own, fetch_site=None)
    for known in (ORIGINS.known, ORIGINS.allows_cookie, lambda each: ORIGINS.allows_ticket(each, own)):
        assert known(made) in (True, False)


def stream(given: tuple[bytes, int]) -> None:
    """Decode an event stream in two pieces, wherever it is cut."""
    raw, cut = given
    decoder = wire.Decoder()
    for piece in (raw[:cut], raw[cut:]):
        for event in decoder.feed(piece):
            assert "\n" not in event.type


def verify(text: str) -> None:
    """Verify a token: none but the good one passes."""
    with_refusal(lambda: VERIFIER.verify(text, 4e9))


PARSERS: dict[str, tuple[Callable[[Any], None], st.SearchStrategy[Any]]] = {
    "request": (
        lambda given: with_refusal(lambda: ask(given)),
        st.tuples(HEADERS, BYTES, st.sampled_from(["http", "https", "x"])),
    ),
    "token": (verify, TOKENS | TEXT),
    "last event id": (lambda text: with_refusal(lambda: LastEventId.parse(text)), POSITIONS | TEXT),
    "position": (lambda text: with_refusal(lambda: Position.parse(text)), POSITIONS | TEXT),
    "stream id": (lambda text: with_refusal(lambda: node_of(text)), TICKETS | TEXT),
    "topic": (lambda text: with_refusal(lambda: check_topic(text)), TEXT),
    "pattern": (lambda text: with_refusal(lambda: Pattern.parse(text)), TEXT | st.text("*/{}sub", max_size=40)),
    "literal": (lambda text: with_refusal(lambda: check_topic(literal(text))), TEXT),
    "origin": (lambda text: with_refusal(lambda: normal_origin(text)), TEXT | st.text("htps:/[]@.*", max_size=30)),
    "loopback": (lambda text: with_refusal(lambda: is_loopback(text)), TEXT),
    "caller": (caller, st.tuples(TEXT, TEXT)),
    "body": (body, BYTES | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass"))),
    "event stream": (stream, st.tuples(BYTES, st.integers(0, 300))),
    "log line": (lambda text: with_refusal(lambda: redact(text)), TEXT | TOKENS | TICKETS),
}


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_returns_or_refuses(fuzz: Fuzz, name: str) -> None:
    """No input makes a parser raise anything but a refusal the client may be told of."""
    attack, examples = PARSERS[name]
    count = fuzz.run(attack, examples, fuzz.share("parsers") / len(PARSERS))
    fuzz.say(f"{name}: {count} examples")
    assert count > 0


def test_a_good_token_is_no_refusal() -> None:
    """The tokens thrown are cut from one that would pass, so that what is tried is close to it."""
    from .target import token

    assert VERIFIER.verify(token(exp=5_000_000_000), 4e9).subject == "root"


def test_the_shares_are_a_whole() -> None:
    """What the parts of the fuzzing take together is the time it was given."""
    assert sum(SHARES.values()) == pytest.approx(1.0)
