"""The rules of reconnecting, without a network and without time."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseal import errors, wire
from sseal.client.backoff import Backoff
from sseal.client.problem import Answer, error_of
from sseal.client.session import (
    TABLE,
    Action,
    Bye,
    Control,
    Deliver,
    Gap,
    GiveUp,
    Input,
    ReaderSession,
    Reconnect,
    State,
    StreamClosed,
    StreamIdentity,
)
from sseal.wire import Event

STREAM = Answer(status=200, content_type="text/event-stream; charset=utf-8")


def auth(session: wire.ReaderSession = "valid", id: str | None = "k3v9x0aa-12") -> bytes:
    return wire.auth_event(
        session=session, connection="n1-c7", subject="alice", topics=["user/alice"], expires_at=1893456000, id=id
    )


def event(data: str, id: str | None = None) -> bytes:
    return wire.encode(Event(data=data, id=id))


def opened(**options: object) -> ReaderSession:
    session = ReaderSession(**options)  # type: ignore[arg-type]
    session.connect()
    assert session.respond(STREAM, 0.5) == []
    return session


def refused(answer: Answer, **options: bool) -> list[Action]:
    session = ReaderSession()
    session.connect()
    return session.respond(answer, 1.0, **options)


def only(actions: list[Action]) -> Action:
    (action,) = actions
    return action


def reconnect(actions: list[Action]) -> Reconnect:
    action = only(actions)
    assert isinstance(action, Reconnect)
    return action


def fault(actions: list[Action]) -> errors.SsealError:
    action = only(actions)
    assert isinstance(action, GiveUp)
    return action.error


def cursor(action: Reconnect) -> bytes | None:
    return dict(action.headers).get(b"last-event-id")


# The table, one line per input: which states it moves, and where to.


def moves(which: Input) -> dict[State, State]:
    return {state: after for (state, given), after in TABLE.items() if given is which and after is not state}


def test_the_table_is_total() -> None:
    """Every input has an answer in every state."""
    assert set(TABLE) == set(itertools.product(State, Input))


def test_connect_moves_only_a_waiting_session() -> None:
    """There is one connection at a time."""
    assert moves(Input.CONNECT) == {State.WAITING: State.CONNECTING}


def test_accepted_moves_only_a_connecting_session() -> None:
    """A stream opens only in answer to a request."""
    assert moves(Input.ACCEPTED) == {State.CONNECTING: State.OPEN}


def test_lost_moves_what_has_a_connection() -> None:
    """Losing what is already lost changes nothing."""
    assert moves(Input.LOST) == {State.CONNECTING: State.WAITING, State.OPEN: State.WAITING}


def test_finished_moves_everything_to_closed_and_nothing_leaves_it() -> None:
    """Closed is for good."""
    assert set(moves(Input.FINISHED)) == set(State) - {State.CLOSED}
    assert {after for (state, _), after in TABLE.items() if state is State.CLOSED} == {State.CLOSED}


# Connecting


def test_the_first_connection_is_made_at_once_without_a_cursor() -> None:
    """A new reader starts at the head, and asks for exactly the type a native EventSource asks for."""
    first = ReaderSession().first()
    assert first.after == 0
    assert not first.renew
    assert dict(first.headers) == {
        b"accept": b"text/event-stream, application/problem+json",
        b"cache-control": b"no-cache",
    }


def test_the_cursor_is_sent_as_utf_8() -> None:
    """The header's bytes are the id in UTF-8, without white space a header could not hold at its ends."""
    assert cursor(ReaderSession(last_event_id=" ü-1\t").first()) == " ü-1\t".strip().encode()


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\0b", "\ud800", "a\x7f"])
def test_a_cursor_that_no_header_can_carry_is_refused(bad: str) -> None:
    """A session that exists can send its cursor."""
    with pytest.raises(errors.InvalidInput, match="last_event_id"):
        ReaderSession(last_event_id=bad)


