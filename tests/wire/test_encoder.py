"""Frames: what goes out, what is refused, and the shared pieces of the fan-out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseal.errors import InvalidInput
from sseal.wire import (
    FRAME_START,
    HEARTBEAT,
    MAX_RETRY,
    Decoder,
    Event,
    encode,
    envelope_data,
    frame_tail,
    sealed_start,
)

TOKEN = "abcdefghijklmnopqrstuvwxyz"

text = st.text(st.characters(exclude_categories=["Cs"]))
line = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"))
data = text.map(lambda value: value.replace("\r", "\n"))
retries = st.none() | st.integers(0, MAX_RETRY)
events = st.builds(
    Event,
    type=line.filter(bool),
    data=data,
    id=st.none() | line,
    retry=retries,
    topic=st.none() | line.filter(bool),
)
tails = st.builds(frame_tail, st.just("k3v9x0aa-7"), line.filter(bool), data, st.none() | line.filter(bool), retries)


@given(st.lists(events))
def test_decode_gives_back_what_was_encoded(sent: list[Event]) -> None:
    """Encoding and decoding is the identity for data whose line ends are line feeds."""
    assert Decoder().feed(b"".join(map(encode, sent))) == sent


@given(events, text)
def test_any_line_end_in_data_comes_back_as_a_line_feed(event: Event, value: str) -> None:
    """CR, LF and CRLF in data all decode as one LF, and nothing else is touched."""
    frame = encode(Event(type=event.type, data=value))
    assert Decoder().feed(frame)[0].data == value.replace("\r\n", "\n").replace("\r", "\n")


@given(st.text(), st.text(), st.none() | st.text(), st.none() | st.text())
def test_one_event_never_becomes_two(kind: str, value: str, id: str | None, topic: str | None) -> None:
    """Whatever the texts, encoding refuses or gives exactly one event with exactly these fields."""
    try:
        frame = encode(Event(type=kind, data=value, id=id, topic=topic))
    except InvalidInput:
        return
    (event,) = Decoder().feed(frame)
    assert (event.type, event.id, event.topic) == (kind, id, topic)


def test_a_newline_in_an_event_name_forges_nothing() -> None:
    """A type with a line feed is refused with its place, not cut and not repaired."""
    with pytest.raises(InvalidInput, match=r"^type: holds a line feed \(U\+000A\) at index 1$") as caught:
        encode(Event(type="a\ndata: forged\n\n", data="b"))
    assert caught.value.field == "type"


def test_nul_in_an_id_is_refused() -> None:
    """An id with NUL would be ignored by clients and stop the cursor silently."""
    with pytest.raises(InvalidInput, match=r"^id: holds a NUL \(U\+0000\) at index 2$"):
        encode(Event(data="a", id="12\0"))


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_other_line_separators_do_not_split_data(separator: str) -> None:
    """Characters that only str.splitlines takes for line ends stay inside one data line."""
    frame = encode(Event(data=f"a{separator}b"))
    assert frame == f"data: a{separator}b\n\n".encode()
    assert Decoder().feed(frame)[0].data == f"a{separator}b"


def test_empty_data_is_dispatched() -> None:
    """An event with empty data has one data line and so reaches its reader."""
    assert encode(Event(id="1")) == b"id: 1\ndata: \n\n"
    assert Decoder().feed(encode(Event(id="1"))) == [Event(id="1")]


def test_the_last_event_id_is_not_sent() -> None:
    """The sticky id is a property of a stream, not of a frame."""
    assert encode(Event(data="a", last_event_id="7")) == b"data: a\n\n"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("a\nb", "t", "d", None), "id"),
        (("k3v9x0aa-7", "a\rb", "d", None), "type"),
        (("k3v9x0aa-7", "", "d", None), "type"),
        (("k3v9x0aa-7", "t", "\ud800", None), "data"),
        (("k3v9x0aa-7", "t", "d", "a\0b"), "topic"),
        (("k3v9x0aa-7", "t", "d", ""), "topic"),
        (("k3v9x0aa-7", "t", "d", None, -1), "retry"),
        (("k3v9x0aa-7", "t", "d", None, True), "retry"),
    ],
)
def test_a_tail_is_checked_as_a_frame_is(arguments: tuple[Any, ...], field: str) -> None:
    """The fast builder of the fan-out refuses what encode refuses."""
    with pytest.raises(InvalidInput) as caught:
        frame_tail(*arguments)
    assert caught.value.field == field


@given(events.filter(lambda event: event.id is not None))
def test_a_plain_tail_is_the_encoded_event(event: Event) -> None:
    """The two ways to build a frame give the same bytes."""
    assert event.id is not None
    tail = frame_tail(event.id, event.type, event.data, event.topic, event.retry)
    assert FRAME_START + tail == encode(event)


@given(events)
def test_a_sealed_tail_is_the_event_with_a_resume_token(event: Event) -> None:
    """A sealed frame differs from the plain one by the token in its id and nothing else."""
    tail = frame_tail("k3v9x0aa-7", event.type, event.data, event.topic, event.retry)
    (decoded,) = Decoder().feed(sealed_start(TOKEN.encode()) + tail)
    assert decoded.id == f"{TOKEN}_k3v9x0aa-7"
    assert (decoded.type, decoded.data, decoded.topic) == (event.type, event.data, event.topic)


@given(st.lists(tails))
def test_joined_frames_are_the_concatenated_frames(batch: list[bytes]) -> None:
    """Joining a batch once per stream writes what writing its frames one by one would."""
    token = TOKEN.encode()
    assert FRAME_START.join([b"", *batch]) == b"".join(FRAME_START + tail for tail in batch)
    assert sealed_start(token).join([b"", *batch]) == b"".join(sealed_start(token) + tail for tail in batch)


def test_an_envelope_is_one_line_of_json() -> None:
    """Topic, type and data travel in this order, and no line end in them can split the data."""
    value = envelope_data("user/42", "note", 'a\r\n"b"\u2028')
    assert value.startswith('{"topic":"user/42","type":"note","data":"a\\r\\n')
    assert json.loads(value) == {"topic": "user/42", "type": "note", "data": 'a\r\n"b"\u2028'}
    assert encode(Event(data=value)).count(b"\n") == 2


@pytest.mark.parametrize("field", ["topic", "type", "data"])
def test_an_envelope_names_the_text_it_cannot_encode(field: str) -> None:
    """A lone surrogate is refused with the member it stands in."""
    members = {"topic": "a", "type": "b", "data": "c", field: "\ud800"}
    with pytest.raises(InvalidInput, match=r"lone surrogate \(U\+D800\) at index 0") as caught:
        envelope_data(**members)
    assert caught.value.field == field


def test_a_heartbeat_after_an_id_is_no_event() -> None:
    """The heartbeat is one comment line and ends no block, so no client can take it for an empty event."""
    decoder = Decoder()
    assert len(decoder.feed(encode(Event(data="a", id="7")))) == 1
    assert decoder.feed(HEARTBEAT * 3) == []
    assert decoder.feed(b"data: b\n" + HEARTBEAT + b"data: c\n\n") == [Event(data="b\nc")]
    assert decoder.last_event_id == "7"
