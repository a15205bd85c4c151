"""The decoder: cuts, bounds, and agreement with the plainest reading of the standard."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseal.errors import InvalidInput, WireError
from sseal.wire import MAX_RETRY, Decoder, Event

_PIECES = [
    *(b"data", b"event", b"id", b"retry", b"topic", b"Data", b"x", b":", b": ", b" ", b"\r", b"\n", b"\r\n"),
    *(b"\0", b"7", b"2147483648", b"\xef\xbb\xbf", b"\xef", b"\xe2\x82", b"\xac", b"\xff", b"\xc0\x8a"),
    *(b"\n\n", b"data: a\n", b"id: 1\n", b"event: b\n", b"retry: 5\n", "\u2028".encode()),
]
streams = st.lists(st.sampled_from(_PIECES) | st.binary(max_size=4)).map(b"".join)


def _read_as_the_standard_says(stream: bytes) -> tuple[list[Event], str, int | None]:
    """Decode a whole stream by following sections 9.2.5 and 9.2.6 step by step, without care for speed."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    events: list[Event] = []
    data = kind = buffer = last = ""
    own: dict[str, str | int] = {}
    retry: int | None = None
    for line in re.split("\r\n|\n|\r", text)[:-1]:
        if line == "":
            last = buffer
            if data != "":
                own_id, own_retry, own_topic = own.get("id"), own.get("retry"), own.get("topic")
                events.append(Event(kind or "message", data[:-1], own_id, own_retry, own_topic, last))  # type: ignore[arg-type]
            data, kind, own = "", "", {}
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data += value + "\n"
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            own["id"] = buffer = value
        elif name == "retry" and re.fullmatch("[0-9]+", value) and int(value) <= MAX_RETRY:
            own["retry"] = retry = int(value)
        elif name == "topic":
            own["topic"] = value
    return events, last, retry


def _sticky(events: list[Event]) -> list[str]:
    return [event.last_event_id for event in events]


@given(streams)
def test_any_bytes_decode_as_the_standard_says(stream: bytes) -> None:
    """The fast decoder and a literal reading of the standard agree on every stream."""
    decoder = Decoder()
    events = decoder.feed(stream)
    expected, last, retry = _read_as_the_standard_says(stream)
    assert events == expected
    assert _sticky(events) == _sticky(expected)
    assert (decoder.last_event_id, decoder.retry) == (last, retry)


@given(streams, st.data())
def test_no_cut_changes_the_result(stream: bytes, draw: st.DataObject) -> None:
    """Wherever and however often a stream is cut, the same events come out."""
    whole = Decoder()
    expected = whole.feed(stream)
    cuts = sorted(draw.draw(st.sets(st.integers(0, len(stream)))))
    decoder = Decoder()
    events: list[Event] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        events += decoder.feed(stream[start:end])
    assert events == expected
    assert _sticky(events) == _sticky(expected)
    assert (decoder.last_event_id, decoder.retry) == (whole.last_event_id, whole.retry)


@given(streams, st.integers(1, 8), st.integers(1, 8), st.data())
def test_bounds_strike_at_the_same_place_for_every_cut(
    stream: bytes, max_line: int, max_event: int, draw: st.DataObject
) -> None:
    """With tight bounds too, a cut changes neither the events before the error nor the error."""

    def run(*pieces: bytes) -> tuple[list[Event], str | None]:
        decoder = Decoder(max_line, max_event)
        events: list[Event] = []
        for piece in pieces:
            try:
                events += decoder.feed(piece)
            except WireError:
                break
        return events, decoder.error.detail if decoder.error else None

    cut = draw.draw(st.integers(0, len(stream)))
    singly = [stream[index : index + 1] for index in range(len(stream))]
    assert run(stream) == run(stream[:cut], stream[cut:]) == run(*singly)


@given(st.lists(st.binary()), st.integers(1, 8), st.integers(1, 8))
def test_arbitrary_bytes_raise_nothing_but_wire_errors(pieces: list[bytes], max_line: int, max_event: int) -> None:
    """A hostile peer can only get events or a WireError out of a decoder."""
    decoder = Decoder(max_line, max_event)
    for piece in pieces:
        try:
            decoder.feed(piece)
        except WireError:
            assert decoder.error is not None


def test_an_event_is_there_as_soon_as_the_cr_that_ends_its_block() -> None:
    """A CR at the end of a chunk dispatches at once, and a LF that follows it is swallowed."""
    decoder = Decoder()
    assert decoder.feed(b"data: a\r\r") == [Event(data="a")]
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\n") == []
    assert decoder.feed(b"data: b\n\n") == [Event(data="b")]


