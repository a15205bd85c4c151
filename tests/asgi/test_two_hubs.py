"""Two hubs on one engine are one hub to whoever comes: tickets, families, sessions, keys, commands (W42)."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from addresses import ADDRESSES
from asgi.conftest import HubFixture, MakeHubFixture
from asgi.driver import ADMIN, HUB, PATIENCE, Stream, bearer
from sseal.delivery import node_rpc as rpc
from sseal.errors import Unavailable

Pair = tuple[HubFixture, HubFixture]
SHOP = bearer("shop", publish=["**"], subscribe=["**"])
ROOT = bearer(**ADMIN)
TAB = {"origin": HUB, "sec-fetch-site": "same-origin"}


@pytest.fixture(params=sorted(ADDRESSES))
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the address of a fresh engine that several hubs can share."""
    with ADDRESSES[request.param](tmp_path) as found:
        yield found


@pytest.fixture
async def pair(make_fixture: MakeHubFixture, address: str, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """Return two hubs on one engine, which are patient with each other: the machine may be busy."""
    monkeypatch.setattr(rpc, "CALL_TIMEOUT", 10.0)
    settings = {"broker": address}
    return await make_fixture(**settings), await make_fixture(**settings)


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if found := await condition():
                return found
            await asyncio.sleep(0.01)


async def publish(fixture: HubFixture, topic: str, data: str, **fields: object) -> str:
    """Publish over HTTP and return the id."""
    reply = await fixture.ask("POST", "/events", SHOP, json={"topic": topic, "data": data, **fields})
    assert reply.status == 201, reply.body
    return str(reply.json["ids"][0])


async def opened(fixture: HubFixture, target: str, headers: Any = ()) -> tuple[Stream, dict[str, Any], str]:
    """Open a stream; return it, what its auth event says, and its first id."""
    stream = fixture.stream(target, headers)
    event = await stream.opened()
    return stream, event.json, str(event.id)


async def test_an_event_reaches_the_streams_of_both(pair: Pair) -> None:
    """Whoever is published to, everybody hears, once and in one order."""
    streams = [(await opened(hub, "/events?topic=room/a", SHOP))[0] for hub in pair]
    for number in range(20):
        await publish(pair[number % 2], "room/a", str(number))
    for stream in streams:
        assert [(await stream.event("message")).data for _ in range(20)] == [str(n) for n in range(20)]


async def test_a_stream_goes_on_at_the_other_hub_where_it_was(pair: Pair) -> None:
    """A load balancer may send every reconnect elsewhere; nothing is lost, doubled or called a gap."""
    one, two = pair
    stream, _, _ = await opened(one, "/events?topic=room/a", SHOP)
    await publish(two, "room/a", "1")
    last = str((await stream.event("message")).id)
    await stream.leave()
    await publish(one, "room/a", "2")
    stream, _, start = await opened(two, "/events?topic=room/a", {**SHOP, "last-event-id": last})
    assert start == last
    event = await stream.event()
    assert (event.type, event.data) == ("message", "2")


async def test_a_ticket_is_good_at_one_hub_once(pair: Pair) -> None:
    """Issued by one, redeemed at the other; of two at the same time one gets in (W11)."""
    one, two = pair
    ticket = await one.ticket(bearer())
    statuses = await asyncio.gather(*(hub.try_stream(f"/events?ticket={ticket}") for hub in (two, one, two, one)))
    assert sorted(statuses) == [200, 401, 401, 401]


async def test_a_family_goes_from_hub_to_hub_and_leaves_no_stream_behind(pair: Pair) -> None:
    """A browser that comes back elsewhere ends the half-dead stream it had at the first hub (W14)."""
    one, two = pair
    address = f"/events?ticket={await one.ticket(bearer())}"
    old, _, start = await opened(one, address)
    await opened(two, address, {"last-event-id": start})
    assert (await old.rest())[-1].json == {"reason": "superseded", "reconnect": True}
    assert await two.try_stream(address, {"last-event-id": start}) == 200


async def test_a_resume_that_another_hub_overtook_opens_nothing(pair: Pair) -> None:
    """While one hub still asks for the rights, the other lets the same family in: only one stream is left (W14)."""
    one, two = pair
    address = f"/events?ticket={await one.ticket(bearer())}"
    first, _, start = await opened(one, address)
    await first.leave()
    gate, reached = asyncio.Event(), asyncio.Event()
    subscribe = one.hub._parts.authorizer.subscribe

    async def slowly(*args: Any) -> Any:
        reached.set()
        await gate.wait()
        return await subscribe(*args)

    one.hub._parts.authorizer.subscribe = slowly  # type: ignore[method-assign]
    slow = asyncio.create_task(one.try_stream(address, {"last-event-id": start}))
    await reached.wait()
    stream, _, _ = await opened(two, address, {"last-event-id": start})
    gate.set()
    assert await slow == 401
    assert len(one.node.connections) == 0
    await publish(two, "user/alice", "x")
    assert (await stream.event("message")).data == "x"


async def test_a_stream_whose_family_went_on_elsewhere_ends_though_nobody_told_it(pair: Pair) -> None:
    """A command that was lost is made up for when the stream keeps its family alive (W14)."""
    one, two = pair
    address = f"/events?ticket={await one.ticket(bearer())}"
    stream, _, start = await opened(one, address)
    two.hub._parts.rpc.cast = lambda *args, **options: None  # type: ignore[method-assign]
    await opened(two, address, {"last-event-id": start})
    (connection,) = one.node.connections.values()
    await one.node.heartbeat.keep_family_alive(connection)
    assert (await stream.rest())[-1].json["reason"] == "superseded"


async def test_revocations_that_cannot_be_read_are_asked_for_until_they_can(pair: Pair) -> None:
    """One failed read must not leave a revoked stream open; a hub that hears nothing for long is cut off (W17)."""
    one, two = pair
    stream, _, _ = await opened(two, "/events", bearer(jti="t1"))
    store, real = two.hub._parts.store, two.hub._parts.store.revocations

    async def failing(after: int) -> Any:
        raise Unavailable("busy", code="busy")

    store.revocations = failing  # type: ignore[method-assign]
    assert (await one.ask("POST", "/admin/revocations", ROOT, json={"jti": "t1"})).status == 201
    await until(lambda: _deaf(two))
    assert two.node.lost_since is not None
    store.revocations = real  # type: ignore[method-assign]
    assert (await stream.rest())[-1].json["reason"] == "revoked"
    await until(lambda: _hears(two))


async def _deaf(fixture: HubFixture) -> bool:
    return fixture.node.revocations.stale_since is not None


async def _hears(fixture: HubFixture) -> bool:
    return fixture.node.revocations.stale_since is None


async def test_a_revocation_that_cannot_be_kept_ends_its_streams_here_all_the_same(pair: Pair) -> None:
    """A store without room is no reason to go on serving somebody."""
    one, _ = pair
    stream, _, _ = await opened(one, "/events", bearer(jti="t1"))

    async def full(record: bytes, expires_at: float) -> int:
        raise Unavailable("full", code="store_full")

    one.hub._parts.store.revoke = full  # type: ignore[method-assign]
    assert (await one.ask("POST", "/admin/revocations", ROOT, json={"jti": "t1"})).status == 503
    assert (await stream.rest())[-1].json["reason"] == "revoked"
    assert await one.try_stream("/events", bearer(jti="t1")) == 401


async def test_sessions_are_limited_at_all_hubs_together(make_fixture: MakeHubFixture, address: str) -> None:
    """Each may become a revocation that every hub has to remember."""
    limits = {"sessions_per_minute_per_subject": 3}
    hubs = [await make_fixture(broker=address, limits=limits) for _ in range(2)]
    statuses = [(await hubs[n % 2].ask("POST", "/auth/session", {**bearer(), **TAB}, json={})).status for n in range(5)]
    assert statuses == [200, 200, 200, 429, 429]


async def test_a_stolen_token_ends_the_family_at_both_hubs(pair: Pair) -> None:
    """A superseded token shown at one hub ends the stream at the other (W14)."""
    one, two = pair
    address = f"/events?ticket={await one.ticket(bearer())}"
    _, _, first = await opened(one, address)
    _, _, second = await opened(two, address, {"last-event-id": first})
    stream, _, _ = await opened(two, address, {"last-event-id": second})
    assert await one.try_stream(address, {"last-event-id": first}) == 401
    assert (await stream.rest())[-1].type == "bye"


async def test_a_session_is_one_everywhere_and_logging_out_ends_its_streams(pair: Pair) -> None:
    """Opened at one hub, good at the other, over at both (W17)."""
    one, two = pair
    reply = await one.ask("POST", "/auth/session", {**bearer(), **TAB}, json={})
    assert reply.status == 200, reply.body
    cookie = {"cookie": str(reply.header("set-cookie")).partition(";")[0], **TAB}
    stream, _, _ = await opened(two, "/events", cookie)
    assert (await one.ask("DELETE", "/auth/session", cookie)).status == 204
    ended = await stream.rest()
    assert [event.type for event in ended][-2:] == ["auth", "bye"]
    assert await two.try_stream("/events", cookie) == 401


async def test_a_revocation_reaches_every_hub_and_every_later_one(
    pair: Pair, make_fixture: MakeHubFixture, address: str
) -> None:
    """Streams of the other hub end, its connects are refused, and a hub that starts later knows it too (W17)."""
    one, two = pair
    stream, _, _ = await opened(two, "/events", bearer(jti="t1"))
    reply = await one.ask("POST", "/admin/revocations", ROOT, json={"jti": "t1"})
    assert reply.status == 201, reply.body
    assert (await stream.rest())[-1].json["reason"] == "revoked"
    assert await two.try_stream("/events", bearer(jti="t1")) == 401
    third = await make_fixture(broker=address)
    assert await third.try_stream("/events", bearer(jti="t1")) == 401


async def test_a_key_counts_everywhere(pair: Pair) -> None:
    """The same event sent to both hubs is one event (W20)."""
    one, two = pair
    ids = await asyncio.gather(*(publish(hub, "room/a", "x", key="order-1") for hub in (one, two, one, two)))
    assert len(set(ids)) == 1
    reply = await two.ask("POST", "/events", SHOP, json={"topic": "room/a", "data": "other", "key": "order-1"})
    assert reply.status == 409


async def test_the_list_of_streams_is_that_of_all_hubs(pair: Pair) -> None:
    """An operator sees every stream, from whatever hub is asked, in pages that leave nobody out."""
    one, two = pair
    ids = {(await opened(hub, "/events", bearer(name)))[1]["connection"] for hub in pair for name in ("a", "b", "c")}

    async def listed() -> dict[str, Any]:
        reply = await two.ask("GET", "/admin/connections", ROOT)
        assert reply.status == 200
        return dict(reply.json)

    found = await listed()
    assert {each["id"] for each in found["connections"]} == ids
    assert (found["more"], found["silent"]) == (False, [])
    some = (await one.ask("GET", "/admin/connections?subject=b", ROOT)).json["connections"]
    assert [each["subject"] for each in some] == ["b", "b"]
    after = sorted(ids)[2]
    rest = (await one.ask("GET", f"/admin/connections?after={after}", ROOT)).json["connections"]
    assert [each["id"] for each in rest] == sorted(ids)[3:]


async def test_pages_of_many_hubs_leave_nobody_out(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """When each hub gives only a part, the parts still add up to all."""
    monkeypatch.setattr("sseal.asgi.node_commands.PAGE", 2)
    ids = {(await opened(hub, "/events", bearer(name)))[1]["connection"] for hub in pair for name in "abcde"}
    found: list[str] = []
    while True:
        after = f"?after={found[-1]}" if found else ""
        page = (await pair[0].ask("GET", f"/admin/connections{after}", ROOT)).json
        found += [each["id"] for each in page["connections"]]
        if not page["more"]:
            break
    assert found == sorted(ids)


async def test_a_stream_is_ended_from_another_hub(pair: Pair) -> None:
    """A command finds the node that a connection id names; an unknown stream or node is 404 (W37, W42)."""
    one, two = pair
    stream, auth, _ = await opened(one, "/events", bearer())
    connection = auth["connection"]
    assert (await two.ask("DELETE", f"/admin/connections/{connection}", ROOT)).status == 204
    assert (await stream.rest())[-1].json == {"reason": "kicked", "reconnect": True}
    for unknown in (connection, f"zzzzzzzz.{connection[9:]}", "nonsense", "*.*"):
        assert (await two.ask("DELETE", f"/admin/connections/{unknown}", ROOT)).status == 404


async def test_a_stream_is_refreshed_through_another_hub(pair: Pair) -> None:
    """A page need not know where its stream is; another person's is still not theirs (W42)."""
    one, two = pair
    stream, auth, _ = await opened(one, "/events", bearer())
    body = {"connection": auth["connection"]}
    fresh = bearer(exp=one.clock.wall() + 7200)
    reply = await two.ask("POST", "/auth/refresh", fresh, json=body)
    assert (reply.status, reply.json) == (200, {"expires_at": one.clock.wall() + 7200})
    assert (await stream.event("auth")).json["session"] == "refreshed"
    assert (await two.ask("POST", "/auth/refresh", bearer("mallory"), json=body)).status == 403
    assert (await two.ask("POST", "/auth/refresh", fresh, json={"connection": "zzzzzzzz." + "a" * 16})).status == 404


async def test_a_hub_that_does_not_answer_is_said_to(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command to a frozen hub is 503 within about a second, and the list names the hub (W42)."""
    one, two = pair
    _, auth, _ = await opened(one, "/events", bearer())
    monkeypatch.setattr(rpc, "CALL_TIMEOUT", 1.0)
    monkeypatch.setattr(one.hub._parts.rpc, "_handle", _silent)
    reply = await two.ask("DELETE", f"/admin/connections/{auth['connection']}", ROOT)
    assert (reply.status, reply.json["code"]) == (503, "node_silent")
    listed = (await two.ask("GET", "/admin/connections", ROOT)).json
    assert listed["silent"] == [one.node.id]


async def _silent(command: object) -> None:
    """Do nothing."""


async def test_guesses_at_a_password_are_counted_together(
    make_fixture: MakeHubFixture, address: str, tmp_path: Path
) -> None:
    """Somebody whom a load balancer sends to another hub each time has no more guesses for it."""
    settings = {
        "broker": address,
        "accounts": str(tmp_path / "accounts.db"),
        "limits": {"logins_per_minute_per_user": 3},
    }
    hubs = [await make_fixture(**settings) for _ in range(2)]
    body = {"username": "alice", "password": "guess"}
    statuses = [(await hubs[n % 2].ask("POST", "/auth/login", TAB, json=body)).status for n in range(5)]
    assert statuses == [401, 401, 401, 429, 429]


async def test_both_hubs_are_ready(pair: Pair) -> None:
    """A canary of each comes back to it."""
    for hub in pair:
        assert (await hub.ask("GET", "/readyz")).status == 200


async def test_positions_are_those_of_one_log(pair: Pair) -> None:
    """A page rendered by one process is streamed by another from the same place (W40)."""
    one, two = pair
    await publish(one, "room/a", "before")
    position = await until(lambda: _caught_up(two, one))
    await publish(one, "room/a", "after")
    stream, _, _ = await opened(one, f"/events?topic=room/a&last_event_id={position}", SHOP)
    assert (await stream.event("message")).data in ("before", "after")


async def _caught_up(one: HubFixture, other: HubFixture) -> str | None:
    del other
    return one.hub.position()


async def test_a_session_survives_a_restart_when_only_the_log_is_in_memory(
    make_fixture: MakeHubFixture, tmp_path: Path
) -> None:
    """`serve` keeps sessions, families and revocations in a file even when the log is memory (W15)."""
    settings = {"store": f"sqlite:///{tmp_path}/store.db"}
    one = await make_fixture(**settings)
    reply = await one.ask("POST", "/auth/session", {**bearer(), **TAB}, json={})
    cookie = {"cookie": str(reply.header("set-cookie")).partition(";")[0], **TAB}
    assert (await one.ask("POST", "/admin/revocations", ROOT, json={"jti": "t1"})).status == 201
    await one.close()
    two = await make_fixture(**settings)
    assert await two.try_stream("/events", cookie) == 200
    assert await two.try_stream("/events", bearer(jti="t1")) == 401
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as file:
        names = {name for (name,) in file.execute("select name from sqlite_master where type = 'table'")}
    assert names
