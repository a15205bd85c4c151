"""The state table of a stream, and its laws."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseal.auth.identity import Identity
from sseal.position import Position
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


@given(st.lists(st.integers(0, 9)), st.integers(0, 9))
def test_a_position_never_goes_back_when_there_is_nothing_to_read(offsets: list[int], position: int) -> None:
    """Skipping takes a stream to the highest offset up to which nothing is left for it, and counts nothing."""
    stream = connection(position)
    for offset in offsets:
        stream.skip_to(offset)
    assert stream.position == max([position, *offsets])
    assert stream.delivered == 0


def test_a_gap_that_is_owed_keeps_its_beginning_until_it_is_announced() -> None:
    """What is lost twice before a reader has been told is one gap, from the first position on."""
    stream = connection(5)
    stream.miss("trimmed", Position("epoch000", 5), 7, from_oldest=False)
    stream.miss("new_epoch", Position("epoch001", 7), 9, from_oldest=True)
    assert (stream.gap, stream.presented, stream.position) == ("trimmed", Position("epoch000", 5), 9)
    assert stream.from_oldest
    stream.gap_announced()
    assert (stream.gap, stream.presented) == (None, None)


def test_every_reason_is_named_once_and_says_whether_to_come_back() -> None:
    """The table of reasons is keyed by name, and a reason that says no word forbids nothing."""
    assert all(name == reason.name for name, reason in REASONS.items())
    assert {name for name, reason in REASONS.items() if reason.reconnect is False} == {"revoked", "replaced"}