def test_a_second_connection_is_refused() -> None:
    """Two at once is a fault of the shell."""
    session = ReaderSession()
    session.connect()
    with pytest.raises(RuntimeError, match="CONNECTING"):
        session.connect()


# Answers


def test_a_stream_needs_its_type() -> None:
    """A 200 that is no event stream is the end: something else lives at this address."""
    error = fault(refused(Answer(status=200, content_type="text/html")))
    assert isinstance(error, StreamClosed)
    assert error.reason == "not_an_event_stream"


@pytest.mark.parametrize("kind", ["text/event-stream", "TEXT/Event-Stream;charset=UTF-8", " text/event-stream "])
def test_the_type_may_have_parameters_and_any_case(kind: str) -> None:
    """Media types are compared as RFC 9110 says."""
    assert refused(Answer(status=200, content_type=kind)) == []


def test_no_content_is_the_end() -> None:
    """204 means do not come back (HTML 9.2.3)."""
    error = fault(refused(Answer(status=204)))
    assert isinstance(error, StreamClosed)
    assert error.reason == "no_content"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_the_end_and_says_so(status: int) -> None:
    """A hub never redirects, and following would carry the credential away."""
    error = fault(refused(Answer(status=status)))
    assert isinstance(error, StreamClosed)
    assert error.reason == "redirected"
    assert "never" in error.detail


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidInput),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (405, errors.MethodNotAllowed),
        (406, errors.SsealError),
        (413, errors.TooLarge),
        (418, errors.SsealError),
    ],
)
def test_other_client_errors_are_the_end(status: int, kind: type[errors.SsealError]) -> None:
    """What the reader did wrong it would do wrong again; the hub's own words are kept."""
    error = fault(refused(Answer(status=status, problem={"detail": "because", "code": "special"})))
    assert type(error) is kind
    assert (error.status, error.code) == (status, "special")
    assert "because" in error.detail


def test_forbidden_says_what_was_refused() -> None:
    """The topics that are not yours come along."""
    error = error_of(Answer(status=403, problem={"detail": "no", "refused": ["a", 1, "b"]}))
    assert isinstance(error, errors.Forbidden)
    assert error.refused == ("a", "b")


def test_malformed_input_keeps_its_field() -> None:
    """The field is named once, not twice."""
    error = error_of(Answer(status=400, problem={"detail": "topic: is empty", "field": "topic"}))
    assert isinstance(error, errors.InvalidInput)
    assert (error.field, error.problem) == ("topic", "is empty")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_what_may_pass_is_waited_out_with_jitter(status: int) -> None:
    """A refusal for now leads to a growing wait."""
    session = ReaderSession(backoff=Backoff(minimum=0, base=1, maximum=60))
    waits = []
    for _ in range(3):
        session.connect()
        waits.append(reconnect(session.respond(Answer(status=status), 0.5)).after)
    assert waits == [0.5, 1.0, 2.0]


def test_retry_after_is_the_earliest_moment() -> None:
    """The jitter comes on top of what the hub asked for."""
    session = ReaderSession(backoff=Backoff(minimum=0, base=1))
    session.connect()
    assert reconnect(session.respond(Answer(status=503, retry_after=7.0), 0.25)).after == 7.25


# 401


def test_a_refused_credential_is_renewed_at_once_then_slower_then_no_more() -> None:
    """The third 401 in a row raises what the problem document says."""
    session = ReaderSession(backoff=Backoff(minimum=0, base=1))
    answer = Answer(status=401, problem={"code": "credential_expired", "detail": "it is over"})
    session.connect()
    first = reconnect(session.respond(answer, 0.5, renewable=True))
    session.connect()
    second = reconnect(session.respond(answer, 0.5, renewable=True))
    session.connect()
    error = fault(session.respond(answer, 0.5, renewable=True))
    assert (first.renew, first.after, second.renew, second.after) == (True, 0.0, True, 0.5)
    assert isinstance(error, errors.CredentialExpired)


def test_a_credential_that_cannot_be_renewed_is_the_end() -> None:
    """One 401 is enough when there is nothing else to try."""
    error = fault(refused(Answer(status=401, problem={"code": "credential_missing"})))
    assert isinstance(error, errors.CredentialMissing)


