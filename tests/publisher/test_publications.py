"""From what an application says to a draft: valid, encoded, within the limits."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseal.asgi.decoding import decode
from sseal.errors import Forbidden, InvalidInput, TooLarge
from sseal.limits import Limits
from sseal.publisher import EventBody, body_to_publication, publication

LIMITS = Limits()
EVENT = msgspec.json.Decoder(EventBody)
DEEP: Any = []
for _ in range(100_000):
    DEEP = [DEEP]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def make(body: Any, *, admin: bool = False, scope: str = "alice") -> Any:
    """Read one JSON body."""
    event = decode(msgspec.json.encode(body), EVENT)
    return body_to_publication(event, scope=("iss", scope), admin=admin, limits=LIMITS)


@pytest.mark.parametrize(
    ("data", "text"),
    [("hello", "hello"), ("", ""), ({"a": [1]}, '{"a":[1]}'), (None, "null"), (5, "5"), (False, "false"), ([], "[]")],
)
def test_text_is_sent_as_it_is_and_anything_else_as_json(data: Any, text: str) -> None:
    """A reader gets the string that was published, or JSON."""
    assert publication("a", data, limits=LIMITS).data == text


@pytest.mark.parametrize("event", ["auth", "gap", "bye", "open", "error"])
def test_a_reserved_type_is_refused(event: str) -> None:
    """A publisher can neither speak as the hub nor fire a page's onerror (W18)."""
    with pytest.raises(InvalidInput, match="reserved") as caught:
        publication("a", "x", event=event, limits=LIMITS)
    assert caught.value.field == "event"


@pytest.mark.parametrize("topic", ["$sseal", "$sseal/canary", "$sseal/a/b"])
def test_the_hubs_own_topics_are_reserved(topic: str) -> None:
    """Nobody publishes where the canary flies."""
    for topics in (topic, ["a", topic]):
        with pytest.raises(InvalidInput, match="reserved"):
            publication(topics, "x", limits=LIMITS)


def test_a_topic_that_only_looks_reserved_is_free() -> None:
    """The reserved root is one whole segment."""
    assert publication(["$ssealed", "a/$sseal"], "x", limits=LIMITS).topics == ("$ssealed", "a/$sseal")


def test_several_topics_are_one_draft() -> None:
    """One event, its topics in order and each once (W27)."""
    assert publication(["b", "a", "b"], "x", limits=LIMITS).topics == ("b", "a")


def test_the_key_is_scoped_and_bound_to_the_content() -> None:
    """The same key of two publishers, or with other content, is another claim (W20)."""
    body = {"topics": ["a", "b"], "data": {"x": 1}, "key": "k"}
    one = make(body).key
    assert one == make(dict(body)).key
    assert one != make(body, scope="bob").key
    for change in ({"data": {"x": 2}}, {"topics": ["a"]}, {"event": "other"}):
        changed = make({**body, **change}).key
        assert (changed.scope, changed.key) == (one.scope, one.key)
        assert changed.digest != one.digest


def test_the_digest_cannot_be_confused_by_moving_text() -> None:
    """Topics, type and data are separated in the digest, so text cannot wander between them (W20)."""
    digests = {
        publication(topics, data, event=event, key="k", limits=LIMITS).key.digest  # type: ignore[union-attr]
        for topics, event, data in [("a", "bc", "d"), ("a", "b", "cd"), ("ab", "c", "d"), (["a", "b"], "c", "d")]
    }
    assert len(digests) == 4


def test_only_an_admin_sets_the_reconnection_time() -> None:
    """Any publisher could otherwise send all readers home for 24 days (W19)."""
    body = {"topic": "a", "data": "x", "retry": 1000}
    with pytest.raises(Forbidden) as caught:
        make(body)
    assert caught.value.code == "admin_required"
    assert make(body, admin=True).retry == 1000
    assert make({**body, "retry": None}).retry is None


@pytest.mark.parametrize("retry", [499, 60_001, 2_147_483_647, -1, 0, True, 1000.0, "1000"])
def test_the_reconnection_time_has_bounds_for_an_admin_too(retry: Any) -> None:
    """From half a second to a minute (W19)."""
    with pytest.raises(InvalidInput) as caught:
        make({"topic": "a", "data": "x", "retry": retry}, admin=True)
    assert caught.value.field == "retry"


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), True, "5", LIMITS.ttl + 1, 10**400])
def test_a_ttl_is_a_span_of_time(ttl: Any) -> None:
    """What is no positive number of seconds within the limit is refused."""
    with pytest.raises(InvalidInput) as caught:
        publication("a", "x", ttl=ttl, limits=LIMITS)
    assert caught.value.field == "ttl"


@pytest.mark.parametrize("data", ["\ud800", {"a": "\ud800"}, {1, object()}, {1: object()}, DEEP])
def test_what_cannot_be_written_is_refused(data: Any) -> None:
    """Data without a JSON or UTF-8 form is the caller's mistake, named, and not a crash."""
    with pytest.raises(InvalidInput) as caught:
        publication("a", data, limits=LIMITS)
    assert caught.value.field == "data"


def test_the_size_of_the_data_counts_in_bytes() -> None:
    """The limit is what goes over the wire, not characters, and is inclusive."""
    limits = Limits(data=10)
    assert publication("a", "é" * 5, limits=limits)
    with pytest.raises(TooLarge) as caught:
        publication("a", "é" * 5 + "x", limits=limits)
    assert caught.value.field == "data"


@pytest.mark.parametrize("event", ["", "a\nb", "a\rb", "a\0b", "\ud800", "x" * 129, None, 5])
def test_a_type_is_one_line(event: Any) -> None:
    """CR, LF and NUL in a type are refused, never repaired: they would forge events."""
    with pytest.raises(InvalidInput) as caught:
        publication("a", "x", event=event, limits=LIMITS)
    assert caught.value.field == "event"


@pytest.mark.parametrize("body", [None, 5, "x", True, [], [{}]])
def test_a_body_is_an_object(body: Any) -> None:
    """Anything else is refused."""
    with pytest.raises(InvalidInput) as caught:
        make(body)
    assert caught.value.field == "body"


@given(st.dictionaries(st.sampled_from(["topic", "topics", "data", "event", "ttl", "key", "retry", "foo"]), JSON))
def test_law_any_json_makes_a_draft_or_names_a_field(body: dict[str, Any]) -> None:
    """Whatever is sent, the answer is a valid draft or a refusal of sseal's own."""
    try:
        made = make(body, admin=True)
    except InvalidInput as error:
        field = error.field.split("[")[0]
    else:
        field = "data"
        assert made.topics
        assert made.data.encode()
    assert field in {*body, "topic", "data"}
