"""Positions, Last-Event-ID, and what an old epoch still means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseal.auth.last_event_id import LastEventId
from sseal.position import EPOCH_ALPHABET, EPOCH_LENGTH, MAX_OFFSET, Lineage, Position, Resolution

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "spec/vectors/position.json").read_text())
EPOCHS = st.text(EPOCH_ALPHABET, min_size=EPOCH_LENGTH, max_size=EPOCH_LENGTH)
OFFSETS = st.integers(0, MAX_OFFSET)
NOW, OLD, OLDER, ALIEN = "cccccccc", "bbbbbbbb", "aaaaaaaa", "zzzzzzzz"
LINEAGE = Lineage(NOW, ((OLDER, 100), (OLD, 200)))


@pytest.mark.parametrize("case", VECTORS["valid"], ids=lambda case: case["text"])
def test_a_position_of_the_vectors_is_read(case: dict[str, Any]) -> None:
    """Each valid position of the specification parses and prints back."""
    position = Position.parse(case["text"])
    assert position == Position(case["epoch"], case["offset"])
    assert str(position) == case["text"]


@pytest.mark.parametrize("text", VECTORS["invalid"], ids=repr)
def test_what_the_vectors_call_no_position_is_none(text: str) -> None:
    """Each other text is an unknown position, never an exception."""
    assert Position.parse(text) is None
    assert LastEventId.parse(text) == LastEventId(None, None)


@pytest.mark.parametrize("case", VECTORS["last_event_id"], ids=lambda case: repr(case["value"]))
def test_a_last_event_id_has_three_forms(case: dict[str, Any]) -> None:
    """A position, a resume token before a position, or anything else, which is no credential (W13)."""
    read = LastEventId.parse(case["value"])
    assert {"position": (True, False), "resume": (True, True), "unknown": (False, False)}[case["form"]] == (
        read.position is not None,
        read.token is not None,
    )
    if read.position is not None:
        assert str(read.position) == case["position"]
        assert read.token == case.get("token")


def test_another_librarys_id_is_no_token() -> None:
    """The id `foo_12` of another SSE library is an unknown position, not a bad token (W13)."""
    assert LastEventId.parse("foo_12") == LastEventId(None, None)


@given(EPOCHS, OFFSETS)
def test_a_position_survives_the_wire(epoch: str, offset: int) -> None:
    """Printing and parsing are inverse."""
    position = Position(epoch, offset)
    assert Position.parse(str(position)) == position


@given(st.text(max_size=40))
def test_any_text_is_read_without_an_exception(text: str) -> None:
    """Last-Event-ID comes from outside, and whatever parses is written back the same."""
    read = LastEventId.parse(text)
    if read.position is not None:
        assert text == (str(read.position) if read.token is None else f"{read.token}_{read.position}")


RESOLVED = [
    (Position(NOW, 0), Resolution(0)),
    (Position(NOW, 299), Resolution(299)),
    (Position(NOW, 300), Resolution(300)),
    (Position(NOW, 301), Resolution(300, "ahead")),
    (Position(OLD, 150), Resolution(150)),
    (Position(OLD, 200), Resolution(200)),
    (Position(OLD, 201), Resolution(200, "other_epoch")),
    (Position(OLDER, 100), Resolution(100)),
    (Position(OLDER, 101), Resolution(100, "other_epoch")),
    (Position(ALIEN, 5), Resolution(0, "other_epoch", oldest=True)),
]


@pytest.mark.parametrize(("position", "resolution"), RESOLVED, ids=lambda value: str(value))
def test_an_old_position_means_what_the_lineage_proves(position: Position, resolution: Resolution) -> None:
    """Up to an epoch's last true offset a position is good, beyond it there is a gap (W10, W25)."""
    assert LINEAGE.resolve(position, 300) == resolution


@given(st.sampled_from([NOW, OLD, OLDER, ALIEN]), OFFSETS, st.integers(200, 10_000))
def test_law_a_resolution_never_skips_silently(epoch: str, offset: int, head: int) -> None:
    """A position leads to itself, or not past itself with a reason; and never beyond the head."""
    found = LINEAGE.resolve(Position(epoch, offset), head)
    assert 0 <= found.offset <= head
    assert found.offset == offset or found.reason is not None
    assert found.offset <= offset
