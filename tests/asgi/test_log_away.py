"""What people see while the log is away: at the start, in the middle, and when it returns."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from asgi.conftest import HubFixture, MakeHubFixture
from asgi.driver import PATIENCE, SECRET, STATUS, STREAM, Stream, bearer, request
from redis_servers import RedisServer, redis_server
from servers import free_port
from sseal import Hub, HubSettings
from sseal.errors import InvalidInput
from sseal.storage.redis import Link
from sseal.testing import ManualClock

SHOP = bearer("shop", publish=["**"], subscribe=["**"])
EVENT = {"topic": "room/a", "data": "x"}
ANSWER_WITHIN = 2.5
"""Seconds in which one of several answers comes: two are promised, and the machine may be busy."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """Run a Redis that forgets nothing."""
    with redis_server(tmp_path / "redis", "redis", "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture
async def fixture(make_fixture: MakeHubFixture, server: RedisServer) -> AsyncIterator[HubFixture]:
    """Return a hub on it."""
    fixture = await make_fixture(broker=server.url, window_count=2)
    yield fixture
    server.thaw() if server.process else server.start()


async def until_published(fixture: HubFixture, data: str) -> None:
    """Publish until the log takes it."""
    async with asyncio.timeout(4 * PATIENCE):
        while (await fixture.ask("POST", "/events", SHOP, json={**EVENT, "data": data, "key": data})).status != 201:
            await asyncio.sleep(0.05)


async def opened(fixture: HubFixture, headers: Any = SHOP) -> tuple[Stream, str]:
    """Open a stream; return it and its first id."""
    stream = fixture.stream("/events?topic=room/a", headers)
    return stream, str((await stream.opened()).id)


async def test_a_hub_starts_before_its_log(tmp_path: Path) -> None:
    """It lives, refuses for now in a way an EventSource survives, and works once the log is there."""
    server = RedisServer(tmp_path / "redis", port=free_port())
    hub = Hub(HubSettings(broker=server.url, jwt_secret=(SECRET,), handle_signals=False), clock=ManualClock())
    fixture = HubFixture(hub, ManualClock())
    try:
        assert (await fixture.ask("GET", "/healthz")).status == 200
        assert (await fixture.ask("GET", "/readyz")).status == 503
        reply = await fixture.ask("POST", "/events", SHOP, json=EVENT)
        assert (reply.status, reply.json["code"]) == (503, "store_lost")
        assert reply.header("retry-after") is not None
        assert await fixture.try_stream("/events", {**SHOP, **STATUS}) == 503
        native = fixture.stream("/events?ticket=" + "a" * 26, STREAM)
        assert (await native.rest())[-1].json == {"reason": "store_lost", "reconnect": True}
        server.start()
        async with asyncio.timeout(4 * PATIENCE):
            while (await fixture.ask("POST", "/events", SHOP, json={**EVENT, "key": "1"})).status != 201:
                fixture.hub._lifecycle._failed = None  # its second of rest is over
                await asyncio.sleep(0.05)
        assert (await fixture.ask("GET", "/readyz")).status == 200
    finally:
        await fixture.close()
        server.end()


async def test_a_log_that_can_never_be_used_stops_the_start(tmp_path: Path) -> None:
    """A server that evicts is refused with what to change; the setting is named, and no password shown (W26)."""
    options = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with redis_server(tmp_path / "redis", "redis", *options) as server:
        hub = Hub(HubSettings(broker=server.url, handle_signals=False))
        with pytest.raises(InvalidInput, match=r"broker: .*maxmemory-policy is allkeys-lru.*noeviction"):
            await hub.start()
        await hub.aclose()


@pytest.mark.parametrize("target", ["/healthz", "/events", "/auth/sse"])
async def test_why_a_hub_cannot_start_is_told_to_its_operator_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, target: str
) -> None:
    """Callers learn of no path, server or setting, and that it is no fault of their request; the log has it all."""
    file = tmp_path / "private" / "hub.db"
    file.parent.mkdir()
    file.write_bytes(b"no database" * 1000)
    hub = Hub(HubSettings(broker=f"sqlite:///{file}", handle_signals=False))
    reply = await request(hub.asgi, "GET", target)
    assert (reply.status, reply.json["code"]) == (500, "internal")
    assert b"private" not in reply.body
    assert b"broker" not in reply.body
    assert f"the hub cannot start: broker: {file} is damaged" in caplog.text


@pytest.mark.parametrize("how", ["frozen", "killed"])
async def test_publishing_is_refused_in_time_and_works_again(
    fixture: HubFixture, server: RedisServer, how: str
) -> None:
    """Never a 201 without the log: 503 within two seconds, with Retry-After; on return nothing is lost or doubled."""
    stream, _ = await opened(fixture)
    await until_published(fixture, "before")
    server.freeze() if how == "frozen" else server.end(signal.SIGKILL)
    waits = []
    for number in range(3):
        start = time.monotonic()
        reply = await fixture.ask("POST", "/events", SHOP, json={**EVENT, "data": "lost", "key": f"k{number}"})
        assert reply.status == 503
        assert reply.json["code"] in ("broker_lost", "outcome_unknown")
        assert reply.header("retry-after") is not None
        waits.append(time.monotonic() - start)
    assert min(waits) < ANSWER_WITHIN
    ready = await fixture.ask("GET", "/readyz")
    assert ready.status == 503
    assert "no canary has come back since" in ready.json["detail"]
    assert (await fixture.ask("GET", "/healthz")).status == 200
    server.thaw() if how == "frozen" else server.start()
    await until_published(fixture, "after")
    seen = []
    while (event := await stream.event()).data != "after":
        seen.append((event.type, event.data))
    assert seen[0] == ("message", "before")
    # What was refused as unknown may have been taken, at most once each.
    assert seen[1:] in ([("message", "lost")] * n for n in range(4))
    assert stream.status == 200


async def test_streams_stay_open_and_what_needs_no_history_goes_through(
    fixture: HubFixture, server: RedisServer
) -> None:
    """Heartbeats go on; a new stream is let in, one that missed something the window has not is told to come back."""
    first, start = await opened(fixture)
    for number in range(4):
        await until_published(fixture, str(number))
    while (await first.event()).data != "3":
        pass  # an acknowledged event may still be on its way to this hub
    server.freeze()
    async with asyncio.timeout(4 * PATIENCE):
        while fixture.node.broker.lost_since is None:
            await fixture.ask("POST", "/events", SHOP, json={**EVENT, "key": "k"})
    fresh, head = await opened(fixture)
    assert fresh.status == 200
    assert await fixture.try_stream("/events?topic=room/a", {**SHOP, "last-event-id": head}) == 200
    behind = await fixture.ask("GET", "/events?topic=room/a", {**SHOP, "last-event-id": start})
    assert (behind.status, behind.json["code"]) == (503, "broker_lost")
    assert len(fixture.node.connections) >= 2
    server.thaw()
    await until_published(fixture, "after")
    while (event := await fresh.event()).data != "after":
        assert event.data == "x"  # the outcome of that one was unknown


async def test_revocations_of_other_hubs_are_heard_before_anything_else(
    make_fixture: MakeHubFixture, server: RedisServer, fixture: HubFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub that was away ends revoked streams before it delivers what was published meanwhile (W17)."""
    may_return = asyncio.Event()
    connect = Link._connect

    async def held(link: Link, field: str) -> None:
        if link in away:
            await may_return.wait()
        await connect(link, field)

    away = (fixture.node.broker._link, fixture.hub._parts.store._link)
    monkeypatch.setattr(Link, "_connect", held)
    other = await make_fixture(broker=server.url)
    victim = fixture.stream("/events?topic=room/a", bearer("eve", jti="t1", subscribe=["**"]))
    await victim.opened()
    server.command("CLIENT", "KILL", "TYPE", "pubsub")
    root = bearer("root", admin=True)
    async with asyncio.timeout(4 * PATIENCE):
        while (await other.ask("POST", "/admin/revocations", root, json={"jti": "t1"})).status != 201:
            await asyncio.sleep(0.02)  # that hub's connection was killed too
    await until_published(other, "secret")
    may_return.set()
    rest = await victim.rest()
    assert rest[-1].json["reason"] == "revoked"
    assert all(event.data != "secret" for event in rest)
