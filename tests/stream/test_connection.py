"""A stream's own rules: what its methods change, and what they leave alone."""

from __future__ import annotations

import pytest

from sseal.auth.identity import Identity
from sseal.position import Position
from sseal.stream import reasons
from sseal.stream.connection import Connection
from sseal.stream.states import Input, State
from sseal.subscription import Subscription, TopicSet

AT = Position("k3v9x0aa", 7)


class Sink:
    """A sink that takes nothing, in chunks."""

    chunked = True
    clear = True
    buffered = 0

    def put(self, framed: bytes) -> None:
        """Take bytes that are framed."""

    def write(self, data: bytes) -> None:
        """Take bytes."""

    def close(self) -> None:
        """Close."""

    def abort(self) -> None:
        """Abort."""


def subscription(subject: str = "alice") -> Subscription:
    """Return what somebody may read."""
    return Subscription(Identity(subject=subject), TopicSet.of("a"))


def connection(*, presented: Position | None = None, gap: str | None = None, **options: object) -> Connection:
    """Return a stream at offset 7."""
    return Connection("n.1", subscription(), 7, presented=presented, gap=gap, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("envelope", "framing"), [(False, 1), (True, 3)])
def test_a_sink_says_how_frames_are_encoded(envelope: bool, framing: int) -> None:
    """Chunks where it writes chunks, beside the envelope that was asked for."""
    stream = connection(envelope=envelope)
    assert stream.framing == framing - 1
    sink = Sink()
    stream.attach(sink)
    assert (stream.sink, stream.framing) == (sink, framing)


def test_a_closed_stream_lets_go_of_its_sink() -> None:
    """Else the two keep each other alive; why it was closed is remembered."""
    stream = connection()
    stream.attach(Sink())
    stream.close(reasons.REVOKED)
    assert (stream.state, stream.sink, stream.closed_by) == (State.CLOSED, None, reasons.REVOKED)


def test_a_stalled_stream_reads_at_its_own_pace() -> None:
    """It is live no more, and its patience begins anew."""
    stream = connection(opened_at=1.0)
    stream.apply(Input.CAUGHT_UP)
    assert stream.state is State.LIVE
    stream.progress(5.0)
    assert (stream.state, stream.progress_at) == (State.LIVE, 5.0)
    stream.stall(9.0)
    assert (stream.state, stream.progress_at) == (State.CATCHING_UP, 9.0)


def test_positions_move_forward() -> None:
    """By what was written, and by what is not its to read; a skip never leads back (W5)."""
    stream = connection()
    stream.written(9, 2)
    assert (stream.position, stream.delivered) == (9, 2)
    stream.skip_to(8)
    assert (stream.position, stream.delivered) == (9, 2)
    stream.skip_to(12)
    assert (stream.position, stream.delivered) == (12, 2)


def test_the_first_debt_of_a_gap_stands() -> None:
    """A second loss before the gap was announced makes it begin where the first one did (W25)."""
    stream = connection()
    stream.miss("trimmed", AT, 20, from_oldest=True)
    stream.miss("other_epoch", Position("k3v9x0aa", 20), 30, from_oldest=False)
    assert (stream.gap, stream.presented, stream.position, stream.from_oldest) == ("trimmed", AT, 30, False)
    stream.gap_announced()
    assert (stream.gap, stream.presented, stream.position) == (None, None, 30)


def test_the_oldest_event_is_looked_for_once() -> None:
    """Then it reads on from its position."""
    stream = connection(from_oldest=True)
    stream.oldest_found()
    assert stream.from_oldest is False


@pytest.mark.parametrize(
    ("presented", "gap", "start"),
    [(None, None, "newepoch-7"), (AT, None, "k3v9x0aa-7"), (AT, "trimmed", "k3v9x0aa-7"), (AT, "ahead", "newepoch-7")],
)
def test_a_stream_starts_where_its_reader_was(presented: Position | None, gap: str | None, start: str) -> None:
    """Unless that lies ahead of the log, where nothing can be told from (W1, W10)."""
    assert str(connection(presented=presented, gap=gap).start("newepoch")) == start


def test_a_refreshed_stream_is_warned_again() -> None:
    """It follows the fresh identity, and hears when that one is about to end."""
    stream = connection()
    stream.expiring_sent = True
    fresh = subscription()
    stream.refresh(fresh)
    assert stream.subscription is fresh
    assert stream.expiring_sent is False


@pytest.mark.parametrize(("token", "expected"), [(None, "k3v9x0aa-7"), (b"x" * 26, "x" * 26 + "_k3v9x0aa-7")])
def test_ids_of_ticket_streams_carry_their_token(token: bytes | None, expected: str) -> None:
    """The position stands alone on others."""
    assert connection(token=token).event_id(AT) == expected
