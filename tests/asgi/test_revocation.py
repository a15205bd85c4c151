"""Revocation through HTTP: who and what ends at once, and the race with a stream that is just opening (W17)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi.conftest import HubFixture, HubServer, MakeHubFixture
from asgi.driver import ADMIN, STREAM, T0, bearer
from sseal import Identity

ROOT = bearer(**ADMIN)


async def revoke(fixture: HubFixture, **body: Any) -> dict[str, Any]:
    """Revoke as an operator does."""
    reply = await fixture.ask("POST", "/admin/revocations", ROOT, json=body)
    assert reply.status == 201, reply.body
    return dict(reply.json)


async def test_a_revoked_subject_is_out_at_once(fixture: HubFixture) -> None:
    """All their streams end with a word, nobody else's; what was issued until now is refused, later tokens are not."""
    streams = [fixture.stream("/events", headers) for headers in (bearer(), bearer(iss="x"), bearer("bob"))]
    for stream in streams:
        await stream.opened()
    assert (await revoke(fixture, subject="alice"))["ended"] == 2
    for stream in streams[:2]:
        last = await stream.rest()
        assert [block.json.get("session", block.json.get("reason")) for block in last] == ["revoked", "revoked"]
        assert last[-1].json["reconnect"] is False
        assert last[-1].fields["retry"] == "2147483647"  # the only word an EventSource obeys (W37)
    await fixture.hub.publish("user/bob", "hello")
    assert (await streams[2].event("message")).data == "hello"
    assert await fixture.try_stream("/events", bearer()) == 401
    await fixture.turn(1)
    assert await fixture.try_stream("/events", bearer(iat=T0 + 1)) == 200
    assert await fixture.try_stream("/events", bearer(iat=None)) == 401


@pytest.mark.parametrize("later", [0, 9, 30, 600])
async def test_a_token_from_a_clock_ahead_stays_revoked(make_fixture: MakeHubFixture, later: float) -> None:
    """A token signed 8 s ahead of the hub's clock is refused for good after its subject was revoked (W17)."""
    fixture = await make_fixture(jwt_leeway=10.0)
    headers = bearer(iat=T0 + 8)
    stream = fixture.stream("/events", headers)
    await stream.opened()
    assert (await revoke(fixture, subject="alice"))["ended"] == 1
    await fixture.turn(later)
    assert await fixture.try_stream("/events", headers) == 401
    assert (await fixture.ask("POST", "/auth/sse", headers)).status == 401


async def test_a_new_token_counts_once_the_leeway_is_over(make_fixture: MakeHubFixture) -> None:
    """Which of two clocks is right cannot be known, so a login is refused for `jwt_leeway` after a revocation (W17)."""
    fixture = await make_fixture(jwt_leeway=5.0)
    await revoke(fixture, subject="alice")
    await fixture.turn(5)
    assert await fixture.try_stream("/events", bearer(iat=T0 + 5)) == 401
    await fixture.turn(1)
    assert await fixture.try_stream("/events", bearer(iat=T0 + 6)) == 200


async def test_what_the_hub_issues_itself_has_no_leeway(make_fixture: MakeHubFixture) -> None:
    """A ticket minted by the hub's own clock a second after a revocation is good at once (W17)."""
    fixture = await make_fixture(jwt_leeway=10.0)
    await fixture.turn(20)  # so that the admin's own token is old enough
    await revoke(fixture, subject="alice")
    await fixture.turn(1)
    minted = await fixture.ask("POST", "/auth/sse", ROOT, json={"subject": "alice"})
    assert minted.status == 201
    assert await fixture.try_stream(f"/events?ticket={minted.json['ticket']}") == 200


async def test_a_subject_of_one_issuer_is_not_that_of_another(fixture: HubFixture) -> None:
    """Revoking alice of one issuer leaves the other alice alone."""
    assert (await revoke(fixture, subject="alice", issuer="a"))["ended"] == 0
    assert await fixture.try_stream("/events", bearer(iss="a")) == 401
    assert await fixture.try_stream("/events", bearer(iss="b")) == 200


async def test_a_revoked_token_takes_all_it_gave_along(make_fixture: MakeHubFixture) -> None:
    """Jti → session → ticket → family: the whole lineage ends, a neighbour token does not (W17)."""
    fixture = await make_fixture(insecure_cookies=True)
    headers = {**bearer(jti="j1"), "host": "localhost"}
    cookie = {"cookie": (await fixture.ask("POST", "/auth/session", headers)).cookie, "origin": "http://hub.test"}
    unused = await fixture.ticket(cookie)
    streams = [
        fixture.stream("/events", bearer(jti="j1")),
        fixture.stream("/events", cookie),
        fixture.stream(f"/events?ticket={await fixture.ticket(cookie)}"),
        fixture.stream(f"/events?ticket={await fixture.ticket(bearer(jti='j1'))}"),
    ]
    ids = [str((await stream.opened()).id) for stream in streams]
    neighbour = fixture.stream("/events", bearer(jti="j2"))
    await neighbour.opened()
    assert (await revoke(fixture, jti="j1"))["ended"] == 4
    for stream in streams:
        assert (await stream.rest())[-1].json["reason"] == "revoked"
    assert await fixture.try_stream("/events", cookie) == 401
    assert await fixture.try_stream(f"/events?ticket={unused}") == 401
    for last in ids[2:]:
        assert await fixture.try_stream("/events", {"last-event-id": last}) == 401
    assert list(fixture.node.connections) == fixture.hub.connections("alice")
    assert len(fixture.node.connections) == 1


