"""What a publisher was told, and what is sent to Redis in his name."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from redis_logs import publication
from sseal.errors import Unavailable
from sseal.storage.redis import append as appending
from sseal.storage.redis.append import Appender


class Link:
    """Takes scripts and answers that every call was appended."""

    channels = "sseal:"
    lost_for_long = False
    lost_since = None

    def __init__(self) -> None:
        self.appended: list[list[tuple[str, ...]]] = []

    async def run(self, script: object, epoch: str, nonce: str, channels: str, shape: bytes, *blobs: bytes) -> bytes:
        """Note the topics of each call."""
        calls: list[list[Any]] = msgspec.msgpack.decode(shape)
        self.appended += [[tuple(item[0]) for item in call] for call in calls]
        return msgspec.msgpack.encode([[number + 1] for number in range(len(calls))])


async def test_what_was_refused_as_not_published_is_not_sent_later(
    monkeypatch: pytest.MonkeyPatch, time_unit: float
) -> None:
    """A call that gave up while the log was away is left out when a younger one of its group is appended (W9)."""
    monkeypatch.setattr(appending, "PATIENCE", 2 * time_unit)
    link, back = Link(), asyncio.Event()

    async def epoch() -> str:
        await back.wait()
        return "aaaaaaaa"

    async def turn() -> None:
        """Never asked for."""

    appender = Appender(link, epoch, turn)  # type: ignore[arg-type]
    old = asyncio.create_task(appender.publish([publication("old")]))
    await asyncio.sleep(0)  # both calls are in one group, and the older one has less time left
    monkeypatch.setattr(appending, "PATIENCE", 100 * time_unit)
    young = asyncio.create_task(appender.publish([publication("young")]))
    with pytest.raises(Unavailable) as refusal:
        await old
    assert refusal.value.code == "broker_lost"
    back.set()
    assert await young == [1]
    assert link.appended == [[("young",)]]
    await appender.close()
