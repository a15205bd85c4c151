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

    async def run(
        self, script: object, epoch: str, nonce: str, channels: str, shape: bytes, *blobs: bytes
    ) -> list[list[int]]:
        """Note the topics of each call."""
        calls: list[list[Any]] = msgspec.msgpack.decode(shape)
        self.appended += [[tuple(item[0]) for item in call] for call in calls]
        return [[number + 1] for number in range(len(calls))]


class Epochs:
    """Knows the epoch once a test says so."""

    def __init__(self) -> None:
        self.known = asyncio.Event()

    async def writable_epoch(self) -> str:
        """Wait until it is known."""
        await self.known.wait()
        return "aaaaaaaa"

    async def check_epoch(self) -> None:
        """Never asked for."""
        raise NotImplementedError


async def test_what_was_refused_as_not_published_is_not_sent_later(
    monkeypatch: pytest.MonkeyPatch, time_unit: float
) -> None:
    """A call that gave up while the log was away is left out when a younger one of its group is appended (W9)."""
    monkeypatch.setattr(appending, "PUBLISH_TIMEOUT", 2 * time_unit)
    link, epochs = Link(), Epochs()
    appender = Appender(link, epochs)  # type: ignore[arg-type]
    old = asyncio.create_task(appender.publish([publication("old")]))
    await asyncio.sleep(0)  # both calls are in one group, and the older one has less time left
    monkeypatch.setattr(appending, "PUBLISH_TIMEOUT", 100 * time_unit)
    young = asyncio.create_task(appender.publish([publication("young")]))
    with pytest.raises(Unavailable) as refusal:
        await old
    assert refusal.value.code == "broker_lost"
    epochs.known.set()
    assert await young == [1]
    assert link.appended == [[("young",)]]
    await appender.close()