@pytest.mark.parametrize("how", [{"jti": "j1"}, {"subject": "alice"}])
@pytest.mark.parametrize("auth_method", ["bearer", "ticket"])
async def test_a_stream_that_opens_during_a_revocation_is_refused(
    make_fixture: MakeHubFixture, how: dict[str, str], auth_method: str
) -> None:
    """Checked, then revoked, then entered: it must not live on (W17)."""
    reached, go = asyncio.Event(), asyncio.Event()
    slow = [False]

    async def authorize(identity: Identity, topics: list[str]) -> bool:
        if slow[0]:
            reached.set()
            await go.wait()
        return True

    fixture = await make_fixture(authorize=authorize)
    headers = bearer(jti="j1")
    target = "/events" if auth_method == "bearer" else f"/events?ticket={await fixture.ticket(headers)}"
    slow[0] = True
    stream = fixture.stream(target, headers if auth_method == "bearer" else {})
    await reached.wait()
    await fixture.hub.revoke(**how)
    go.set()
    reply = await stream.refused()
    assert (reply.status, reply.json["code"]) == (401, "credential_invalid")
    assert not fixture.node.connections
    assert fixture.node.topic_count == 0


async def test_revoking_twice_or_nobody_is_fine(fixture: HubFixture) -> None:
    """The operator need not know whether there was anything to end."""
    assert (await revoke(fixture, subject="nobody"))["ended"] == 0
    assert (await revoke(fixture, subject="nobody"))["ended"] == 0
    assert (await revoke(fixture, jti="nothing"))["expires_at"] > T0


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/admin/connections", ...),
        ("DELETE", "/admin/connections/x", ...),
        ("POST", "/admin/revocations", {"subject": "alice"}),
        ("GET", "/admin/stats", ...),
    ],
)
async def test_only_an_admin_administers(fixture: HubFixture, method: str, path: str, body: Any) -> None:
    """All patterns together are not the admin grant."""
    for headers, status in ((bearer(subscribe=["**"], publish=["**"]), 403), ({}, 401)):
        reply = await fixture.ask(method, path, headers, json=body)
        assert reply.status == status
        assert len(fixture.node.revocations) == 0
        assert status == 401 or reply.json["code"] == "admin_required"


async def test_an_admin_sees_who_is_connected(fixture: HubFixture) -> None:
    """Ids, subjects, ways and topics, by page and by subject."""
    for headers in (bearer(), bearer("bob", iss="x"), bearer()):
        await fixture.stream("/events", headers).opened()
    everybody = (await fixture.ask("GET", "/admin/connections", ROOT)).json
    assert everybody["more"] is False
    assert sorted(item["subject"] for item in everybody["connections"]) == ["alice", "alice", "bob"]
    (bob,) = (await fixture.ask("GET", "/admin/connections?subject=bob", ROOT)).json["connections"]
    assert (bob["issuer"], bob["way"], bob["topics"], bob["expires_at"]) == ("x", "bearer", ["user/bob"], T0 + 3600)
    last = everybody["connections"][-1]["id"]
    assert (await fixture.ask("GET", f"/admin/connections?after={last}", ROOT)).json["connections"] == []
    assert (await fixture.ask("GET", "/admin/stats", ROOT)).json["streams"] == 3


async def test_a_kick_ends_one_stream_and_lets_it_come_back(fixture: HubFixture) -> None:
    """Ending a stream without a revocation says `reconnect: true` (W37)."""
    stream = fixture.stream("/events", bearer())
    connection = (await stream.opened()).json["connection"]
    other = fixture.stream("/events", bearer())
    await other.opened()
    assert (await fixture.ask("DELETE", f"/admin/connections/{connection}", ROOT)).status == 204
    assert (await stream.rest())[-1].json == {"reason": "kicked", "reconnect": True}
    assert (await fixture.ask("DELETE", f"/admin/connections/{connection}", ROOT)).status == 404
    assert await fixture.try_stream("/events", bearer()) == 200
    assert not other.over


async def test_a_hub_revokes_from_python(fixture: HubFixture) -> None:
    """The same by function, one of both and no nonsense."""
    await fixture.stream("/events", bearer(jti="j")).opened()
    assert await fixture.hub.revoke(subject="alice") == 1
    for wrong in ({}, {"subject": "a", "jti": "b"}, {"subject": ""}):
        with pytest.raises(ValueError):
            await fixture.hub.revoke(**wrong)


async def test_nothing_reaches_a_stream_after_its_bye(fixture: HubFixture) -> None:
    """An event published in the same step as the revocation is not seen any more (W4)."""
    stream = fixture.stream("/events", bearer())
    await stream.opened()
    publishing = [asyncio.ensure_future(fixture.hub.publish("user/alice", f"n{i}")) for i in range(20)]
    await fixture.hub.revoke(subject="alice")
    await asyncio.gather(*publishing)
    last = await stream.rest()
    assert last[-1].type == "bye"
    assert [block.type for block in last].count("bye") == 1


async def test_a_revoked_stream_is_closed_over_a_socket(hub_server: HubServer) -> None:
    """Word, last byte, end of the connection; and the credential is refused on the next one."""
    stream = await hub_server.send("GET", "/events", {**bearer(jti="j"), **STREAM})
    await stream.event()
    assert await hub_server.fixture.hub.revoke(jti="j") == 1
    last = await stream.rest()
    assert [block.type for block in last] == ["auth", "bye"]
    again = await hub_server.send("GET", "/events", {**bearer(jti="j"), **STREAM})
    assert again.status == 401
    assert again.headers["www-authenticate"] == ['Bearer realm="sseal", error="invalid_token"']
