"""A live stream follows its identity: it is told, refreshed in place, or ended."""

from __future__ import annotations

import asyncio

import pytest

from asgi.conftest import Bench, HubServer, MakeBench
from asgi.driver import STREAM, T0, Stream, bearer
from sseal import Identity


async def live(bench: Bench, headers: dict[str, str], target: str = "/events") -> tuple[Stream, str]:
    """Open a stream; return it and its connection's name."""
    stream = bench.stream(target, headers)
    return stream, str((await stream.opened()).json["connection"])


async def refresh(bench: Bench, connection: str, headers: dict[str, str]) -> tuple[int, object]:
    """Ask for more time."""
    reply = await bench.ask("POST", "/auth/refresh", headers, json={"connection": connection})
    return reply.status, reply.json


async def test_a_stream_is_told_thirty_seconds_before_its_end_and_then_ended(bench: Bench) -> None:
    """`expiring` once, `expired` at the moment itself, then the end; neither has an id (W1)."""
    stream, connection = await live(bench, bearer(exp=T0 + 100))
    await bench.turn(69.5)
    await bench.hub.publish("user/alice", "before")
    await stream.event("message")
    await bench.turn(0.5)
    notice = await stream.event("auth")
    assert notice.json == {
        "session": "expiring",
        "connection": connection,
        "subject": "alice",
        "topics": ["user/alice"],
        "expires_at": T0 + 100,
    }
    assert notice.id is None
    await bench.turn(29.5)
    await bench.hub.publish("user/alice", "still")
    assert (await stream.event("message")).data == "still"
    await bench.turn(0.5)
    await bench.hub.publish("user/alice", "too late")
    last = await stream.rest()
    assert [block.json["session"] for block in last] == ["expired"]
    assert last[0].id is None
    assert not bench.node.connections


async def test_a_short_identity_is_told_at_the_next_tick(bench: Bench) -> None:
    """An identity of less than the notice is announced at once and ends on time."""
    stream, _ = await live(bench, bearer(exp=T0 + 5))
    await bench.turn(0.25)
    assert (await stream.event("auth")).json["session"] == "expiring"
    await bench.turn(4.75)
    assert (await stream.rest())[-1].json["session"] == "expired"


@pytest.mark.parametrize("moment", [10.0, 80.0])
async def test_a_refresh_extends_the_stream_in_place(bench: Bench, moment: float) -> None:
    """No reconnect, no gap: `refreshed` with the new end, and a new notice before that (W42)."""
    stream, connection = await live(bench, bearer(exp=T0 + 100))
    await bench.turn(moment)
    if moment > 70:
        assert (await stream.event("auth")).json["session"] == "expiring"
    assert await refresh(bench, connection, bearer(exp=T0 + 500)) == (200, {"expires_at": T0 + 500})
    told = await stream.event("auth")
    assert (told.json["session"], told.json["expires_at"], told.id) == ("refreshed", T0 + 500, None)
    await bench.turn(120 - moment)
    await bench.hub.publish("user/alice", "hello")
    assert (await stream.event("message")).data == "hello"
    await bench.turn(350)
    assert (await stream.event("auth")).json["session"] == "expiring"
    await bench.turn(30)
    assert (await stream.rest())[-1].json["session"] == "expired"


@pytest.mark.parametrize("fresh", [bearer("bob"), bearer("root", admin=True), bearer("alice", iss="other")])
async def test_nobody_refreshes_somebody_elses_stream(bench: Bench, fresh: dict[str, str]) -> None:
    """Another subject, an admin, or the same name of another issuer: 403, and the stream goes on as it was."""
    stream, connection = await live(bench, bearer(exp=T0 + 100))
    assert (await refresh(bench, connection, fresh))[0] == 403
    await bench.turn(70)
    assert (await stream.event("auth")).json["expires_at"] == T0 + 100


async def test_an_unknown_stream_cannot_be_refreshed(bench: Bench) -> None:
    """Never there, or gone: 404 (W42)."""
    stream, connection = await live(bench, bearer())
    await stream.leave()
    for name in (connection, "nowhere.abc", "x"):
        assert (await refresh(bench, name, bearer()))[0] == 404


async def test_a_refresh_needs_a_good_credential(bench: Bench) -> None:
    """An expired token does not extend anything."""
    _, connection = await live(bench, bearer(exp=T0 + 100))
    assert (await refresh(bench, connection, bearer(exp=T0)))[0] == 401
    assert (await refresh(bench, connection, {}))[0] == 401
    await bench.hub.revoke(jti="gone")
    assert (await refresh(bench, connection, bearer(jti="gone")))[0] == 401


