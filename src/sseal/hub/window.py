"""The hub's shared window on the log: the newest frames, each encoded at most once per framing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from sys import getsizeof
from typing import Final

from .. import wire
from ..brokers import Entry
from ..stream.connection import Connection
from ..subscription import TopicSet

__all__ = ["Frame", "Framer", "Window"]

SCAN: Final = 1_000
"""Frames that one read looks through for patterns: about half a millisecond."""
FRAME_OVERHEAD: Final = 600
"""Bytes of a frame and its entry beside the text, measured with sys.getsizeof over their parts."""


class Frame:
    """An entry of the log and its encoded forms, made on first use."""

    __slots__ = ("_envelope", "_plain", "entry", "offset", "position", "taken_at")

    def __init__(self, entry: Entry, epoch: str, taken_at: float = 0.0) -> None:
        self.entry = entry
        self.taken_at = taken_at
        self.offset = entry.offset
        self.position = f"{epoch}-{entry.offset}"
        self._plain: bytes | None = None
        self._envelope: bytes | None = None

    @property
    def cost(self) -> int:
        """Bytes this frame may come to hold: its text, and as much again for each encoded form."""
        return 3 * getsizeof(self.entry.data) + FRAME_OVERHEAD

    def tail(self, envelope: bool) -> bytes:
        """Return the frame without ``id: `` and token, plain or as one JSON envelope."""
        if envelope:
            if self._envelope is None:
                entry = self.entry
                data = wire.envelope_data(entry.topics[0], entry.type, entry.data)
                self._envelope = wire.frame_tail(self.position, "message", data, entry.topics[0], entry.retry)
            return self._envelope
        if self._plain is None:
            entry = self.entry
            self._plain = wire.frame_tail(self.position, entry.type, entry.data, entry.topics[0], entry.retry)
        return self._plain

    def alive(self, now: float) -> bool:
        """Tell whether its time to live is not over at ``now`` (Unix seconds)."""
        end = self.entry.expires_at
        return end is None or end > now


class Framer:
    """The bytes of some frames, encoded at most once per framing and shared by many streams (W31).

    :ivar plain: per `Connection.framing` the bytes for streams without resume tokens, None until asked for.
    """

    __slots__ = ("_frames", "_sealed", "plain")

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = frames
        self.plain: list[bytes | None] = [None] * 4
        self._sealed: list[list[bytes] | None] = [None] * 4

    def encode(self, connection: Connection) -> bytes:
        """Return the bytes for one stream: shared, or its token between shared parts."""
        framing, token = connection.framing, connection.token
        if token is None:
            data = self.plain[framing]
            if data is None:
                data = self.plain[framing] = self._join(framing)
            return data
        parts = self._sealed[framing]
        if parts is None:
            parts = self._sealed[framing] = self._part(framing, len(token))
        return token.join(parts)

    def _join(self, framing: int) -> bytes:
        joined = wire.join_plain(self._tails(framing))
        return b"%x\r\n%b\r\n" % (len(joined), joined) if framing & 1 else joined

    def _part(self, framing: int, token_length: int) -> list[bytes]:
        """Return what stands around the tokens; they have one length, so a chunk's size is shared too."""
        parts = wire.sealed_parts(self._tails(framing))
        if framing & 1:
            size = sum(map(len, parts)) + len(self._frames) * token_length
            parts[0] = b"%x\r\n%b" % (size, parts[0])
            parts[-1] += b"\r\n"
        return parts

    def _tails(self, framing: int) -> list[bytes]:
        return [frame.tail(framing >= 2) for frame in self._frames]


class Window:
    """The newest frames with an index per topic, and what it can vouch for (W6).

    It covers a topic only after the offset from which the hub's own subscription to that topic was confirmed
    and caught up, and only down to the newest frame of that topic that it let go.

    :param count: frames it holds at most.
    :param size: bytes it holds at most, each frame counted with its text and both encoded forms.
    """

    def __init__(self, *, count: int, size: int) -> None:
        self._count = count
        self._limit = size
        self._frames: list[Frame] = []
        self._start = 0
        self._by_topic: dict[str, list[Frame]] = {}
        self._covered: dict[str, int] = {}
        self._floor = 0
        self._size = 0
        self.head = 0

    def __len__(self) -> int:
        """Count the frames held."""
        return len(self._frames) - self._start

    def cover(self, name: str, confirmed: int) -> None:
        """Start to vouch for a topic or pattern, from the offset its subscription was confirmed at."""
        self._covered[name] = max(confirmed, self._floor, self._covered.get(name, 0))

    def vouches_for(self, name: str) -> bool:
        """Tell whether there is an offset from which on this topic or pattern is covered."""
        return name in self._covered

    def uncover(self, name: str) -> None:
        """Stop to vouch for a topic that the hub no longer listens to."""
        self._covered.pop(name, None)

    def covers(self, topics: TopicSet, after: int) -> bool:
        """Tell whether every frame of these topics after this offset is here."""
        covered = self._covered
        if topics.patterns and after < self._floor:
            return False
        return all(covered.get(name, after + 1) <= after for name in topics.exact) and all(
            covered.get(str(pattern), after + 1) <= after for pattern in topics.patterns
        )

    def head_of(self, topics: TopicSet) -> int:
        """Return the offset after which everything of these topics comes in: the head, unless one is that new."""
        covered = self._covered
        return max(self.head, *(covered.get(name, 0) for name in topics.names))

    def append(self, frame: Frame) -> None:
        """Take the next frame of the log."""
        self._frames.append(frame)
        self._size += frame.cost
        self.head = frame.offset
        for topic in frame.entry.topics:
            self._by_topic.setdefault(topic, []).append(frame)
        while len(self) > self._count or (self._size > self._limit and len(self) > 1):
            self._drop()

    def expire(self, before: float) -> None:
        """Let go of what was published before that time (Unix seconds): the log does not give it either."""
        while len(self) and self._frames[self._start].entry.published_at < before:
            self._drop()

    def read(self, topics: TopicSet, after: int) -> tuple[list[Frame], int]:
        """Return the frames of these topics after an offset, in order, and the offset up to which that is all.

        For exact topics that is the head; for patterns a step of `SCAN` frames, so that nobody waits long.
        """
        if topics.patterns:
            start = bisect_right(self._frames, after, lo=self._start, key=_offset)
            step = self._frames[start : start + SCAN]
            match = topics.matcher()
            upto = self.head if start + SCAN >= len(self._frames) else step[-1].offset
            return [frame for frame in step if match(frame.entry.topics)], upto
        if len(topics.exact) == 1:
            (name,) = topics.exact
            return _newer(self._by_topic.get(name), after), self.head
        found = {f.offset: f for name in topics.exact for f in _newer(self._by_topic.get(name), after)}
        return [found[offset] for offset in sorted(found)], self.head

    def _drop(self) -> None:
        frame = self._frames[self._start]
        self._start += 1
        if self._start > len(self._frames) // 2:
            del self._frames[: self._start]
            self._start = 0
        self._floor = frame.offset
        self._size -= frame.cost
        for topic in frame.entry.topics:
            index = self._by_topic[topic]
            del index[0]
            if not index:
                del self._by_topic[topic]
            if topic in self._covered:
                self._covered[topic] = max(self._covered[topic], frame.offset)


def _newer(index: list[Frame] | None, after: int) -> list[Frame]:
    if not index or index[-1].offset <= after:
        return []
    return index[bisect_right(index, after, key=_offset) :]


def _offset(frame: Frame) -> int:
    return frame.offset
