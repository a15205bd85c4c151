"""Control events: where an id stands, and what a client reads from them."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseal.errors import InvalidInput
from sseal.wire import (
    MAX_RETRY,
    RESERVED_TYPES,
    AuthState,
    Decoder,
    Event,
    auth_event,
    bye_event,
    gap_event,
)

text = st.text(st.characters(exclude_categories=["Cs"]))


def _only(frame: bytes) -> Event:
    (event,) = Decoder().feed(frame)
    return event


@given(text, text, st.lists(text), st.sampled_from(get_args(AuthState)))
def test_an_auth_event_says_what_it_was_given(
    connection: str, subject: str, topics: list[str], session: AuthState
) -> None:
    """Any text arrives whole and in one event, for it travels as JSON."""
    event = _only(
        auth_event(session=session, connection=connection, subject=subject, topics=topics, expires_at=1893456000.5)
    )
    assert (event.type, event.id) == ("auth", None)
    assert json.loads(event.data) == {
        "session": session,
        "connection": connection,
        "subject": subject,
        "topics": topics,
        "expires_at": 1893456000.5,
    }


def test_the_opening_auth_moves_the_cursor() -> None:
    """A stream cut before its first event resumes at the position it started from."""
    decoder = Decoder()
    decoder.feed(
        auth_event(
            session="valid", connection="c", subject=None, topics=("a",), expires_at=None, id="k3v9x0aa-7", retry=3000
        )
    )
    assert (decoder.last_event_id, decoder.retry) == ("k3v9x0aa-7", 3000)


def test_a_gap_moves_the_cursor_to_where_the_stream_continues() -> None:
    """After a gap the next reconnect does not ask for the lost part again."""
    event = _only(gap_event(from_=None, to="k3v9x0aa-40", reason="trimmed", id="k3v9x0aa-40"))
    assert event.last_event_id == "k3v9x0aa-40"
    assert json.loads(event.data) == {"from": None, "to": "k3v9x0aa-40", "reason": "trimmed"}


def test_a_bye_leaves_the_cursor_alone() -> None:
    """A farewell is no position."""
    decoder = Decoder(last_event_id="k3v9x0aa-7")
    decoder.feed(bye_event(reason="draining", reconnect=True))
    assert (decoder.last_event_id, decoder.retry) == ("k3v9x0aa-7", None)


def test_a_bye_for_good_is_preceded_by_the_longest_reconnection_time() -> None:
    """The only thing that keeps an EventSource away is set before the event can be cut off."""
    frame = bye_event(reason="revoked", reconnect=False)
    assert frame.startswith(b"retry: 2147483647\n")
    decoder = Decoder()
    assert decoder.feed(frame[: frame.index(b"\n") + 1]) == []
    assert decoder.retry == MAX_RETRY
    assert _only(frame).retry == MAX_RETRY


def test_control_types_are_reserved() -> None:
    """No publisher can send what a client would take for the hub's own word."""
    assert {"auth", "gap", "bye", "open", "error"} == RESERVED_TYPES


@pytest.mark.parametrize("ms", [-1, MAX_RETRY + 1, True])
def test_a_reconnection_time_out_of_range_is_refused(ms: int) -> None:
    """What a browser would not obey is not sent."""
    with pytest.raises(InvalidInput) as caught:
        bye_event(reason="draining", reconnect=True, retry=ms)
    assert caught.value.field == "retry"