def test_only_refusals_in_a_row_count() -> None:
    """A stream in between starts the count again."""
    session = ReaderSession(max_unauthorized=2)
    for _ in range(4):
        session.connect()
        assert reconnect(session.respond(Answer(status=401), 0.0, renewable=True)).renew
        session.connect()
        session.respond(STREAM, 0.0)
        assert not reconnect(session.lost("cut", 0.0)).renew


def test_a_fresh_credential_is_asked_for_once_per_refusal() -> None:
    """A failure of the network after the renewal does not ask again."""
    session = ReaderSession()
    session.connect()
    assert reconnect(session.respond(Answer(status=401), 0.0, renewable=True)).renew
    session.connect()
    assert not reconnect(session.lost("cut", 0.0)).renew


def test_an_expired_identity_renews_before_it_returns() -> None:
    """After ``auth: expired`` the old credential is not even tried."""
    session = opened()
    session.receive(auth() + auth("expired", id=None), 0.0)
    assert reconnect(session.lost("ended", 0.0)).renew


# The stream


def test_events_are_delivered_and_control_events_told_apart() -> None:
    """What the hub says itself is never handed out as an event of the application."""
    session = opened()
    gap = wire.gap_event(from_="k3v9x0aa-12", to="k3v9x0aa-20", reason="trimmed", id="k3v9x0aa-20")
    actions = session.receive(auth() + gap + event("x", "k3v9x0aa-21"), 0.0)
    identity = StreamIdentity(
        session="valid", connection="n1-c7", subject="alice", topics=("user/alice",), expires_at=1893456000.0
    )
    assert actions == [
        Control(identity, "k3v9x0aa-12"),
        Control(Gap(start="k3v9x0aa-12", end="k3v9x0aa-20", reason="trimmed"), "k3v9x0aa-20"),
        Deliver(Event(data="x", id="k3v9x0aa-21")),
    ]


@pytest.mark.parametrize(
    "data", ["", "[]", "{", '{"session":1,"topics":[1],"expires_at":"x"}', '{"expires_at":1e999}', "[" * 5000]
)
def test_a_control_event_that_says_nonsense_breaks_nothing(data: str) -> None:
    """A member that is no such thing counts as absent."""
    action = only(opened().receive(wire.encode(Event(type="auth", data=data)), 0.0))
    assert isinstance(action, Control)


def test_a_huge_number_is_no_time() -> None:
    """An expiry no float can hold counts as none."""
    data = '{"expires_at":' + "9" * 400 + "}"
    action = only(opened().receive(wire.encode(Event(type="auth", data=data)), 0.0))
    assert isinstance(action, Control)


def test_a_stream_that_ends_is_resumed_after_its_reconnection_time() -> None:
    """The last id goes along, however the stream was cut."""
    session = opened()
    session.receive(b"retry: 1500\n\n" + auth() + event("x", "k3v9x0aa-13") + b"id: k3v9x0aa-14\ndata: cut", 0.0)
    action = reconnect(session.lost("ended", 1.0))
    assert (action.after, cursor(action)) == (1.5, b"k3v9x0aa-13")


def test_the_cursor_survives_connections_that_bring_nothing() -> None:
    """Last-Event-ID is sticky over refusals and empty streams."""
    session = opened(last_event_id="k3v9x0aa-5")
    session.lost("ended", 0.0)
    session.connect()
    assert cursor(reconnect(session.respond(Answer(status=503), 0.0))) == b"k3v9x0aa-5"


def test_a_block_without_data_moves_the_cursor() -> None:
    """So says the standard: an id counts when its block is complete, event or not."""
    session = opened()
    session.receive(auth() + b"id: k3v9x0aa-15\n\n", 0.0)
    assert cursor(reconnect(session.lost("ended", 0.0))) == b"k3v9x0aa-15"


