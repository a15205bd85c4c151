"""The hub's shared window on the log: the newest frames, each encoded at most once per framing."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence

from .. import wire
from ..brokers import Entry
from ..subscription import TopicSet

__all__ = ["Frame", "Framer", "Window"]


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
    """Joins frames for many streams; equal lists of frames are joined once per framing (WHY 31)."""

    __slots__ = ("_cache",)

    def __init__(self) -> None:
        self._cache: dict[object, bytes | list[bytes]] = {}

    def join(self, frames: Sequence[Frame], token: bytes | None, envelope: bool, chunked: bool) -> bytes:
        """Return the bytes of ``frames`` for a stream with that token (None: plain ids) and framing."""
        offsets: object = frames[0].offset if len(frames) == 1 else tuple([frame.offset for frame in frames])
        key = (offsets, envelope, chunked, token is None)
        shared = self._cache.get(key)
        if shared is None:
            shared = self._cache[key] = _encode([frame.tail(envelope) for frame in frames], token, chunked)
        return shared if token is None else token.join(shared)  # type: ignore[return-value, arg-type]


def _encode(tails: list[bytes], token: bytes | None, chunked: bool) -> bytes | list[bytes]:
    """Return what streams share: all the bytes, or the parts around their tokens, which have one length."""
    if token is None:
        joined = wire.join_plain(tails)
        return b"%x\r\n%b\r\n" % (len(joined), joined) if chunked else joined
    parts = wire.sealed_parts(tails)
    if chunked:
        size = sum(map(len, parts)) + len(tails) * len(token)
        parts[0] = b"%x\r\n%b" % (size, parts[0])
        parts[-1] += b"\r\n"
    return parts


class Window:
    """The newest frames with an index per topic, and what it can vouch for (WHY 6).

    It covers a topic only after the offset from which the hub's own subscription to that topic was confirmed
    and caught up, and only down to the newest frame of that topic that it let go.
    """

    def __init__(self, *, count: int, size: int) -> None:
        self._count = count
        self._limit = size
        self._frames: deque[Frame] = deque()
        self._by_topic: dict[str, list[Frame]] = {}
        self._covered: dict[str, int] = {}
        self._floor = 0
        self._size = 0
        self.head = 0

    def __len__(self) -> int:
        """Count the frames held."""
        return len(self._frames)

    @property
    def size(self) -> int:
        """Characters of data held."""
        return self._size

    def cover(self, name: str, confirmed: int) -> None:
        """Start to vouch for a topic or pattern, from the offset its subscription was confirmed at."""
        self._covered[name] = max(confirmed, self._floor)

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

    def append(self, frame: Frame) -> None:
        """Take the next frame of the log."""
        self._frames.append(frame)
        self._size += len(frame.entry.data)
        self.head = frame.offset
        for topic in frame.entry.topics:
            self._by_topic.setdefault(topic, []).append(frame)
        while len(self._frames) > self._count or (self._size > self._limit and len(self._frames) > 1):
            self._drop()

    def read(self, topics: TopicSet, after: int) -> Iterable[Frame]:
        """Yield the frames of these topics after an offset, in order."""
        if not topics.patterns and len(topics.exact) == 1:
            (name,) = topics.exact
            return _newer(self._by_topic.get(name), after)
        found = {f.offset: f for name in topics.exact for f in _newer(self._by_topic.get(name), after)}
        if topics.patterns:
            for frame in reversed(self._frames):
                if frame.offset <= after:
                    break
                if topics.matches(frame.entry.topics):
                    found[frame.offset] = frame
        return [found[offset] for offset in sorted(found)]

    def _drop(self) -> None:
        frame = self._frames.popleft()
        self._floor = frame.offset
        self._size -= len(frame.entry.data)
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
