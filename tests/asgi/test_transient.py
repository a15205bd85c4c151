"""Refusals for now: a native EventSource survives them, and no ticket is spent (W35)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from asgi.conftest import HubFixture, HubServer, MakeHubFixture
from asgi.driver import SAME, STREAM, Reply, bearer, parse_blocks
from sseal import Identity
from sseal.errors import Unavailable

CAUSES = ["draining", "full", "full-address", "rate-address", "rate-subject"]
READERS = [
    {"accept": "text/event-stream"},
    {"accept": "text/event-stream, application/json"},
    {"accept": "application/json, text/event-stream;q=0.9, */*"},
]
"""What EventSource and the libraries that take its place send (W52)."""
PROGRAMS = [
    {"accept": "text/event-stream, application/problem+json"},
    {"accept": "*/*"},
    {"accept": "application/json"},
]


async def busy(make_fixture: MakeHubFixture, cause: str) -> tuple[HubFixture, dict[str, str]]:
    """Return a hub that refuses for this cause, and a cookie of alice's."""
    limits: dict[str, Any] = {
        "full": {"streams": 1},
        "full-address": {"streams_per_address": 1},
        "rate-address": {"connects_per_minute_per_address": 1},
        "rate-subject": {"connects_per_minute_per_subject": 1},
    }.get(cause, {})
    fixture = await make_fixture(insecure_cookies=True, limits=limits)
    reply = await fixture.ask("POST", "/auth/session", {**bearer(), "host": "localhost"})
    stream = fixture.stream("/events", bearer())
    await stream.opened()
    if cause == "draining":
        await fixture.hub.drain()
    return fixture, {"cookie": reply.cookie, **SAME}


def check_farewell(reply: Reply, code: str) -> None:
    """Check the stream a native EventSource is refused with."""
    assert reply.status == 200
    assert reply.header("content-type") == "text/event-stream"
    assert "no-store" in str(reply.header("cache-control"))
    blocks, rest = parse_blocks(reply.body.decode())
    assert rest == ""
    assert [block.type for block in blocks] == ["bye"]
    assert blocks[0].json == {"reason": code, "reconnect": True}
    assert 2000 <= int(blocks[0].fields["retry"]) <= 60_000
    assert b"\nid:" not in b"\n" + reply.body


@pytest.mark.parametrize("cause", CAUSES)
async def test_a_native_client_is_refused_by_a_stream_it_survives(make_fixture: MakeHubFixture, cause: str) -> None:
    """200, a jittered reconnection time, `bye`, the end, and no id: its cursor stays what it was (W35)."""
    fixture, cookie = await busy(make_fixture, cause)
    replies = [await fixture.stream("/events", cookie).refused() for _ in range(8)]
    for reply in replies:
        check_farewell(reply, cause.split("-")[0])
    assert len({reply.body for reply in replies}) > 1  # jittered


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("headers", READERS, ids=str)
async def test_so_is_a_library_that_sends_a_token(
    make_fixture: MakeHubFixture, cause: str, headers: dict[str, str]
) -> None:
    """Many take any status but 200 for the end, whatever they send beside (W52)."""
    fixture, _ = await busy(make_fixture, cause)
    check_farewell(await fixture.stream("/events", {**bearer(), **headers}).refused(), cause.split("-")[0])


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("headers", PROGRAMS, ids=str)
async def test_a_program_gets_a_status(make_fixture: MakeHubFixture, cause: str, headers: dict[str, str]) -> None:
    """Who says that problem documents are read gets 429 or 503 with Retry-After (W35, W52)."""
    fixture, cookie = await busy(make_fixture, cause)
    reply = await fixture.stream("/events", {**cookie, **headers}).refused()
    assert reply.status == (503 if cause in ("draining", "full") else 429)
    assert reply.json["code"] == cause.split("-")[0]
    assert int(str(reply.header("retry-after"))) >= 1
    assert reply.header("content-type") == "application/problem+json"


