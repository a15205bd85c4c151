"""The fan-out: new frames to every live stream that reads them, in slices, each batch as one write."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Final

from ..clock import Clock
from ..errors import TooManyRequests
from ..hub_settings import HubSettings
from ..storage import Broker
from ..stream.connection import HIGH_WATER, Connection
from ..stream.states import State
from .page_cache import BATCH_COUNT, BATCH_SIZE
from .replay import Replay
from .slow_readers import SlowReaders
from .stats import Stats
from .topic_index import Group, TopicIndex
from .window import Frame, Framer

__all__ = ["FanOut"]

SLICE: Final = 0.002
"""Seconds of fan-out before other callbacks get their turn (10,000 writes in one go block 0.12 s)."""
SHORT_SLICE: Final = 0.0005
"""The same while some events wait, but fewer than `ENOUGH`: publishers get more turns, so that the next batch
joins more events and costs less for each."""
ENOUGH: Final = 32
"""Events that wait; more of them are joined anyway, and would only wait longer."""
CHECK_EVERY: Final = 32
"""Writes between two looks at the clock."""
GATHER_EVERY: Final = 256
"""Groups put into runs between two looks at the clock."""
_FROM_DIGITS: Final = bytes.maketrans(b"01", b"\0\1")

Run = tuple[int, int, int, Framer, list[Connection]]
"""What some streams are given of a batch: first offset, last offset, number of frames, their bytes; the streams."""

logger = logging.getLogger("sseal.delivery")


class FanOut:
    """Frames that wait, and the batch that is being written.

    :param broker: the log, for its time.
    :param index: which streams read what.
    :param slow_readers: told of a stream whose sink has passed the high-water mark.
    :param replay: restarts all live streams when a batch could not be written to its end.
    """

    def __init__(
        self,
        broker: Broker,
        clock: Clock,
        settings: HubSettings,
        index: TopicIndex,
        stats: Stats,
        slow_readers: SlowReaders,
        replay: Replay,
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._settings = settings
        self._index = index
        self._stats = stats
        self._slow_readers = slow_readers
        self._replay = replay
        self._pending: list[Frame] = []  # not yet part of a batch
        self._writing: Iterator[None] | None = None  # the batch that is being written, one step for each slice
        self._handle: asyncio.Handle | None = None  # of the next slice
        self._room = asyncio.Event()  # set unless publishers have to wait

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._room = asyncio.Event()
        self._room.set()

    def stop(self) -> None:
        """Write nothing more."""
        if self._handle is not None:
            self._handle.cancel()

    @property
    def idle(self) -> bool:
        """Whether everything that was added has been written."""
        return not self._pending and self._writing is None

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        self._pending.append(frame)
        if self._writing is None and self._handle is None:
            self._handle = asyncio.get_running_loop().call_soon(self.run_slice)

    def forget(self) -> None:
        """Let go of what was not written yet."""
        self._pending.clear()
        self._writing = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._room.set()

    @property
    def overloaded(self) -> bool:
        """Whether publishing outruns the fan-out so far that publishers must wait (W29)."""
        if not self._pending:
            return False
        if len(self._pending) > self._settings.window_count // 2:
            return True
        return self._clock.monotonic() - self._pending[0].taken_at > self._settings.overload_after

    async def room(self, *, wait: bool) -> None:
        """Return when publishing may go on (W29).

        :raises TooManyRequests: it may not now, and ``wait`` is False.
        """
        while self.overloaded:
            if not wait:
                raise TooManyRequests("publishing outruns delivery", code="overloaded")
            self._room.clear()
            await self._room.wait()

    def run_slice(self) -> None:
        """Fan out for one slice of time, then let others run."""
        self._handle = None
        if self._writing is None:
            if not self._pending:
                return
            self._writing = self._write_batch(self._take_batch())
        try:
            next(self._writing)
        except StopIteration:
            self._writing = None
        except Exception:
            logger.exception("a fan-out failed; every stream reads on from where it was")
            self._writing = None
            self._replay.restart_live()
        if self._writing is None and not self._room.is_set() and not self.overloaded:
            self._room.set()
        if self._writing is not None or self._pending:
            self._handle = asyncio.get_running_loop().call_soon(self.run_slice)

    def _take_batch(self) -> list[Frame]:
        limit = BATCH_COUNT if self._settings.coalesce else 1
        size = count = 0
        for frame in self._pending:
            size += len(frame.entry.data)
            if count == limit or (count and size > BATCH_SIZE):
                break
            count += 1
        batch = self._pending[:count]
        del self._pending[:count]
        self._stats.fanouts += 1
        return batch

    def _slice_end(self) -> float:
        """Return when the slice that begins now ends, on the clock of ``time.perf_counter``."""
        return time.perf_counter() + (SHORT_SLICE if 0 < len(self._pending) < ENOUGH else SLICE)

    def _runs(self, batch: list[Frame]) -> Iterator[Run | None]:
        """Yield runs of streams that read the same frames of a batch, and None at the end of each slice."""
        now = self._broker.now()
        frames = [frame for frame in batch if frame.ends_at > now]
        count = len(frames)
        bits: dict[tuple[str, ...], int] = {}  # one for each frame, the first highest
        for index, frame in enumerate(frames):
            topics = frame.entry.topics
            bits[topics] = bits.get(topics, 0) | 1 << (count - 1 - index)
        if len(bits) == 1:
            (topics,) = bits
            yield frames[0].offset, frames[-1].offset, count, Framer(frames), self._index.streams(topics)
            return
        end = self._slice_end()
        read_by: dict[Group, int] = {}
        for topics, some in bits.items():
            for group in self._index.groups(topics):
                read_by[group] = read_by.get(group, 0) | some
            if time.perf_counter() > end:
                yield None
                end = self._slice_end()
        runs: dict[int, list[Connection]] = {}
        for number, (group, some) in enumerate(read_by.items()):
            runs.setdefault(some, []).extend(group.members.values())
            if not number % GATHER_EVERY and time.perf_counter() > end:
                yield None
                end = self._slice_end()
        for some, connections in runs.items():
            first, last = count - some.bit_length(), count - (some & -some).bit_length()
            chosen = format(some, f"0{count}b").encode().translate(_FROM_DIGITS)
            yield frames[first].offset, frames[last].offset, some.bit_count(), Framer(frames, chosen), connections

    def _write_batch(self, batch: list[Frame]) -> Iterator[None]:
        """Write a batch to every LIVE stream that reads it; yields at the end of each slice.

        This is the hot loop: what can be decided per run is decided outside of it, and `Connection.written` is
        spelled out in it. It writes to a stream iff that is LIVE and its position is below the frame's offset (W5).
        """
        stats, slow_readers, live = self._stats, self._slow_readers, State.LIVE
        written = 0
        end = self._slice_end()
        for run in self._runs(batch):
            if run is None or time.perf_counter() > end:
                yield
                end = self._slice_end()
            if run is None:
                continue
            first, last, count, shared, connections = run
            plain = shared.plain
            for connection in connections:
                position = connection.position
                if connection.state is not live or position >= last:
                    continue
                sink = connection.sink
                assert sink is not None
                if position < first:
                    if connection.token is None:
                        data = plain[connection.framing]
                        sink.put(data if data is not None else shared.encode(connection))
                    else:
                        sink.put(shared.encode(connection))
                    connection.delivered += count
                else:
                    rest = [frame for frame in shared.frames if frame.offset > position]
                    sink.put(Framer(rest).encode(connection))
                    connection.delivered += len(rest)
                    stats.delivered -= count - len(rest)
                connection.position = last  # not before: what cannot be encoded is read again
                if not sink.clear and sink.buffered > HIGH_WATER:
                    slow_readers.on_full(connection)
                written += 1
                if not written % CHECK_EVERY and time.perf_counter() > end:
                    yield
                    end = self._slice_end()
            stats.delivered += written * count
            stats.writes += written
            written = 0
