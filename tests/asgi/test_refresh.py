"""A live stream follows its identity: it is told, refreshed in place, or ended."""

from __future__ import annotations

import asyncio

import pytest

from asgi.conftest import HubFixture, HubServer, MakeHubFixture
from asgi.driver import STREAM, T0, Stream, bearer
from sseal import Identity


async def live(fixture: HubFixture, headers: dict[str, str], target: str = "/events") -> tuple[Stream, str]:
    """Open a stream; return it and its connection's name."""
    stream = fixture.stream(target, headers)
    return stream, str((await stream.opened()).json["connection"])


async def refresh(fixture: HubFixture, connection: str, headers: dict[str, str]) -> tuple[int, object]:
    """Ask for more time."""
    reply = await fixture.ask("POST", "/auth/refresh", headers, json={"connection": connection})
    return reply.status, reply.json


async def test_a_stream_is_told_thirty_seconds_before_its_end_and_then_ended(fixture: HubFixture) -> None:
    """`expiring` once, `expired` at the moment itself, then the end; neither has an id (W1)."""
    stream, connection = await live(fixture, bearer(exp=T0 + 100))
    await fixture.turn(69.5)
    await fixture.hub.publish("user/alice", "before")
    await stream.event("message")
    await fixture.turn(0.5)
    notice = await stream.event("auth")
    assert notice.json == {
        "session": "expiring",
        "connection": connection,
        "subject": "alice",
        "topics": ["user/alice"],
        "expires_at": T0 + 100,
    }
    assert notice.id is None
    await fixture.turn(29.5)
    await fixture.hub.publish("user/alice", "still")
    assert (await stream.event("message")).data == "still"
    await fixture.turn(0.5)
    await fixture.hub.publish("user/alice", "too late")
    last = await stream.rest()
    assert [block.json["session"] for block in last] == ["expired"]
    assert last[0].id is None
    assert not fixture.node.connections


async def test_a_short_identity_is_told_at_the_next_tick(fixture: HubFixture) -> None:
    """An identity of less than the notice is announced at once and ends on time."""
    stream, _ = await live(fixture, bearer(exp=T0 + 5))
    await fixture.turn(0.25)
    assert (await stream.event("auth")).json["session"] == "expiring"
    await fixture.turn(4.75)
    assert (await stream.rest())[-1].json["session"] == "expired"


@pytest.mark.parametrize("moment", [10.0, 80.0])
async def test_a_refresh_extends_the_stream_in_place(fixture: HubFixture, moment: float) -> None:
    """No reconnect, no gap: `refreshed` with the new end, and a new notice before that (W42)."""
    stream, connection = await live(fixture, bearer(exp=T0 + 100))
    await fixture.turn(moment)
    if moment > 70:
        assert (await stream.event("auth")).json["session"] == "expiring"
    assert await refresh(fixture, connection, bearer(exp=T0 + 500)) == (200, {"expires_at": T0 + 500})
    told = await stream.event("auth")
    assert (told.json["session"], told.json["expires_at"], told.id) == ("refreshed", T0 + 500, None)
    await fixture.turn(120 - moment)
    await fixture.hub.publish("user/alice", "hello")
    assert (await stream.event("message")).data == "hello"
    await fixture.turn(350)
    assert (await stream.event("auth")).json["session"] == "expiring"
    await fixture.turn(30)
    assert (await stream.rest())[-1].json["session"] == "expired"


@pytest.mark.parametrize("fresh", [bearer("bob"), bearer("root", admin=True), bearer("alice", iss="other")])
async def test_nobody_refreshes_somebody_elses_stream(fixture: HubFixture, fresh: dict[str, str]) -> None:
    """Another subject, an admin, or the same name of another issuer: 403, and the stream goes on as it was."""
    stream, connection = await live(fixture, bearer(exp=T0 + 100))
    assert (await refresh(fixture, connection, fresh))[0] == 403
    await fixture.turn(70)
    assert (await stream.event("auth")).json["expires_at"] == T0 + 100


async def test_an_unknown_stream_cannot_be_refreshed(fixture: HubFixture) -> None:
    """Never there, or gone: 404 (W42)."""
    stream, connection = await live(fixture, bearer())
    await stream.leave()
    for name in (connection, "nowhere.abc", "x"):
        assert (await refresh(fixture, name, bearer()))[0] == 404


async def test_a_refresh_needs_a_good_credential(fixture: HubFixture) -> None:
    """An expired token does not extend anything."""
    _, connection = await live(fixture, bearer(exp=T0 + 100))
    assert (await refresh(fixture, connection, bearer(exp=T0)))[0] == 401
    assert (await refresh(fixture, connection, {}))[0] == 401
    await fixture.hub.revoke(jti="gone")
    assert (await refresh(fixture, connection, bearer(jti="gone")))[0] == 401


