"""Questions to the log about single topics: what is their newest event, and is there one in a range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from .codec import entries_of
from .interest import LOG_CHANNEL, topic_of
from .link import Link
from .replies import number, optional_bytes

__all__ = ["has_events", "head_of_log", "newest_of"]

_STEP: Final = 1000
"""Topics in one command."""
_Values = list[bytes | None]


async def head_of_log(link: Link) -> int:
    """Return the offset of the newest event, 0 for an empty log."""
    (head,) = msgspec.convert(await link.call("HMGET", f"{link.prefix}meta", "head"), _Values)
    return int(head or 0)


async def newest_of(link: Link, channels: Sequence[str], head: int) -> list[int]:
    """Return the offset of the newest event of each channel, at most ``head``."""
    found: list[int] = []
    for start in range(0, len(channels), _STEP):
        some = channels[start : start + _STEP]
        topics = [topic_of(channel) for channel in some]
        known = msgspec.convert(await link.call("MGET", *(f"{link.prefix}head:{topic}" for topic in topics)), _Values)
        # Of a topic whose last event was trimmed only that is known.
        trimmed = msgspec.convert(await link.call("ZMSCORE", f"{link.prefix}trimmed", *topics), _Values)
        newest = [int(one or two or 0) for one, two in zip(known, trimmed, strict=True)]
        found += [head if channel == LOG_CHANNEL else n for channel, n in zip(some, newest, strict=True)]
    # What was published since the head was read may still be on its way.
    return [min(newest, head) for newest in found]


async def has_events(
    link: Link, channel: str, after: int, upto: int, matches: Callable[[tuple[str, ...]], bool]
) -> bool:
    """Tell whether there was an event ``after < offset <= upto`` on a channel.

    :param matches: which topics count, for `LOG_CHANNEL`.
    """
    if channel == LOG_CHANNEL:
        reply = await link.call("XRANGE", f"{link.prefix}log", f"({after}-0", f"{upto}-0")
        return any(matches(entry.topics) for entry in entries_of(reply))
    topic = topic_of(channel)
    if number(await link.call("ZCOUNT", f"{link.prefix}topic:{topic}", f"({after}", upto)):
        return True
    trimmed = optional_bytes(await link.call("ZSCORE", f"{link.prefix}trimmed", topic))
    return int(trimmed or 0) > after