def test_a_heartbeat_after_an_id_is_no_empty_event() -> None:
    """Neither our heartbeat nor a comment with a blank line is an event, whatever the id before."""
    decoder = Decoder()
    decoder.feed(b"id: 7\ndata: a\n\n")
    assert decoder.feed(b":\n") == []
    assert decoder.feed(b": ping\n\n") == []
    assert decoder.last_event_id == "7"


def test_the_cursor_moves_only_with_a_complete_block() -> None:
    """A stream that ends inside a block leaves the cursor at the last event that was handed out."""
    decoder = Decoder()
    decoder.feed(b"id: 7\ndata: a\n\nid: 8\ndata: b\n")
    assert decoder.last_event_id == "7"
    assert decoder.feed(b"\n") == [Event(data="b", id="8")]
    assert decoder.last_event_id == "8"


def test_a_resumed_stream_keeps_its_cursor_until_it_sends_an_id() -> None:
    """The id a stream is resumed with survives blocks without an id."""
    decoder = Decoder(last_event_id="7")
    assert decoder.feed(b"\ndata: a\n\n")[0].last_event_id == "7"
    assert decoder.feed(b"id: 8\n\n") == []
    assert decoder.last_event_id == "8"


def test_a_reconnection_time_of_many_digits_is_ignored() -> None:
    """More digits than int() converts are no reconnection time and no error."""
    decoder = Decoder()
    assert decoder.feed(b"retry: " + b"9" * 10_000 + b"\nretry: " + b"0" * 10_000 + b"5\n") == []
    assert decoder.retry == 5


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_a_line_of_exactly_the_bound_is_accepted(end: bytes) -> None:
    """The end of a line does not count towards max_line; one byte more is refused."""
    assert Decoder(max_line=9).feed(b"data: abc" + end + end) == [Event(data="abc")]
    with pytest.raises(WireError, match=r"longer than 9 bytes.*max_line"):
        Decoder(max_line=9).feed(b"data: abcd" + end + end)


def test_an_endless_line_is_refused_before_it_ends() -> None:
    """The open line is bounded, so a peer that never ends a line costs no more than max_line."""
    decoder = Decoder(max_line=1000)
    with pytest.raises(WireError, match="max_line"):
        for _ in range(1001):
            decoder.feed(b"x")


def test_the_data_of_an_event_is_bounded() -> None:
    """max_event counts the data as it would be handed out, line feeds between lines included."""
    assert Decoder(max_event=3).feed(b"data: a\ndata: b\n\n") == [Event(data="a\nb")]
    with pytest.raises(WireError, match=r"longer than 3 bytes.*max_event"):
        Decoder(max_event=3).feed(b"data: a\ndata: bc\n")
    with pytest.raises(WireError, match="max_event"):
        Decoder(max_event=3).feed(b"data\n" * 5)


def test_comments_do_not_count_as_data() -> None:
    """Heartbeats between two events never add up to a bound, however long the silence."""
    decoder = Decoder(max_event=3)
    decoder.feed(b":\n" * 1000)
    assert decoder.feed(b"data: abc\n\n") == [Event(data="abc")]


def test_events_before_an_error_are_still_handed_out() -> None:
    """Complete events have moved the cursor and are returned; the error waits for the next call."""
    decoder = Decoder(max_line=9)
    assert decoder.feed(b"id: 1\ndata: a\n\ndata: too long\n\n") == [Event(data="a", id="1")]
    assert decoder.error is not None
    with pytest.raises(WireError, match="max_line"):
        decoder.feed(b"")


def test_a_decoder_that_has_ended_refuses_every_further_byte() -> None:
    """After a bound was exceeded nothing can be trusted, so nothing is decoded any more."""
    decoder = Decoder(max_line=1)
    for chunk in (b"too long", b"\n\n", b"data: a\n\n"):
        with pytest.raises(WireError):
            decoder.feed(chunk)


@pytest.mark.parametrize("bound", ["max_line", "max_event"])
def test_a_bound_must_be_positive(bound: str) -> None:
    """A decoder that could accept nothing is not made."""
    with pytest.raises(InvalidInput) as caught:
        Decoder(max_line=int(bound != "max_line"), max_event=int(bound != "max_event"))
    assert caught.value.field == bound
