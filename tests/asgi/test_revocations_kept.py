"""Revocations outlive a log that was emptied or put back, and a disk that is full (W17)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from asgi.conftest import HubFixture, MakeHubFixture
from asgi.driver import ADMIN, PATIENCE, T0, bearer
from redis_servers import ENGINES, RedisServer, redis_server
from sseal.auth.revocation import Revocation
from sseal.delivery import revocations
from sseal.errors import Unavailable

ROOT = bearer(**ADMIN)
REVOKED = bearer("mallory", jti="stolen")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocations, "WRITE_BACK_INTERVALS", (0.02, 0.1))


@pytest.fixture(params=ENGINES)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """Return an empty server."""
    with redis_server(tmp_path / request.param, request.param) as running:
        yield running


async def until(condition: Callable[[], Awaitable[Any]]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(4 * PATIENCE):
        while not await condition():
            await asyncio.sleep(0.02)


async def log_of(fixture: HubFixture) -> list[Revocation]:
    """Return what the log in the store says; nothing while it cannot be read."""
    try:
        entries = await fixture.hub._parts.store.revocations(0)
    except Unavailable:
        return []
    return [msgspec.json.decode(record, type=Revocation) for _, record in entries]


async def names(fixture: HubFixture) -> list[str]:
    """Return who and what the log names, sorted: a double would stand twice."""
    return sorted(f"{entry.kind}:{entry.value}" for entry in await log_of(fixture))


async def revoke_some(fixture: HubFixture) -> list[str]:
    """Revoke a token, a subject and a subject of an issuer; return what the log must name."""
    for body in ({"jti": "stolen"}, {"subject": "eve"}, {"subject": "carol", "issuer": "app"}):
        assert (await fixture.ask("POST", "/admin/revocations", ROOT, json=body)).status == 201
    return ["subject:carol", "subject:eve", "token:jti:stolen"]


async def follows(fixture: HubFixture, count: int) -> bool:
    """Tell whether a hub knows so many revocations."""
    return len(fixture.node.revocations) == count


async def test_hubs_write_back_what_an_emptied_server_forgot(server: RedisServer, make_fixture: MakeHubFixture) -> None:
    """Redis emptied, a hub restarted: the others know, so the revoked token stays out; nothing is written twice."""
    crew = [await make_fixture(broker=server.url) for _ in range(3)]
    expected = await revoke_some(crew[0])
    for fixture in crew:
        await until(lambda fixture=fixture: follows(fixture, 3))  # type: ignore[misc]
    server.command("FLUSHALL")
    for fixture in crew:
        fixture.hub.node.revocations.on_revocations()  # as every heartbeat does
    fresh = await make_fixture(broker=server.url)

    async def written() -> bool:
        return await names(fresh) == expected

    await until(written)
    await until(lambda: follows(fresh, 3))
    assert await fresh.try_stream("/events", REVOKED) == 401
    assert await fresh.try_stream("/events", bearer("eve")) == 401
    for fixture in crew:
        await fixture.hub.node.revocations.follow(anew=True)
    await asyncio.sleep(0.3)  # more than a write-back of the others would take
    assert await names(fresh) == expected


async def test_a_stream_let_in_by_a_hub_that_forgot_ends(server: RedisServer, make_fixture: MakeHubFixture) -> None:
    """Whoever slips in between the loss and the write-back is put out by it."""
    old = await make_fixture(broker=server.url)
    await revoke_some(old)
    server.restart(data=False)
    fresh = await make_fixture(broker=server.url)
    stream = fresh.stream("/events", REVOKED)
    if await stream.answered() == 200:
        assert (await stream.rest())[-1].json["reason"] in ("revoked", "cut_off")
    await until(lambda: follows(fresh, 3))
    assert await fresh.try_stream("/events", REVOKED) == 401


async def test_a_file_that_was_put_back_gets_its_revocations_again(
    tmp_path: Path, make_fixture: MakeHubFixture
) -> None:
    """A backup from before the revocations, put back under running hubs, is completed by them, once each."""
    file, backup = tmp_path / "hub.db", tmp_path / "backup.db"
    crew = [await make_fixture(broker=f"sqlite:///{file}") for _ in range(2)]
    source, target = sqlite3.connect(file), sqlite3.connect(backup)
    source.backup(target)
    expected = await revoke_some(crew[0])
    await until(lambda: follows(crew[1], 3))
    target.backup(source)
    source.close()
    target.close()

    async def written() -> bool:
        return await names(crew[0]) == expected

    await until(written)
    await asyncio.sleep(0.3)
    assert await names(crew[1]) == expected
    fresh = await make_fixture(broker=f"sqlite:///{file}")
    assert await fresh.try_stream("/events", REVOKED) == 401


async def test_what_has_run_out_is_not_written_back(make_fixture: MakeHubFixture, tmp_path: Path) -> None:
    """Only what is in force comes back, so a lost log does not grow by what nobody needs."""
    fixture = await make_fixture(broker=f"sqlite:///{tmp_path}/hub.db")
    await fixture.hub.node.revocations.apply(Revocation(kind="token", value="jti:short", at=T0, expires_at=T0 + 60))
    await fixture.hub.node.revocations.apply(Revocation(kind="token", value="jti:long", at=T0, expires_at=T0 + 6000))

    async def read() -> bool:
        return fixture.hub.node.revocations._seen == 2

    await until(read)
    connection = sqlite3.connect(tmp_path / "hub.db")
    connection.execute("DELETE FROM revocation")
    connection.commit()
    connection.close()
    fixture.clock.advance(61)
    await fixture.hub.node.revocations.follow()

    async def written() -> bool:
        return bool(await names(fixture))

    await until(written)
    assert await names(fixture) == ["token:jti:long"]


async def test_a_log_that_is_as_it_was_is_not_written_to(server: RedisServer, make_fixture: MakeHubFixture) -> None:
    """A connection that came back, or a look for its own sake, makes nobody write."""
    one, two = await make_fixture(broker=server.url), await make_fixture(broker=server.url)
    await revoke_some(one)
    await until(lambda: follows(two, 3))
    for fixture in (one, two):
        for anew in (False, True):
            await fixture.hub.node.revocations.follow(anew=anew)
        assert fixture.hub.node.revocations._writing_back is None


def fill(fixture: HubFixture) -> None:
    """Let the file of a hub grow no more: what its writer is told is what a full disk says."""

    def full(connection: sqlite3.Connection, items: Any) -> list[None]:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return [None for _ in items]

    return fixture.hub._parts.store._database.write(full, None)  # type: ignore[attr-defined, no-any-return]


def empty(fixture: HubFixture) -> Any:
    """Let it grow again."""

    def roomy(connection: sqlite3.Connection, items: Any) -> list[None]:
        connection.execute("PRAGMA max_page_count = 1000000")
        return [None for _ in items]

    return fixture.hub._parts.store._database.write(roomy, None)  # type: ignore[attr-defined]


async def test_with_a_full_disk_every_hub_ends_the_streams_all_the_same(
    tmp_path: Path, make_fixture: MakeHubFixture
) -> None:
    """The answer says that it is not durable; the other hub ends its streams; with room again it is written, once."""
    address = f"sqlite:///{tmp_path}/hub.db"
    one, two = await make_fixture(broker=address), await make_fixture(broker=address)
    streams = [fixture.stream("/events", bearer("mallory")) for fixture in (one, two)]
    for stream in streams:
        await stream.opened()
    for fixture in (one, two):
        await fill(fixture)
    for size in (3_000, 300, 30, 3):  # until not even a small one fits into the last pages
        while (await one.ask("POST", "/admin/revocations", ROOT, json={"jti": "x" * size})).status == 201:
            continue
    refused = await one.ask("POST", "/admin/revocations", ROOT, json={"subject": "mallory"})
    assert refused.status == 503
    assert refused.json["code"] == "disk_full"
    assert "in force and was handed to the other hubs, but is not stored yet" in refused.json["detail"]
    for stream in streams:
        assert (await stream.rest())[-1].json["reason"] == "revoked"
    for fixture in (one, two):
        assert await fixture.try_stream("/events", bearer("mallory")) == 401
    assert not [name for name in await names(one) if "mallory" in name]
    for fixture in (one, two):
        await empty(fixture)

    async def written() -> bool:
        return "subject:mallory" in await names(one)

    await until(written)
    await asyncio.sleep(0.3)
    assert [name for name in await names(one) if "mallory" in name] == ["subject:mallory"]


async def test_a_server_that_takes_no_writes_passes_revocations_on(
    server: RedisServer, make_fixture: MakeHubFixture
) -> None:
    """A Redis that refuses writes still publishes, so every hub hears of the revocation."""
    one, two = await make_fixture(broker=server.url), await make_fixture(broker=server.url)
    stream = two.stream("/events", bearer("mallory"))
    await stream.opened()
    server.command("CONFIG", "SET", "min-replicas-to-write", "1")
    refused = await one.ask("POST", "/admin/revocations", ROOT, json={"subject": "mallory"})
    assert refused.status == 503
    assert (await stream.rest())[-1].json["reason"] == "revoked"
    server.command("CONFIG", "SET", "min-replicas-to-write", "0")

    async def written() -> bool:
        return await names(two) == ["subject:mallory"]

    await until(written)


async def test_a_lost_log_is_noticed_after_its_newest_entry_has_run_out(
    tmp_path: Path, make_fixture: MakeHubFixture
) -> None:
    """The newest is often a logout, over after hours; what was revoked for a year before it must come back."""
    fixture = await make_fixture(broker=f"sqlite:///{tmp_path}/hub.db")
    await fixture.hub.node.revocations.apply(Revocation(kind="token", value="jti:long", at=T0, expires_at=T0 + 6000))
    await fixture.hub.node.revocations.apply(Revocation(kind="token", value="session:short", at=T0, expires_at=T0 + 60))

    async def read() -> bool:
        return fixture.hub.node.revocations._seen == 2

    await until(read)
    fixture.clock.advance(61)
    await fixture.hub.node.revocations.follow()
    connection = sqlite3.connect(tmp_path / "hub.db")
    connection.execute("DELETE FROM revocation")
    connection.execute("UPDATE store SET revoked = 0")
    connection.commit()
    connection.close()
    await fixture.hub.node.revocations.follow()

    async def written() -> bool:
        return bool(await names(fixture))

    await until(written)
    assert await names(fixture) == ["token:jti:long"]