@pytest.mark.parametrize("cause", [cause for cause in CAUSES if cause != "rate-subject"])
@pytest.mark.parametrize("form", ["/events?ticket={}", "/events/{}"])
async def test_a_refused_ticket_is_not_spent(make_fixture: MakeHubFixture, cause: str, form: str) -> None:
    """It lives 120 s from then on, because the browser obeys `retry` (W35)."""
    fixture, _ = await busy(make_fixture, cause)
    ticket = await fixture.ticket(bearer("bob"))
    fixture.clock.advance(15)
    check_farewell(await fixture.stream(form.format(ticket)).refused(), cause.split("-")[0])
    fixture.clock.advance(119)
    redeemed = await fixture.hub._parts.tickets.redeem(ticket, *_caller(fixture))
    assert redeemed.identity.subject == "bob"


def _caller(fixture: HubFixture) -> tuple[Any, Any]:
    from sseal.auth.origin import Caller

    return Caller(origin=None, own=None, fetch_site=None), fixture.hub._parts.origins


async def test_a_refused_ticket_is_good_when_there_is_room_again(make_fixture: MakeHubFixture) -> None:
    """The whole turn: full, told to wait, room, in (W35)."""
    fixture = await make_fixture(limits={"streams": 1})
    first = fixture.stream("/events", bearer())
    await first.opened()
    ticket = await fixture.ticket(bearer("bob"))
    check_farewell(await fixture.stream(f"/events?ticket={ticket}").refused(), "full")
    await first.leave()
    await fixture.turn(60)
    assert (await fixture.stream(f"/events?ticket={ticket}").opened()).json["subject"] == "bob"


async def test_a_fresh_ticket_is_not_counted_twice(make_fixture: MakeHubFixture) -> None:
    """Minting was counted, so the subject's rate of connects does not refuse what was just given out (W35)."""
    fixture = await make_fixture(limits={"connects_per_minute_per_subject": 1})
    for _ in range(3):
        assert await fixture.try_stream(f"/events?ticket={await fixture.ticket(bearer())}") == 200


async def test_what_fails_for_now_after_the_ticket_was_redeemed_spends_nothing(make_fixture: MakeHubFixture) -> None:
    """The app's own check cannot answer just now: told to wait, and the same ticket is good later (W35)."""
    fails = [False]

    async def authorize(identity: Identity, topics: list[str]) -> bool:
        if fails[0]:
            raise Unavailable("the database is down", code="database")
        return True

    fixture = await make_fixture(authorize=authorize)
    ticket = await fixture.ticket(bearer())
    fails[0] = True
    for _ in range(2):
        check_farewell(await fixture.stream(f"/events?ticket={ticket}").refused(), "database")
    fails[0] = False
    await fixture.turn(100)
    stream = fixture.stream(f"/events?ticket={ticket}")
    opening = await stream.opened()
    await stream.leave()
    fails[0] = True
    headers = {"last-event-id": str(opening.id)}
    check_farewell(await fixture.stream(f"/events?ticket={ticket}", headers).refused(), "database")
    fails[0] = False
    await fixture.stream(f"/events?ticket={ticket}", headers).opened()


async def test_a_hub_that_starts_to_drain_meanwhile_spends_no_ticket(make_fixture: MakeHubFixture) -> None:
    """Drained between the first look and the last: the ticket is good for the next hub (W34, W35)."""
    reached, go = asyncio.Event(), asyncio.Event()
    slow = [False]

    async def authorize(identity: Identity, topics: list[str]) -> bool:
        if slow[0]:
            reached.set()
            await go.wait()
        return True

    fixture = await make_fixture(authorize=authorize)
    ticket = await fixture.ticket(bearer())
    slow[0] = True
    stream = fixture.stream(f"/events?ticket={ticket}")
    await reached.wait()
    await fixture.hub.drain()
    go.set()
    check_farewell(await stream.refused(), "draining")
    assert (await fixture.hub._parts.tickets.redeem(ticket, *_caller(fixture))).identity.subject == "alice"
    assert fixture.node.topic_count == 0


