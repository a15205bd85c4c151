"""Pages of what streams missed, shared by all who read the same: cut and encoded once, kept for a moment."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import inf
from operator import attrgetter
from typing import Final

from .window import Frame, Framer

__all__ = ["BATCH_COUNT", "BATCH_SIZE", "CachedPage", "Key", "PageCache"]

BATCH_COUNT: Final = 256
BATCH_SIZE: Final = 64 * 1024
"""What one joined write may hold, unless a single event is larger: four times the high-water mark."""
CACHE_SIZE: Final = 32 * 1024 * 1024
"""Bytes of pages kept for others that catch up: twenty thousand ordinary events with their encoded forms."""
CACHE_TIMEOUT: Final = 5.0
"""Seconds a page is kept: a storm asks for it again within milliseconds."""
TIPS_SIZE: Final = 8 * 1024 * 1024
"""Bytes of what ends at the head, kept until the next event."""
PAGE_OVERHEAD: Final = 600
"""Bytes of a page beside its frames."""

Key = tuple[object, ...]
"""What two streams must have in common to be given the same page."""

_cost = attrgetter("cost")
_ends_at = attrgetter("ends_at")
_data = attrgetter("entry.data")


class CachedPage:
    """What some topics have between two offsets, cut into slices whose bytes are shared by all who read it (W31).

    :param after: it holds everything that comes after this offset,
    :param upto: up to and including this one. Neither changes within an epoch.
    :param lost: offset of the newest event after the start that was trimmed, 0 if none.
    """

    __slots__ = ("after", "cost", "ends", "lost", "made_at", "oldest", "slices", "soonest", "upto")

    def __init__(self, frames: Sequence[Frame], after: int, upto: int, lost: int = 0) -> None:
        self.after = after
        self.upto = upto
        self.lost = lost
        self.made_at = 0.0  # monotonic seconds; set by the cache that keeps it
        self.oldest = frames[0].entry.published_at if frames else inf  # Unix seconds
        self.slices: list[Framer] = []  # what is written at once
        self.ends: list[int] = []  # offset of the last frame of each slice
        for start, end in _slices(frames):
            self.slices.append(Framer(frames[start:end]))
            self.ends.append(frames[end - 1].offset)
        # Bytes it may come to hold, and Unix seconds at which the first of its frames has outlived its time.
        self.cost = PAGE_OVERHEAD + sum(map(_cost, frames))
        self.soonest = min(map(_ends_at, frames), default=inf)


class PageCache:
    """Pages that were read a moment ago, for streams with the same topics and rights that come a little later."""

    def __init__(self) -> None:
        self._pages: dict[Key, list[CachedPage]] = {}  # pages that end before the head
        self._size = 0  # bytes of all of them
        self._tips: dict[Key, CachedPage] = {}  # pages that end at the head, one for each key, oldest first
        self._tips_size = 0  # bytes of all of them

    def find(self, key: Key, after: int) -> CachedPage | None:
        """Return a page that holds what comes after an offset, and knows what is lost after it."""
        return next((page for page in self._pages.get(key, ()) if page.after <= after < page.upto), None)

    def add(self, key: Key, page: CachedPage, now: float) -> None:
        """Keep a page, if there is room."""
        if self._size + page.cost <= CACHE_SIZE:
            page.made_at = now
            self._pages.setdefault(key, []).append(page)
            self._size += page.cost

    def tip(self, key: Key, after: int, head: int) -> CachedPage | None:
        """Return a page that holds everything from an offset to the head."""
        page = self._tips.get(key)
        return page if page is not None and page.after <= after and page.upto == head else None

    def add_tip(self, key: Key, page: CachedPage, now: float) -> None:
        """Keep a page that ends at the head; it takes the place of the one before, or of the oldest."""
        page.made_at = now
        self._drop_tip(key)
        self._tips[key] = page
        self._tips_size += page.cost
        while self._tips_size > TIPS_SIZE:
            self._drop_tip(next(iter(self._tips)))

    def tidy(self, now: float, head: int, oldest: float) -> None:
        """Let go of what was made a while ago, does not end at the head any more, or is older than the log retains."""

        def good(page: CachedPage) -> bool:
            return now - page.made_at <= CACHE_TIMEOUT and page.oldest >= oldest

        for key, pages in list(self._pages.items()):
            kept = [page for page in pages if good(page)]
            self._size -= sum(page.cost for page in pages) - sum(page.cost for page in kept)
            if kept:
                self._pages[key] = kept
            else:
                del self._pages[key]
        for key, page in list(self._tips.items()):
            if page.upto != head or not good(page):
                self._drop_tip(key)

    def clear(self) -> None:
        """Let go of everything."""
        self._pages.clear()
        self._size = 0
        self._tips.clear()
        self._tips_size = 0

    def _drop_tip(self, key: Key) -> None:
        page = self._tips.pop(key, None)
        if page is not None:
            self._tips_size -= page.cost


def _slices(frames: Sequence[Frame]) -> Iterator[tuple[int, int]]:
    """Yield start and end of pieces of at most the batch bounds, or of one frame."""
    sizes = [0, *accumulate(map(len, map(_data, frames)))]
    start = 0
    while start < len(frames):
        fitting = bisect_right(sizes, sizes[start] + BATCH_SIZE) - 1
        end = min(max(start + 1, fitting), start + BATCH_COUNT)
        yield start, end
        start = end
