"""The golden vectors of spec/vectors, which the JavaScript tests read as well."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from sseal.errors import InvalidInput
from sseal.position import Position
from sseal.wire import HEARTBEAT, Decoder, Event, auth_event, bye_event, encode, gap_event

VECTORS = Path(__file__).parents[2] / "spec" / "vectors"
BUILD: dict[str, Callable[..., bytes]] = {
    "auth": auth_event,
    "gap": gap_event,
    "bye": bye_event,
    "heartbeat": lambda: HEARTBEAT,
}
_RESUME = re.compile(r"([a-z2-7]{26})_(.*)", re.ASCII | re.DOTALL)


def _load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text())
    return loaded


def _cases(name: str, member: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in _load(name)[member]]


def _pieces(case: dict[str, Any]) -> list[bytes]:
    return [piece.encode() if isinstance(piece, str) else bytes.fromhex(piece["hex"]) for piece in case["input"]]


def _decode(pieces: Iterable[bytes]) -> dict[str, Any]:
    decoder = Decoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return {
        "events": [_members(event) for event in events],
        "last_event_id": decoder.last_event_id,
        "retry": decoder.retry,
    }


def _members(event: Event) -> dict[str, Any]:
    members = {name: getattr(event, name) for name in ("type", "data", "id", "retry", "topic", "last_event_id")}
    return {name: value for name, value in members.items() if value is not None}


def _expected(case: dict[str, Any]) -> dict[str, Any]:
    return {name: case[name] for name in ("events", "last_event_id", "retry")}


@pytest.mark.parametrize("case", _cases("decode", "cases"))
def test_a_stream_decodes_as_given_and_whole(case: dict[str, Any]) -> None:
    """The events, the cursor and the reconnection time are those of the standard."""
    pieces = _pieces(case)
    assert _decode(pieces) == _expected(case)
    assert _decode([b"".join(pieces)]) == _expected(case)


@pytest.mark.parametrize("case", _cases("decode", "cases"))
def test_a_stream_decodes_byte_by_byte(case: dict[str, Any]) -> None:
    """One byte at a time gives what the whole gives, with empty chunks between as well."""
    whole = b"".join(_pieces(case))
    singly = [whole[index : index + 1] for index in range(len(whole))]
    assert _decode(singly) == _expected(case)
    assert _decode(piece for single in singly for piece in (b"", single, b"")) == _expected(case)


@pytest.mark.parametrize("case", _cases("decode", "cases"))
def test_a_stream_decodes_at_every_single_cut(case: dict[str, Any]) -> None:
    """No place to cut a stream in two changes what it says."""
    whole = b"".join(_pieces(case))
    for cut in range(len(whole) + 1):
        assert _decode([whole[:cut], whole[cut:]]) == _expected(case), f"cut at {cut}"


def test_the_decode_vectors_are_many_and_distinct() -> None:
    """The table does not shrink unnoticed, and each case names its section."""
    cases = _load("decode")["cases"]
    assert len(cases) >= 80
    assert len({case["name"] for case in cases}) == len(cases)
    assert {case["section"] for case in cases} == {"9.2.5", "9.2.6"}


@pytest.mark.parametrize("case", _cases("encode", "cases"))
def test_an_event_encodes_to_exactly_this_frame(case: dict[str, Any]) -> None:
    """Field order, line ends and spaces are fixed, and the frame is one event again."""
    frame = encode(Event(**case["event"]))
    assert frame.decode() == case["frame"]
    assert len(Decoder().feed(frame)) == 1


@pytest.mark.parametrize("case", _cases("encode", "refused"))
def test_an_event_that_could_be_misread_is_refused(case: dict[str, Any]) -> None:
    """The error names the field, the character and its place."""
    with pytest.raises(InvalidInput) as caught:
        encode(Event(**case["event"]))
    assert (caught.value.field, caught.value.problem) == (case["field"], case["problem"])


@pytest.mark.parametrize("case", _cases("control", "cases"))
def test_a_control_event_is_exactly_these_bytes(case: dict[str, Any]) -> None:
    """What the hub says by itself does not drift."""
    assert BUILD[case["build"]](**case["arguments"]).decode() == case["frame"]


@pytest.mark.parametrize("case", _cases("control", "refused"))
def test_a_control_event_that_could_be_misread_is_refused(case: dict[str, Any]) -> None:
    """The error names the argument at fault."""
    with pytest.raises(InvalidInput) as caught:
        BUILD[case["build"]](**case["arguments"])
    assert caught.value.field == case["field"]


@pytest.mark.parametrize("case", _load("position")["valid"], ids=lambda case: case["text"])
def test_a_position_is_read_and_written(case: dict[str, Any]) -> None:
    """A valid position has one wire form and no other."""
    position = Position.parse(case["text"])
    assert position == Position(case["epoch"], case["offset"])
    assert str(position) == case["text"]


@pytest.mark.parametrize("text", _load("position")["invalid"], ids=repr)
def test_what_is_no_position_is_not_read_as_one(text: str) -> None:
    """Signs, leading zeros, other digits and anything around a position make it unknown."""
    assert Position.parse(text) is None


@pytest.mark.parametrize("case", _load("position")["last_event_id"], ids=lambda case: repr(case["value"]))
def test_a_last_event_id_has_one_of_three_forms(case: dict[str, Any]) -> None:
    """A position, a resume token before a position, or an unknown position, as spec/protocol.md says."""
    match = _RESUME.fullmatch(case["value"])
    token, rest = (match[1], match[2]) if match else (None, case["value"])
    position = Position.parse(rest)
    form = "unknown" if position is None else "position" if token is None else "resume"
    assert form == case["form"]
    if position is not None:
        assert (token, str(position)) == (case.get("token"), case["position"])