@pytest.mark.parametrize("status", [401, 403, 400])
async def test_a_refusal_for_good_is_a_status_for_native_clients_too(fixture: HubFixture, status: int) -> None:
    """A 200 with an in-band error would make an EventSource loop for ever."""
    path = {401: "/events", 403: "/events?topic=x", 400: "/events?topic="}[status]
    headers = {"cookie": "__Host-sseal=" + "a" * 26, **SAME} if status == 401 else {}
    if status != 401:
        reply = await fixture.ask("POST", "/auth/session", bearer())
        headers = {"cookie": reply.cookie, **SAME}
    reply = await fixture.stream(path, headers).refused()
    assert reply.status == status


async def test_a_rate_of_tickets_is_429(make_fixture: MakeHubFixture) -> None:
    """A page that mints in a loop is told when to come back; its neighbours are not."""
    fixture = await make_fixture(limits={"tickets_per_minute_per_subject": 2})
    statuses = [(await fixture.ask("POST", "/auth/sse", bearer())).status for _ in range(3)]
    assert statuses == [201, 201, 429]
    reply = await fixture.ask("POST", "/auth/sse", bearer())
    assert reply.header("retry-after") == "60"
    assert reply.header("ratelimit-policy") == '"tickets-per-subject";q=2;w=60'
    assert reply.header("ratelimit") == '"tickets-per-subject";r=0;t=60'
    fixture.clock.advance(59.5)
    assert (await fixture.ask("POST", "/auth/sse", bearer())).header("ratelimit") == '"tickets-per-subject";r=0;t=1'
    fixture.clock.advance(1.0)
    assert (await fixture.ask("POST", "/auth/sse", bearer())).status == 201
    assert (await fixture.ask("POST", "/auth/sse", bearer("bob"))).status == 201


@pytest.mark.parametrize(("first", "second"), [(("a/b", "c"), ("a", "b/c")), (("", "a/b"), ("a", "b"))])
async def test_one_subject_cannot_use_up_the_rate_of_another(
    make_fixture: MakeHubFixture, first: tuple[str, str], second: tuple[str, str]
) -> None:
    """Issuer and subject that only read alike when joined are counted apart."""
    fixture = await make_fixture(limits={"tickets_per_minute_per_subject": 1})
    for issuer, subject in (first, second):
        headers = bearer(subject, iss=issuer or None)
        assert (await fixture.ask("POST", "/auth/sse", headers)).status == 201


async def test_drained_streams_are_told_to_come_back(fixture: HubFixture) -> None:
    """`bye` with `reconnect: true` and a jittered time, so that they do not come as one wave (W34)."""
    streams = [fixture.stream("/events", bearer(f"u{i}")) for i in range(20)]
    for stream in streams:
        await stream.opened()
    await fixture.hub.drain()
    waits = set()
    for stream in streams:
        last = await stream.rest()
        assert [block.type for block in last] == ["bye"]
        assert last[0].json == {"reason": "draining", "reconnect": True}
        waits.add(last[0].fields["retry"])
    assert len(waits) > 5
    assert not fixture.node.connections


async def test_a_full_hub_over_a_socket(make_server: Any) -> None:
    """Native and fetch clients over a real server."""
    server: HubServer = await make_server(limits={"streams": 1})
    holder = await server.send("GET", "/events", {**bearer(), **STREAM})
    await holder.event()
    ticket = await server.fixture.ticket(bearer("bob"))
    native = await server.send("GET", f"/events?ticket={ticket}", STREAM)
    assert native.status == 200
    assert [block.type for block in await native.rest()] == ["bye"]
    wanted = {"accept": "text/event-stream, application/problem+json"}
    fetch = await server.send("GET", "/events", {**bearer("bob"), **STREAM, **wanted})
    assert (fetch.status, fetch.headers["retry-after"]) == (503, ["5"])
    assert json.loads(await fetch.body())["code"] == "full"
