"""The bytes that streams share: all frames of a batch or some, plain or sealed, bare or as one chunk."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseal import wire
from sseal.delivery.window import Frame, Framer
from sseal.storage import Entry

TOKENS = [b"k" * 43, b"q" * 43]


def frame(offset: int) -> Frame:
    """Make a frame whose data names it."""
    return Frame(Entry(offset, ("orders",), "message", f"event {offset}", 0.0), "e" * 8)


def reader(token: bytes | None, framing: int) -> Any:
    """Make what `Framer.encode` looks at of a stream."""
    return SimpleNamespace(token=token, framing=framing)


def unchunked(data: bytes, framing: int) -> bytes:
    """Take the body out of one chunk, whose size must be right (RFC 9112 section 7.1)."""
    if not framing & 1:
        return data
    size, rest = data.split(b"\r\n", 1)
    assert re.fullmatch(rb"[0-9a-f]+", size)
    body, end = rest[: int(size, 16)], rest[int(size, 16) :]
    assert end == b"\r\n"
    return body


@pytest.mark.parametrize("framing", range(4))
@given(chosen=st.lists(st.booleans(), min_size=1, max_size=40).filter(any))
def test_a_framer_gives_each_stream_the_chosen_frames_and_nothing_else(framing: int, chosen: list[bool]) -> None:
    """Whatever is chosen, shared bytes are the frames one by one, in one chunk, with each stream's own token."""
    frames = [frame(offset) for offset in range(1, len(chosen) + 1)]
    wanted = [f for f, taken in zip(frames, chosen, strict=True) if taken]
    some = Framer(frames, bytes(chosen))
    whole = Framer(wanted)
    assert list(some.frames) == list(whole.frames) == wanted
    for token in (None, *TOKENS, None, *TOKENS):
        expected = b"".join(
            (wire.FRAME_START if token is None else wire.sealed_start(token)) + f.tail(framing >= 2) for f in wanted
        )
        for framer in (some, whole):
            assert unchunked(framer.encode(reader(token, framing)), framing) == expected