async def test_a_refreshed_stream_follows_the_fresh_credential(bench: Bench) -> None:
    """From now on the new token's fate counts, not the old one's (W17)."""
    stream, connection = await live(bench, bearer(jti="old"))
    assert (await refresh(bench, connection, bearer(jti="new")))[0] == 200
    assert (await stream.event("auth")).json["session"] == "refreshed"
    assert await bench.hub.revoke(jti="old") == 0
    assert await bench.hub.revoke(jti="new") == 1
    assert (await stream.rest())[-1].json == {"reason": "revoked", "reconnect": False}


async def test_a_refreshed_ticket_stream_can_be_resumed_beyond_its_old_end(bench: Bench) -> None:
    """The family is extended too, and inherits the fresh credential's fate (W14, W17)."""
    ticket = await bench.ticket(bearer(exp=T0 + 100))
    stream = bench.stream(f"/events?ticket={ticket}")
    opening = await stream.opened()
    headers = bearer(exp=T0 + 1000, jti="new")
    assert (await refresh(bench, opening.json["connection"], headers))[0] == 200
    await bench.turn(200)
    again = bench.stream("/events", {"last-event-id": str(opening.id)})
    assert (await again.opened()).json["expires_at"] == T0 + 1000
    await bench.hub.revoke(jti="new")
    assert (await again.rest())[-1].type == "bye"
    assert await bench.try_stream("/events", {"last-event-id": str(opening.id)}) == 401


async def test_the_rights_of_now_count_at_a_refresh(make_bench: MakeBench) -> None:
    """Who may not read it any more does not get more time for it (W21)."""
    allowed = [True]

    async def authorize(identity: Identity, topics: list[str]) -> bool:
        return allowed[0]

    bench = await make_bench(authorize=authorize)
    stream, connection = await live(bench, bearer(exp=T0 + 100), "/events?topic=a")
    allowed[0] = False
    status, problem = await refresh(bench, connection, bearer())
    assert (status, problem["refused"]) == (403, ["a"])  # type: ignore[index]
    await bench.turn(100)
    assert (await stream.rest())[-1].json["session"] == "expired"


async def test_a_credential_revoked_during_its_refresh_extends_nothing(make_bench: MakeBench) -> None:
    """Between the check of the credential and the change of the stream a revocation may come in (W17)."""
    reached, go = asyncio.Event(), asyncio.Event()

    async def authorize(identity: Identity, topics: list[str]) -> bool:
        if identity.token_id == "jti:new":
            reached.set()
            await go.wait()
        return True

    bench = await make_bench(authorize=authorize)
    _, connection = await live(bench, bearer(exp=T0 + 100))
    asking = asyncio.create_task(refresh(bench, connection, bearer(jti="new")))
    await reached.wait()
    await bench.hub.revoke(jti="new")
    go.set()
    assert (await asking)[0] == 401


async def test_a_stream_that_ends_during_its_refresh_is_not_found(make_bench: MakeBench) -> None:
    """A stream that is gone is not brought back (W42)."""
    reached, go = asyncio.Event(), asyncio.Event()

    async def authorize(identity: Identity, topics: list[str]) -> bool:
        if identity.token_id == "jti:new":
            reached.set()
            await go.wait()
        return True

    bench = await make_bench(authorize=authorize)
    stream, connection = await live(bench, bearer())
    asking = asyncio.create_task(refresh(bench, connection, bearer(jti="new")))
    await reached.wait()
    await stream.leave()
    go.set()
    assert (await asking)[0] == 404
    assert not bench.node.connections


async def test_a_stream_is_refreshed_over_a_socket(hub_server: HubServer) -> None:
    """The same with a real connection each for the stream and the refresh."""
    bench = hub_server.bench
    stream = await hub_server.send("GET", "/events", {**bearer(exp=T0 + 100), **STREAM})
    opening = await stream.event()
    assert opening is not None
    body = b'{"connection":"%b"}' % opening.json["connection"].encode()
    headers = {**bearer(exp=T0 + 500), "content-type": "application/json"}
    assert (await hub_server.send("POST", "/auth/refresh", headers, body)).status == 200
    told = await stream.event()
    assert told is not None
    assert told.json["session"] == "refreshed"
    bench.clock.turn(470)
    bench.node.tick()
    told = await stream.event()
    assert told is not None
    assert told.json["session"] == "expiring"
    bench.clock.turn(30)
    bench.node.tick()
    assert [block.json["session"] for block in await stream.rest()] == ["expired"]
