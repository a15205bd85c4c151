"""A SQLite file that is cut short or spoilt under a running hub: refused with a reason, and a hub that is cut off."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asgi.driver import SECRET, open_stream, request
from sseal import Hub, HubSettings
from sseal.auth.jwt import sign
from sseal.storage.sqlite import watcher

ASKED: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/admin/connections", ...),
    ("POST", "/auth/sse", {}),
    ("POST", "/events", {"topic": "a", "data": "x"}),
    ("POST", "/admin/revocations", {"jti": "j"}),
    ("GET", "/readyz", ...),
)


def admin() -> dict[str, str]:
    """Return the header of somebody who may do everything."""
    now = time.time()
    grants = {"subscribe": ["**"], "publish": ["**"], "admin": True}
    return {
        "authorization": f"Bearer {sign({'sub': 'root', 'iat': now - 60, 'exp': now + 600, 'sseal': grants}, SECRET)}"
    }


@pytest.fixture
async def hub(tmp_path: Path, time_unit: float) -> AsyncIterator[Hub]:
    """Return a hub on a file with some events; it is cut off after ten time units."""
    settings = HubSettings(
        broker=f"sqlite:///{tmp_path}/hub.db", jwt_secret=(SECRET,), cut_off_after=10 * time_unit, handle_signals=False
    )
    made = Hub(settings)
    await made.start()
    for number in range(50):
        await made.publish("a", f"{number:1000}")
    yield made
    await made.aclose()


def settle(folder: Path) -> None:
    """Have everything in the file itself and nothing in the log beside it."""
    connection = sqlite3.connect(folder / "hub.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


async def until_lost(hub: Hub, time_unit: float) -> None:
    """Wait until the hub knows that its file cannot be relied on."""
    async with asyncio.timeout(100 * time_unit):
        while hub.node.lost_since is None:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("size", [0, 100, 4096, 40960])
async def test_a_hub_whose_file_was_cut_short_is_cut_off(
    hub: Hub, tmp_path: Path, time_unit: float, caplog: pytest.LogCaptureFixture, size: int, settled: bool
) -> None:
    """Nothing is a 500, nothing is written any more, and the streams are sent away, though nobody asks for anything."""
    if settled:
        settle(tmp_path)
    stream = open_stream(hub.asgi, "/events", admin())
    await stream.opened()
    os.truncate(tmp_path / "hub.db", size)
    await until_lost(hub, time_unit)
    for _ in range(2):
        statuses = {
            path: (await request(hub.asgi, method, path, admin(), json=body)).status for method, path, body in ASKED
        }
        assert {**statuses, "/admin/connections": 503} == dict.fromkeys(statuses, 503)
        assert statuses["/admin/connections"] in (200, 503)  # it may be known without the file
    last = await stream.rest()
    assert last[-1].json == {"reason": "cut_off", "reconnect": True}
    refused = open_stream(hub.asgi, "/events", {**admin(), "accept": "text/event-stream, application/problem+json"})
    assert (await refused.refused()).status == 503
    assert not [
        record for record in caplog.records if record.levelno >= logging.ERROR and "request failed" in record.msg
    ]
    said = [record.getMessage() for record in caplog.records if record.name == "sseal.sqlite"]
    assert any("damaged; stop every hub and restore a backup" in line for line in said)


async def test_a_file_that_takes_no_heartbeat_is_lost(
    hub: Hub, tmp_path: Path, time_unit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file spoilt at the same size is noticed by the next heartbeat, though nobody reads or writes anything."""
    monkeypatch.setattr(watcher, "HEARTBEAT_INTERVAL", time_unit)
    settle(tmp_path)
    stream = open_stream(hub.asgi, "/events", admin())
    await stream.opened()
    size = (tmp_path / "hub.db").stat().st_size
    with (tmp_path / "hub.db").open("r+b") as file:
        file.write(os.urandom(size))
    await until_lost(hub, time_unit)
    assert (await stream.rest())[-1].json["reason"] == "cut_off"


async def test_a_file_that_was_vacuumed_is_whole(hub: Hub, tmp_path: Path, time_unit: float) -> None:
    """A file may get smaller by what SQLite itself does: that is no damage."""
    settle(tmp_path)
    before = (tmp_path / "hub.db").stat().st_size
    connection = sqlite3.connect(tmp_path / "hub.db")
    connection.execute("DELETE FROM event")
    connection.commit()
    connection.execute("VACUUM")
    connection.close()
    settle(tmp_path)
    assert (tmp_path / "hub.db").stat().st_size < before
    for _ in range(5):
        await hub.publish("a", "on")
        await asyncio.sleep(time_unit)
        assert hub.node.lost_since is None
