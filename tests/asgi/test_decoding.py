"""From a JSON body to a Struct: every fault is named by field, and the answer says what is wanted instead."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseal.asgi import bodies
from sseal.asgi.decoding import MAX_NAME, decode
from sseal.errors import InvalidInput
from sseal.publisher import EventBody

EVENTS: Any = msgspec.json.Decoder(EventBody | list[EventBody])
TICKET: Any = msgspec.json.Decoder(bodies.TicketBody)
LOGIN: Any = msgspec.json.Decoder(bodies.LoginBody)
SESSION: Any = msgspec.json.Decoder(bodies.SessionBody)


def fault(raw: bytes, decoder: Any) -> tuple[str, str]:
    """Return field and problem of a body that is refused."""
    with pytest.raises(InvalidInput) as caught:
        decode(raw, decoder)
    return caught.value.field, caught.value.problem


@pytest.mark.parametrize(
    ("raw", "decoder", "field", "problem"),
    [
        (b"5", EVENTS, "body", "must be a JSON object or an array, not a number"),
        (b"[]", LOGIN, "body", "must be a JSON object, not an array"),
        (b"[5]", EVENTS, "[0]", "must be a JSON object, not a number"),
        (b'{"topic":"a"}', EVENTS, "data", "is missing"),
        (b'[{"data":1},{"topic":"a"}]', EVENTS, "[1].data", "is missing"),
        (b'{"data":1,"topics":["a",true]}', EVENTS, "topics[1]", "must be a string, not a boolean"),
        (b'{"data":1,"topics":null}', EVENTS, "topics", "must be an array, not null"),
        (b'{"data":1,"ttl":"5"}', EVENTS, "ttl", "must be a number, not a string"),
        (b'{"data":1,"retry":1.5}', EVENTS, "retry", "must be a whole number, not a number"),
        (b'{"data":1,"ttl":1e999}', EVENTS, "ttl", "is a number out of range"),
        (b'{"username":"","password":"x"}', LOGIN, "username", "must be a string that is not empty"),
        (b'{"user":"x"}', LOGIN, "user", "is not a field; known are password, username"),
        (b'{"x":1}', SESSION, "x", "is not a field; none is known here"),
        (b'[{"data":1,"Data":1}]', EVENTS, "[0].Data", "is not a field; known are data, event, key, retry, topic,"),
        (b'{"grants":{"admin":true}}', TICKET, "grants.admin", "is not a field; known are publish, subscribe"),
        (b'{"grants":{"publish":[1]}}', TICKET, "grants.publish[0]", "must be a string, not a number"),
        (b'{"grants":5}', TICKET, "grants", "must be a JSON object, not a number"),
        (b'{"user":"x"', LOGIN, "body", "is not JSON: "),
        (b'{"user":"\xff"}', LOGIN, "body", "is not JSON: "),
        (b'{"user":NaN}', LOGIN, "body", "is not JSON: "),
        (b'{"user":' + b"[" * 100_000, LOGIN, "body", "is not JSON: "),
    ],
)
def test_a_fault_is_named_with_its_remedy(raw: bytes, decoder: Any, field: str, problem: str) -> None:
    """Field, fault and what is wanted; a body that is no JSON is that before anything else."""
    found = fault(raw, decoder)
    assert found[0] == field
    assert found[1].startswith(problem)


@pytest.mark.parametrize("name", ["a` - at `$.x", "` - at `$", "`", "", " - at `$[0].topics", "\n", "a.b[0]"])
def test_a_name_that_looks_like_a_place_is_refused_all_the_same(name: str) -> None:
    """Whoever writes our own messages into a field's name gets a refusal, not a crash."""
    for decoder in (EVENTS, TICKET, SESSION):
        assert "is not a field" in fault(msgspec.json.encode({name: 1}), decoder)[1]


def test_a_long_name_is_not_repeated_at_length() -> None:
    """What was wrong is named, not echoed: a name of a MiB comes back shortened."""
    field, _ = fault(msgspec.json.encode({"x" * 2**20: 1}), LOGIN)
    assert len(field) <= MAX_NAME + 3


@given(st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
def test_law_any_bytes_are_a_struct_or_a_named_fault(raw: bytes) -> None:
    """Whatever is sent, there is a value or a refusal of sseal's own."""
    for decoder in (EVENTS, TICKET, LOGIN, SESSION):
        try:
            decode(raw, decoder)
        except InvalidInput as error:
            assert error.problem  # noqa: PT017 - either outcome is fine