def test_only_a_healthy_stream_makes_the_waits_short_again() -> None:
    """A server that accepts and cuts at once is a failure that goes on."""
    session = ReaderSession(reconnection_time=0.0, backoff=Backoff(minimum=0, base=1))
    waits = []
    for stream in (b":\n", b"", event("x"), b"", auth()):
        session.connect()
        session.respond(STREAM, 0.0)
        session.receive(stream, 0.0)
        waits.append(reconnect(session.lost("ended", 1.0)).after)
    assert waits == [1.0, 2.0, 0.0, 1.0, 0.0]


def test_a_stream_shorter_than_its_backoff_waits_no_less_than_asked() -> None:
    """A transient refusal given as a stream is obeyed: its reconnection time is the least."""
    action = opened().receive(b"retry: 4711\n\n" + wire.bye_event(reason="draining", reconnect=True), 0.0)[-1]
    assert isinstance(action, Reconnect)
    assert action.after == pytest.approx(4.711)


def test_an_oversized_event_is_the_end_after_those_before_it() -> None:
    """Coming back would only bring it again; what was complete is handed out first."""
    actions = opened(max_event=10).receive(event("fine") + event("x" * 11), 0.0)
    assert actions[0] == Deliver(Event(data="fine"))
    assert isinstance(fault(actions[1:]), errors.WireError)


def test_a_session_whose_first_event_is_too_large_ends_too() -> None:
    """There may be nothing to hand out before the end."""
    assert isinstance(fault(opened(max_event=10).receive(event("x" * 11), 0.0)), errors.WireError)


def test_one_line_may_be_as_long_as_an_event() -> None:
    """The bound a caller gives is the one that holds, as a hub sends JSON in one line."""
    size = 3 * 1024 * 1024
    assert only(opened(max_event=size).receive(event("x" * size), 0.0)) == Deliver(Event(data="x" * size))


# Farewells


def test_bye_for_good_ends_the_session_with_its_reason() -> None:
    """Nothing after it is delivered, and no connection follows."""
    session = opened()
    actions = session.receive(auth() + wire.bye_event(reason="revoked", reconnect=False) + event("late", "z"), 0.0)
    assert actions[1] == Control(Bye(reason="revoked", reconnect=False), "k3v9x0aa-12")
    error = fault(actions[2:])
    assert isinstance(error, StreamClosed)
    assert (error.reason, error.reconnect) == ("revoked", False)
    assert session.lost("ended", 0.0) == []


def test_bye_for_now_reconnects_after_the_reconnection_time() -> None:
    """What stands after a bye does not move the cursor."""
    session = opened()
    session.receive(b"retry: 2000\n\n" + auth(), 0.0)
    actions = session.receive(wire.bye_event(reason="draining", reconnect=True) + event("late", "z"), 0.0)
    action = reconnect(actions[1:])
    assert (action.after, cursor(action)) == (2.0, b"k3v9x0aa-12")


def test_the_longest_reconnection_time_is_obeyed_even_without_its_bye() -> None:
    """A farewell cut after its first line still means: do not come back (W37)."""
    session = opened()
    closing_events = wire.bye_event(reason="revoked", reconnect=False)
    session.receive(auth() + closing_events[: closing_events.index(b"event")], 0.0)
    error = fault(session.lost("cut", 0.0))
    assert isinstance(error, StreamClosed)
    assert error.reason == "stay_away"


def test_a_closed_session_does_nothing() -> None:
    """After close no input causes an action."""
    session = opened()
    session.close()
    assert session.receive(event("x"), 0.0) == session.lost("cut", 0.0) == session.respond(STREAM, 0.0) == []


# Laws over any sequence of inputs

