"""The checker finds each kind of fault, and lets pass what is right: one that cannot fail proves nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from sseal.position import Position

from .checker import Kind, Verdict, check
from .record import GapSeen, History, Opened, Publish, ReaderRecord, Received, Seen

OLD, NEW = "aaaaaaaa", "bbbbbbbb"


def sent(number: int, *topics: str, epoch: str = OLD, at: int | None = None, publisher: str = "p") -> Publish:
    """Return an acknowledged event, by default at the offset of its number."""
    position = Position(epoch, number if at is None else at)
    return Publish(f"e{number}", publisher, number, topics or ("t",), None, 1.0, "acknowledged", position)


def got(number: int, *, epoch: str = OLD, at: int | None = None) -> Received:
    """Return the receipt of an event."""
    return Received(2.0, Position(epoch, number if at is None else at), f"e{number}")


def gap(start: int, end: int, reason: str = "other_epoch", *, to: str = NEW) -> GapSeen:
    """Return a gap that begins in the old epoch."""
    return GapSeen(2.0, Position(OLD, start), Position(to, end), reason)


def judge(
    publishes: Sequence[Publish],
    *seen: Seen,
    log: Mapping[str, Sequence[int]] | None = None,
    topics: tuple[str, ...] = ("t",),
    settled: bool = True,
    keeps: bool = True,
) -> Verdict:
    """Judge a scenario with one reader, whose stream began before everything."""
    if log is None:
        log = {publish.payload: [publish.position.offset] for publish in publishes if publish.position}
    reader = ReaderRecord("r", "test", topics, [Opened(0.5, Position(OLD, 0)), *seen], settled=settled)
    return check(History(publishes, [reader], log, keeps))


def kinds(verdict: Verdict) -> set[Kind]:
    """Return the kinds of faults that were found."""
    return {fault.kind for fault in verdict.faults}


def test_a_scenario_without_faults_passes() -> None:
    """Everything received once and in order, other topics left out, is no fault."""
    verdict = judge([sent(1), sent(2, "other"), sent(3, "other", "t")], got(1), got(3))
    assert not verdict.faults
    assert str(verdict) == "no fault"


@pytest.mark.parametrize("outcome", ["acknowledged", "unknown"])
def test_a_lost_event_is_found(outcome: str) -> None:
    """An event that is in the log and that a settled reader never got is lost, acknowledged or not."""
    missing = sent(2)
    missing.outcome = outcome  # type: ignore[assignment]
    assert kinds(judge([sent(1), missing, sent(3)], got(1), got(3))) == {Kind.LOST}


def test_a_reader_that_left_is_asked_for_what_lies_before_its_last_event_only() -> None:
    """Of a reader that did not stay, an event before its last one is lost, a later one is not."""
    events = [sent(1), sent(2), sent(3)]
    assert not judge(events, got(1), got(2), settled=False).faults
    assert kinds(judge(events, got(1), got(3), settled=False)) == {Kind.LOST}


def test_what_was_published_before_the_stream_began_is_not_asked_for() -> None:
    """An event of before the first position may be missing, one of after it may not."""
    old, new = sent(1), sent(5)
    old.began = new.began = 0.1
    reader = ReaderRecord("r", "test", ("t",), [Opened(0.5, Position(OLD, 4))], settled=True)
    verdict = check(History([old, new], [reader], {"e1": [1], "e5": [5]}))
    assert [fault.what for fault in verdict.faults] == ["e5 stands at 5"]


def test_an_event_the_log_forgot_is_found() -> None:
    """An acknowledged event that a log which promised to keep it no longer has is a fault of its own."""
    verdict = judge([sent(1), sent(2), sent(3)], got(1), got(2), got(3), log={"e1": [1], "e3": [3]})
    assert kinds(verdict) == {Kind.FORGOTTEN}


def test_a_doubled_event_is_found() -> None:
    """The same event twice is a fault, under the same id or another."""
    assert kinds(judge([sent(1), sent(2)], got(1), got(2), got(2))) == {Kind.DOUBLED}
    assert kinds(judge([sent(1)], got(1), got(1, epoch=NEW, at=2))) == {Kind.DOUBLED}


def test_a_doubled_event_is_allowed_only_where_a_gap_went_back_behind_it() -> None:
    """A repeat counts as one after a gap that took the reader back; what lies before that may not come again."""
    events = [sent(1), sent(2), sent(3), sent(4)]
    log = {"e1": [1], "e2": [2], "e3": [4]}
    seen = (got(1), got(2), got(3), got(4), gap(4, 2))
    right = judge(events, *seen, got(3, epoch=NEW, at=4), log=log, keeps=False)
    assert not right.faults
    assert right.repeats == 1
    wrong = judge(events, *seen, got(2, epoch=NEW), got(3, epoch=NEW, at=4), log=log, keeps=False)
    assert kinds(wrong) == {Kind.DOUBLED}


def test_events_out_of_order_are_found() -> None:
    """A lower offset after a higher one is a fault, and so is a lower number of one publisher."""
    assert Kind.REORDERED in kinds(judge([sent(1), sent(2)], got(2), got(1)))
    swapped = [sent(1, at=2), sent(2, at=1)]
    assert kinds(judge(swapped, got(2, at=1), got(1, at=2))) == {Kind.REORDERED}


def test_events_before_the_position_the_stream_began_at_are_found() -> None:
    """An event at or below the first position is out of order."""
    reader = ReaderRecord("r", "test", ("t",), [Opened(0.5, Position(OLD, 3)), got(2)], settled=True)
    assert kinds(check(History([sent(2)], [reader], {"e2": [2]}))) == {Kind.REORDERED}


def test_foreign_events_are_found() -> None:
    """An event of another topic is a fault, and so is one that nobody published; patterns count."""
    assert kinds(judge([sent(1, "other")], got(1))) == {Kind.FOREIGN}
    assert kinds(judge([], got(9))) == {Kind.FOREIGN}
    assert not judge([sent(1, "room/1")], got(1), topics=("room/*",)).faults


def test_an_event_twice_in_the_log_is_found() -> None:
    """A publish that was repeated may be in the log once."""
    unknown = sent(1)
    unknown.outcome, unknown.position = "unknown", None
    assert not judge([unknown], got(1), log={"e1": [1]}).faults
    assert not judge([unknown], log={}).faults
    assert kinds(judge([unknown], got(1), log={"e1": [1, 2]})) == {Kind.REPEATED}


def test_a_refused_event_is_found_in_the_log_and_at_a_reader() -> None:
    """What a publisher was told is not in the log must be nowhere."""
    refused = sent(1)
    refused.outcome, refused.position = "refused", None
    assert kinds(judge([refused], log={"e1": [1]})) == {Kind.REFUSED}
    assert kinds(judge([refused], got(1), log={})) == {Kind.REFUSED}


LOST_TAIL = [sent(1), sent(2), sent(3), sent(3, epoch=NEW)]
"""Number 3 of the old epoch is gone; in the new one another event has its offset."""
LOST_TAIL[3].payload = "e4"
LOST_TAIL[3].number = 4


def test_a_gap_over_a_lost_tail_is_true() -> None:
    """A reader beyond what the log still has is told so and goes on where the old epoch ends."""
    verdict = judge(
        LOST_TAIL,
        *(got(1), got(2), got(3), gap(3, 2), got(4, epoch=NEW, at=3)),
        log={"e1": [1], "e2": [2], "e4": [3]},
        keeps=False,
    )
    assert not verdict.faults


def test_a_gap_over_a_log_that_was_wiped_is_true() -> None:
    """When nothing of an epoch is left, each position of it is lost, and a gap says so."""
    events = [sent(1), sent(2), sent(3, epoch=NEW, at=1)]
    seen = (got(1), gap(1, 0), got(3, epoch=NEW, at=1))
    assert not judge(events, *seen, log={"e3": [1]}, keeps=False).faults


@pytest.mark.parametrize(
    "false",
    [
        gap(2, 2),
        gap(1, 1),
        GapSeen(2.0, None, Position(OLD, 2), "unknown_position"),
        gap(2, 2, "ahead"),
        gap(1, 2, "trimmed", to=OLD),
    ],
    ids=["other_epoch", "behind", "unknown_position", "ahead", "trimmed"],
)
def test_a_gap_over_nothing_lost_is_found(false: GapSeen) -> None:
    """A gap whose positions the log still has is a fault, whatever its reason: else gap-always would pass (W50)."""
    assert Kind.EMPTY_GAP in kinds(judge([sent(1), sent(2)], got(1), got(2), false))


def test_a_gap_up_to_what_the_log_still_has_is_found() -> None:
    """While a tail is lost, a gap for a position before it is still a fault."""
    verdict = judge(
        LOST_TAIL,
        *(got(1), got(2), gap(2, 2), got(4, epoch=NEW, at=3)),
        log={"e1": [1], "e2": [2], "e4": [3]},
        keeps=False,
    )
    assert Kind.EMPTY_GAP in kinds(verdict)


def test_a_gap_for_what_retention_took_is_of_the_readers_own_topics() -> None:
    """``trimmed`` is true for the topics that lost something, and false for all others (W25)."""
    events = [sent(1, "t"), sent(2, "u"), sent(3, "t"), sent(4, "u")]
    kept = {"e2": [2], "e3": [3], "e4": [4]}
    trimmed = gap(0, 1, "trimmed", to=OLD)
    assert not judge(events, trimmed, got(3), log=kept).faults
    assert kinds(judge(events, trimmed, got(2), got(4), log=kept, topics=("u",))) == {Kind.EMPTY_GAP}


def test_a_missing_gap_is_found() -> None:
    """A reader that passed an event which log and reader have not, without being told, is a fault."""
    verdict = judge([sent(1), sent(2), sent(3)], got(1), got(3), log={"e1": [1], "e3": [3]}, keeps=False)
    assert kinds(verdict) == {Kind.UNANNOUNCED}


def test_a_reader_that_was_behind_the_lost_tail_is_counted() -> None:
    """A reader whose position the log still has goes on unharmed; that it missed something is counted (W10)."""
    verdict = judge(
        LOST_TAIL,
        *(got(1), got(2), got(4, epoch=NEW, at=3)),
        log={"e1": [1], "e2": [2], "e4": [3]},
        keeps=False,
    )
    assert not verdict.faults
    assert verdict.untold == 1


def test_a_gap_over_two_epochs_covers_the_one_in_between() -> None:
    """A reader that slept through a whole epoch, which is gone, is told of it by the gap from the one before."""
    between = "cccccccc"
    events = [sent(1), sent(2, epoch=between), sent(3, epoch=NEW, at=1)]
    for at, event in enumerate(events):
        event.began = 1.0 + at
    seen = (got(1), gap(1, 0), got(3, epoch=NEW, at=1))
    verdict = judge(events, *seen, log={"e3": [1]}, keeps=False)
    assert not verdict.faults
    assert verdict.untold == 0


def test_a_verdict_names_the_first_fault_of_each_kind() -> None:
    """The text of a verdict has one line per kind: how many, who, and what."""
    verdict = judge([sent(1), sent(2), sent(3)])
    assert str(verdict) == "3 x lost: r: e1 stands at 1"