async def test_a_refreshed_stream_follows_the_fresh_credential(fixture: HubFixture) -> None:
    """From now on the new token's fate counts, not the old one's (W17)."""
    stream, connection = await live(fixture, bearer(jti="old"))
    assert (await refresh(fixture, connection, bearer(jti="new")))[0] == 200
    assert (await stream.event("auth")).json["session"] == "refreshed"
    assert await fixture.hub.revoke(jti="old") == 0
    assert await fixture.hub.revoke(jti="new") == 1
    assert (await stream.rest())[-1].json == {"reason": "revoked", "reconnect": False}


async def test_a_refreshed_ticket_stream_can_be_resumed_beyond_its_old_end(fixture: HubFixture) -> None:
    """The family is extended too, and inherits the fresh credential's fate (W14, W17)."""
    ticket = await fixture.ticket(bearer(exp=T0 + 100))
    stream = fixture.stream(f"/events?ticket={ticket}")
    opening = await stream.opened()
    headers = bearer(exp=T0 + 1000, jti="new")
    assert (await refresh(fixture, opening.json["connection"], headers))[0] == 200
    await fixture.turn(200)
    again = fixture.stream("/events", {"last-event-id": str(opening.id)})
    assert (await again.opened()).json["expires_at"] == T0 + 1000
    await fixture.hub.revoke(jti="new")
    assert (await again.rest())[-1].type == "bye"
    assert await fixture.try_stream("/events", {"last-event-id": str(opening.id)}) == 401


async def test_the_rights_of_now_count_at_a_refresh(make_fixture: MakeHubFixture) -> None:
    """Who may not read it any more does not get more time for it (W21)."""
    allowed = [True]

    async def authorize(identity: Identity, topics: list[str]) -> bool:
        return allowed[0]

    fixture = await make_fixture(authorize=authorize)
    stream, connection = await live(fixture, bearer(exp=T0 + 100), "/events?topic=a")
    allowed[0] = False
    status, problem = await refresh(fixture, connection, bearer())
    assert (status, problem["refused"]) == (403, ["a"])  # type: ignore[index]
    await fixture.turn(100)
    assert (await stream.rest())[-1].json["session"] == "expired"


async def test_a_credential_revoked_during_its_refresh_extends_nothing(make_fixture: MakeHubFixture) -> None:
    """Between the check of the credential and the change of the stream a revocation may come in (W17)."""
    reached, go = asyncio.Event(), asyncio.Event()

    async def authorize(identity: Identity, topics: list[str]) -> bool:
        if identity.token_id == "jti:new":
            reached.set()
            await go.wait()
        return True

    fixture = await make_fixture(authorize=authorize)
    _, connection = await live(fixture, bearer(exp=T0 + 100))
    asking = asyncio.create_task(refresh(fixture, connection, bearer(jti="new")))
    await reached.wait()
    await fixture.hub.revoke(jti="new")
    go.set()
    assert (await asking)[0] == 401


async def test_a_stream_that_ends_during_its_refresh_is_not_found(make_fixture: MakeHubFixture) -> None:
    """A stream that is gone is not brought back (W42)."""
    reached, go = asyncio.Event(), asyncio.Event()

    async def authorize(identity: Identity, topics: list[str]) -> bool:
        if identity.token_id == "jti:new":
            reached.set()
            await go.wait()
        return True

    fixture = await make_fixture(authorize=authorize)
    stream, connection = await live(fixture, bearer())
    asking = asyncio.create_task(refresh(fixture, connection, bearer(jti="new")))
    await reached.wait()
    await stream.leave()
    go.set()
    assert (await asking)[0] == 404
    assert not fixture.node.connections


async def test_a_stream_is_refreshed_over_a_socket(hub_server: HubServer) -> None:
    """The same with a real connection each for the stream and the refresh."""
    fixture = hub_server.fixture
    stream = await hub_server.send("GET", "/events", {**bearer(exp=T0 + 100), **STREAM})
    opening = await stream.event()
    assert opening is not None
    body = b'{"connection":"%b"}' % opening.json["connection"].encode()
    headers = {**bearer(exp=T0 + 500), "content-type": "application/json"}
    assert (await hub_server.send("POST", "/auth/refresh", headers, body)).status == 200
    told = await stream.event()
    assert told is not None
    assert told.json["session"] == "refreshed"
    fixture.clock.advance(470)
    fixture.node.tick()
    told = await stream.event()
    assert told is not None
    assert told.json["session"] == "expiring"
    fixture.clock.advance(30)
    fixture.node.tick()
    assert [block.json["session"] for block in await stream.rest()] == ["expired"]
