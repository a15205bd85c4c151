"""The hub's shared window on the log: the newest frames, each encoded at most once per framing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import compress
from math import inf
from sys import getsizeof
from typing import Final

from .. import wire
from ..position import Position
from ..storage import Entry
from ..stream.connection import Connection
from ..subscription import TopicSet

__all__ = ["Frame", "Framer", "Window"]

SCAN: Final = 1_000
"""Frames that one read looks through for patterns: about half a millisecond."""
READ: Final = 512
"""Frames that one read takes of all its exact topics together, but"""
READ_FROM_EACH: Final = 64
"""of each so many at least: two joined writes, or with many topics a quarter of one."""
FRAME_OVERHEAD: Final = 600
"""Bytes of a frame and its entry beside the text, measured with sys.getsizeof over their parts."""


class Frame:
    """An entry of the log and its encoded forms, made on first use.

    :ivar ends_at: Unix seconds at which its time to live is over.
    :ivar cost: bytes it may come to hold: its text, and as much again for each encoded form.
    :ivar plain: what `tail` has encoded, if it has.
    """

    __slots__ = ("_envelope", "cost", "ends_at", "entry", "offset", "plain", "position", "taken_at")

    def __init__(self, entry: Entry, epoch: str, taken_at: float = 0.0) -> None:
        self.entry = entry
        self.taken_at = taken_at  # monotonic seconds
        self.offset = entry.offset
        self.position = f"{epoch}-{entry.offset}"
        self.ends_at = inf if entry.expires_at is None else entry.expires_at
        self.cost = 3 * getsizeof(entry.data) + FRAME_OVERHEAD
        self.plain: bytes | None = None
        self._envelope: bytes | None = None  # the same as one JSON envelope

    def tail(self, envelope: bool) -> bytes:
        """Return the frame without its start, ``id: `` and perhaps a token, plain or as one JSON envelope."""
        if envelope:
            if self._envelope is None:
                entry = self.entry
                data = wire.envelope_data(entry.topics[0], entry.type, entry.data)
                self._envelope = wire.frame_tail(self.position, "message", data, entry.topics[0], entry.retry)
            return self._envelope
        if self.plain is None:
            entry = self.entry
            self.plain = wire.frame_tail(self.position, entry.type, entry.data, entry.topics[0], entry.retry)
        return self.plain

    def alive(self, now: float) -> bool:
        """Tell whether its time to live is not over at ``now`` (Unix seconds)."""
        return self.ends_at > now


class Framer:
    """The bytes of some frames, encoded at most once per framing and shared by many streams (W31).

    :param batch: frames in order.
    :param chosen: one byte for each of them, 0 for those that are left out; None to take all.
    :ivar plain: per `Connection.framing` the bytes for streams without resume tokens, None until asked for.
    """

    __slots__ = ("_batch", "_chosen", "_parts", "plain")

    def __init__(self, batch: Sequence[Frame], chosen: bytes | None = None) -> None:
        self._batch = batch
        self._chosen = chosen
        self._parts: dict[int, list[bytes]] = {}  # per framing what stands around the starts of the frames
        self.plain: list[bytes | None] = [None] * 4

    @property
    def frames(self) -> Sequence[Frame]:
        """The frames whose bytes these are."""
        return self._batch if self._chosen is None else list(compress(self._batch, self._chosen))

    def encode(self, connection: Connection) -> bytes:
        """Return the bytes for one stream: shared, or shared parts with its token between them."""
        framing, token = connection.framing, connection.token
        if token is None:
            data = self.plain[framing]
            if data is None:
                data = self.plain[framing] = wire.FRAME_START.join(self._between(framing, len(wire.FRAME_START)))
            return data
        start = wire.sealed_start(token)
        parts = self._parts.get(framing)
        if parts is None:
            parts = self._parts[framing] = self._between(framing, len(start))
        return start.join(parts)

    def _between(self, framing: int, start: int) -> list[bytes]:
        """Return what stands around the starts of the frames; all are of one length, so chunks are of one size."""
        frames = self._batch if self._chosen is None else compress(self._batch, self._chosen)
        if framing >= 2:
            parts = [b"", *[frame.tail(envelope=True) for frame in frames]]
        else:
            parts = [b"", *[frame.plain or frame.tail(envelope=False) for frame in frames]]
        if framing & 1:
            parts[0] = b"%x\r\n" % (sum(map(len, parts)) + (len(parts) - 1) * start)
            parts[-1] += b"\r\n"
        return parts


class Window:
    """The newest frames with an index per topic, and what it can vouch for (W6).

    It covers a topic only after the offset from which the hub's own subscription to that topic was confirmed
    and caught up, and only down to the newest frame of that topic that it let go.

    :param count: frames it holds at most.
    :param size: bytes it holds at most, each frame counted with its text and both encoded forms.
    :ivar epoch: the log's epoch, empty before the first `begin`.
    :ivar head: offset up to which the log was taken in.
    """

    def __init__(self, *, count: int, size: int) -> None:
        self._max_count = count
        self._max_size = size
        self.begin("", 0)

    def begin(self, epoch: str, head: int) -> None:
        """Begin anew in an epoch of the log, at its head, with nothing held and nothing vouched for."""
        self.epoch = epoch
        self.head = head
        self._frames: list[Frame] = []  # in order; those before `_start` were let go
        self._start = 0
        self._by_topic: dict[str, list[Frame]] = {}
        self._covered: dict[str, int] = {}  # per topic or pattern the offset after which every frame is here
        self._floor = 0  # offset of the newest frame that was let go
        self._size = 0  # bytes held, as `Frame.cost` counts them

    @property
    def position(self) -> Position:
        """The position at the head."""
        return Position(self.epoch, self.head)

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
        while len(self) > self._max_count or (self._size > self._max_size and len(self) > 1):
            self._drop()

    def skip_to(self, offset: int) -> None:
        """Move the head past what nobody reads, or what the readers are to get from the log; never back."""
        self.head = max(self.head, offset)

    def expire(self, before: float) -> None:
        """Let go of what was published before that time (Unix seconds): the log does not give it either."""
        while len(self) and self._frames[self._start].entry.published_at < before:
            self._drop()

    def read(self, topics: TopicSet, after: int) -> tuple[list[Frame], int]:
        """Return the next frames of these topics after an offset, in order, and the offset up to which that is all.

        That is the head for whoever is near it. One read looks through a bounded number of frames, so that nobody
        waits long; whoever is further behind reads again.
        """
        if topics.patterns:
            start = bisect_right(self._frames, after, lo=self._start, key=_offset)
            step = self._frames[start : start + SCAN]
            match = topics.matcher()
            upto = self.head if start + SCAN >= len(self._frames) else step[-1].offset
            return [frame for frame in step if match(frame.entry.topics)], upto
        indexes = [index for name in topics.exact if (index := self._by_topic.get(name)) and index[-1].offset > after]
        parts = [(index, bisect_right(index, after, key=_offset)) for index in indexes]
        parts.sort(key=lambda part: part[0][part[1]].offset)
        each = max(READ_FROM_EACH, READ // max(1, len(parts)))
        upto = self.head
        found: dict[int, Frame] = {}
        for index, start in parts:
            if index[start].offset > upto:
                break  # nor has any other topic something before that
            end = start + each
            if end < len(index):
                upto = min(upto, index[end - 1].offset)
            found |= {frame.offset: frame for frame in index[start:end]}
        return [found[offset] for offset in sorted(found) if offset <= upto], upto

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


def _offset(frame: Frame) -> int:
    return frame.offset
