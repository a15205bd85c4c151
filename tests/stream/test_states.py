"""The state table of a stream, and its laws."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseal.auth.identity import Identity
from sseal.stream.connection import Connection
from sseal.stream.reasons import REASONS
from sseal.stream.states import TABLE, Input, State
from sseal.subscription import Subscription, TopicSet

LAWS = {
    # input: which states it moves, where to
    Input.CAUGHT_UP: {State.CATCHING_UP: State.LIVE},
    Input.STALLED: {State.LIVE: State.CATCHING_UP},
    Input.CLOSE: {State.CATCHING_UP: State.CLOSED, State.LIVE: State.CLOSED},
}


def connection(position: int = 0) -> Connection:
    """Return a stream at a position."""
    subscription = Subscription(Identity(subject="alice"), TopicSet.of("a"))
    return Connection("node.x", subscription, position)


@pytest.mark.parametrize(("state", "event"), list(product(State, Input)))
def test_every_input_has_a_place_in_every_state(state: State, event: Input) -> None:
    """The table is total, and moves exactly what the laws say."""
    assert TABLE[state, event] is LAWS[event].get(state, state)


@given(st.lists(st.sampled_from(list(Input))))
def test_a_closed_stream_stays_closed(events: list[Input]) -> None:
    """Whatever happens after the end, it is the end."""
    stream = connection()
    for event in events:
        was_closed = stream.state is State.CLOSED
        stream.apply(event)
        assert not was_closed or stream.state is State.CLOSED
        assert (stream.state is State.CLOSED) == (Input.CLOSE in events[: events.index(event) + 1] or was_closed)


@given(st.lists(st.sampled_from(list(Input))), st.integers(0, 9), st.integers(0, 9))
def test_a_frame_is_wanted_iff_live_and_above_the_position(events: list[Input], position: int, offset: int) -> None:
    """The hot loop's rule (W5)."""
    stream = connection(position)
    for event in events:
        stream.apply(event)
    assert stream.wants(offset) == (stream.state is State.LIVE and position < offset)


def test_every_reason_is_named_once_and_says_whether_to_come_back() -> None:
    """The table of reasons is keyed by name, and a reason that says no word forbids nothing."""
    assert all(name == reason.name for name, reason in REASONS.items())
    assert {name for name, reason in REASONS.items() if reason.reconnect is False} == {"revoked", "replaced"}