ANSWERS = st.sampled_from([200, 204, 301, 401, 403, 429, 503]).map(
    lambda status: Answer(status=status, content_type="text/event-stream")
)
BLOCKS = st.sampled_from(
    [
        auth(),
        auth("expired", id=None),
        b"retry: 100\n\n",
        b"id: quiet\n\n",
        wire.gap_event(from_=None, to="g-1", reason="ahead", id="g-1"),
        wire.bye_event(reason="draining", reconnect=True),
        wire.bye_event(reason="revoked", reconnect=False),
        *[event(f"e{number}", f"id-{number}") for number in range(4)],
        event("no id"),
        b":\n",
    ]
)
BYTES = st.tuples(st.lists(BLOCKS, max_size=5).map(b"".join), st.integers(0, 40)).map(
    lambda pair: pair[0][: max(0, len(pair[0]) - pair[1])]
)
STEPS = st.lists(
    st.one_of(
        st.just(("connect", None)),
        st.just(("connect", None)),
        st.tuples(st.just("respond"), ANSWERS),
        st.just(("respond", STREAM)),
        st.tuples(st.just("receive"), BYTES),
        st.tuples(st.just("receive"), BYTES),
        st.just(("lost", None)),
        st.tuples(st.just("close"), st.booleans()),
    ),
    max_size=40,
)


def apply(session: ReaderSession, name: str, value: object) -> list[Action]:
    """Give the session one input; what its shell may not do is left out."""
    if name == "connect":
        if session.state is State.WAITING:
            session.connect()
        return []
    if name == "respond":
        assert isinstance(value, Answer)
        return session.respond(value, 0.5, renewable=True)
    if name == "receive":
        assert isinstance(value, bytes)
        return session.receive(value, 0.5)
    if name == "lost":
        return session.lost("cut", 0.5)
    if value:
        session.close()
    return []


@given(STEPS)
def test_there_are_never_two_reconnects_at_once(steps: list[tuple[str, object]]) -> None:
    """Between two reconnects a connection was made, and a session that waits was told so exactly once."""
    session, waiting = ReaderSession(), True
    for name, value in steps:
        was_waiting = session.state is State.WAITING
        actions = apply(session, name, value)
        if was_waiting and session.state is State.CONNECTING:
            waiting = False
        for action in actions:
            if isinstance(action, Reconnect):
                assert not waiting
                waiting = True
        if session.state is not State.CLOSED:
            assert waiting == (session.state is State.WAITING)


@given(STEPS)
def test_nothing_follows_the_end(steps: list[tuple[str, object]]) -> None:
    """After giving up there is no action, and within a batch nothing stands after it."""
    session, closed = ReaderSession(), False
    for name, value in steps:
        actions = apply(session, name, value)
        assert not (closed and actions)
        for index, action in enumerate(actions):
            assert not isinstance(action, GiveUp | Reconnect) or index == len(actions) - 1
        closed = session.state is State.CLOSED


@given(STEPS)
def test_the_cursor_is_the_one_of_the_last_thing_handed_out(steps: list[tuple[str, object]]) -> None:
    """Never an id of something not yet dispatched, never an older one; only a block without data moves it alone."""
    session, last = ReaderSession(), ""
    for name, value in steps:
        for action in apply(session, name, value):
            if isinstance(action, Deliver):
                last = action.event.last_event_id
            elif isinstance(action, Control):
                last = action.last_event_id
            elif isinstance(action, Reconnect):
                assert (cursor(action) or b"").decode() in (last, "quiet")
        if session.last_event_id != last:
            assert session.last_event_id == "quiet"
            last = "quiet"


def until_bye(blocks: list[bytes]) -> bytes:
    """Join blocks up to the first farewell: a hub says nothing after it."""
    end = next((index + 1 for index, block in enumerate(blocks) if b"event: bye" in block), len(blocks))
    return b"".join(blocks[:end])


@given(st.lists(BLOCKS, max_size=8).map(until_bye), st.data())
def test_the_cut_of_the_bytes_changes_no_action(stream: bytes, data: st.DataObject) -> None:
    """The same events in the same order, wherever the network cut the stream."""
    whole = opened().receive(stream, 0.5)
    session, pieces, start = opened(), [], 0
    while start < len(stream):
        end = data.draw(st.integers(start + 1, len(stream)))
        pieces += session.receive(stream[start:end], 0.5)
        start = end
    assert list(map(repr, pieces)) == list(map(repr, whole))
