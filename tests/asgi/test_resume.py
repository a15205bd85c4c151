"""Resume families through HTTP: the native EventSource coming back, and everybody else (W14)."""

from __future__ import annotations

import pytest

from asgi.conftest import HubFixture, HubServer, MakeHubFixture
from asgi.driver import SAME, STREAM, T0, Stream, bearer
from sseal import Identity

ALIEN = "zzzzzzzz"


async def first(fixture: HubFixture, headers: dict[str, str] | None = None, **body: object) -> tuple[str, Stream, str]:
    """Open a ticket stream; return its address, the stream and the id it opened with."""
    address = f"/events?ticket={await fixture.ticket(headers or bearer(), **body)}"
    stream = fixture.stream(address)
    return address, stream, str((await stream.opened()).id)


async def back(fixture: HubFixture, address: str, last: str) -> tuple[Stream, str]:
    """Come back as the browser does: the same address, the last id."""
    stream = fixture.stream(address, {"last-event-id": last})
    return stream, str((await stream.opened()).id)


def moved(last: str, offset: int, epoch: str | None = None) -> str:
    """Return an id with the same token and another position."""
    token, _, position = last.partition("_")
    return f"{token}_{epoch or position.split('-')[0]}-{offset}"


async def refused(fixture: HubFixture, address: str, last: str) -> bool:
    """Tell whether coming back is answered with 401."""
    return await fixture.try_stream(address, {"last-event-id": last}) == 401


@pytest.mark.parametrize("same_address", [True, False])
async def test_a_browser_comes_back_to_where_it_was(fixture: HubFixture, same_address: bool) -> None:
    """The spent ticket in the address and the resume token of its family are one browser (W15)."""
    address, stream, _ = await first(fixture)
    await fixture.hub.publish("user/alice", "one")
    seen = str((await stream.event("message")).id)
    await stream.leave()
    await fixture.hub.publish("user/alice", "two")
    again, opening = await back(fixture, address if same_address else "/events", seen)
    assert opening.split("_")[1] == seen.split("_")[1]
    assert (await again.event("message")).data == "two"
    assert opening.split("_")[0] != seen.split("_")[0]


async def test_an_answer_that_was_lost_costs_nothing(fixture: HubFixture) -> None:
    """The browser never saw the new token and shows the old one again (W14)."""
    address, _, start = await first(fixture)
    for _ in range(3):
        stream, opening = await back(fixture, address, start)
        await stream.leave()
    await back(fixture, address, opening)


async def test_a_resume_ends_the_other_streams_of_its_family(fixture: HubFixture) -> None:
    """The half-dead stream a browser left behind does not go on beside the new one (W14)."""
    address, old, start = await first(fixture)
    await back(fixture, address, start)
    last = await old.rest()
    assert last[-1].json == {"reason": "superseded", "reconnect": True}
    assert len(fixture.node.connections) == 1


async def test_a_resume_leaves_other_families_alone(fixture: HubFixture) -> None:
    """Two tabs of one person are two families (W14)."""
    _, one, _ = await first(fixture)
    address, _, start = await first(fixture)
    await back(fixture, address, start)
    await fixture.hub.publish("user/alice", "hello")
    assert (await one.event("message")).data == "hello"


async def test_a_doubled_request_is_one_browser(fixture: HubFixture) -> None:
    """A frozen hub that thaws honours the old token: the honest user goes on with either child (W14)."""
    address, _, start = await first(fixture)
    one, child = await back(fixture, address, start)
    await back(fixture, address, start)  # the delayed duplicate
    assert (await one.rest())[-1].json["reason"] == "superseded"
    stream, _ = await back(fixture, address, child)
    await fixture.hub.publish("user/alice", "hello")
    assert (await stream.event("message")).data == "hello"


async def test_of_two_siblings_only_the_first_used_stays(fixture: HubFixture) -> None:
    """When the second is used as well, one of the two is a thief, and the family ends (W14)."""
    address, _, start = await first(fixture)
    _, one = await back(fixture, address, start)
    _, two = await back(fixture, address, start)
    winner, _ = await back(fixture, address, two)
    assert await refused(fixture, address, one)
    assert [block.type for block in await winner.rest()][-2:] == ["auth", "bye"]


async def test_a_stolen_old_token_ends_the_family_and_its_live_streams(fixture: HubFixture) -> None:
    """Whoever has a superseded token, nobody of that family reads on (W14)."""
    address, _, start = await first(fixture)
    _, child = await back(fixture, address, start)
    live, newest = await back(fixture, address, child)
    _, other, _ = await first(fixture)
    assert await refused(fixture, "/events", start)
    last = await live.rest()
    assert [block.json for block in last if block.type == "bye"] == [{"reason": "revoked", "reconnect": False}]
    for token in (start, child, newest):
        assert await refused(fixture, address, token)
    await fixture.hub.publish("user/alice", "hello")  # the login session and its other tabs go on
    assert (await other.event("message")).data == "hello"
    assert await fixture.try_stream(f"/events?ticket={await fixture.ticket(bearer())}") == 200


async def test_a_position_before_the_tokens_own_is_refused(fixture: HubFixture) -> None:
    """A thief of the newest token does not get the full history, and the owner notices nothing (W14)."""
    for _ in range(3):
        await fixture.hub.publish("user/alice", "before")
    address, stream, start = await first(fixture)
    assert start.endswith("-3")
    for offset in (0, 2):
        assert await refused(fixture, address, moved(start, offset))
    await fixture.hub.publish("user/alice", "hello")
    assert (await stream.event("message")).data == "hello"
    _, child = await back(fixture, address, moved(start, 4))
    assert await refused(fixture, address, moved(child, 3))


async def test_a_position_of_another_epoch_is_refused(fixture: HubFixture) -> None:
    """A position this log cannot compare would start at its oldest event (W14)."""
    await fixture.hub.publish("user/alice", "before")
    address, stream, start = await first(fixture)
    assert await refused(fixture, address, moved(start, 10**6, ALIEN))
    assert len(fixture.node.connections) == 1
    await stream.leave()


async def test_a_stream_that_began_in_another_epoch_can_be_resumed(fixture: HubFixture) -> None:
    """After a restart on a fresh log a page starts from an old position; its second reconnect works as well (W15)."""
    await fixture.hub.publish("user/alice", "kept")
    ticket = await fixture.ticket(bearer())
    address = f"/events?ticket={ticket}"
    stream = fixture.stream(f"{address}&last_event_id={ALIEN}-5")
    start = str((await stream.opened()).id)
    assert start.endswith(f"{ALIEN}-5")
    assert (await stream.event("gap")).json["reason"] == "other_epoch"
    seen = str((await stream.event("message")).id)
    await stream.leave()
    again, child = await back(fixture, address, seen)
    await again.leave()
    await back(fixture, address, child)


async def test_a_stream_that_began_ahead_of_the_log_can_be_resumed(fixture: HubFixture) -> None:
    """A page with a position beyond the head starts at the head, and comes back from there (W25)."""
    ticket = await fixture.ticket(bearer())
    epoch = fixture.hub.position().split("-")[0]
    stream = fixture.stream(f"/events?ticket={ticket}&last_event_id={epoch}-1000")
    await stream.opened()
    assert (await stream.event("gap")).json["reason"] == "ahead"
    await fixture.hub.publish("user/alice", "one")
    seen = str((await stream.event("message")).id)
    await stream.leave()
    await back(fixture, f"/events?ticket={ticket}", seen)


async def test_a_token_beside_another_tickets_address_is_refused(fixture: HubFixture) -> None:
    """The only exception is a ticket beside a token of its own family (W13)."""
    address, _, start = await first(fixture)
    other, _, theirs = await first(fixture)
    assert await refused(fixture, other, start)
    assert await refused(fixture, address, theirs)
    assert await refused(fixture, "/events?ticket=" + "a" * 26, start)
    await back(fixture, address, start)


async def test_a_good_ticket_beside_an_old_token_is_a_new_family(fixture: HubFixture) -> None:
    """The ticket is the first way present and decides (W13)."""
    _, old, start = await first(fixture)
    fresh = f"/events?ticket={await fixture.ticket(bearer('bob'))}"
    stream = fixture.stream(fresh, {"last-event-id": start})
    assert (await stream.opened()).json["subject"] == "bob"
    assert not old.over


@pytest.mark.parametrize("headers", [{"sec-fetch-mode": "navigate"}, {"accept": "*/*"}])
async def test_only_a_script_asking_for_a_stream_resumes(fixture: HubFixture, headers: dict[str, str]) -> None:
    """A resume token is redeemed under the rules of a ticket (W22)."""
    address, _, start = await first(fixture)
    assert await fixture.try_stream(address, {"last-event-id": start, **headers}) == 401
    await back(fixture, address, start)


async def test_a_resume_token_dies_with_its_session(make_fixture: MakeHubFixture) -> None:
    """Logged out, the tab cannot come back with what it has (W17)."""
    fixture = await make_fixture(insecure_cookies=True)
    reply = await fixture.ask("POST", "/auth/session", {**bearer(), "host": "localhost"})
    cookie = {"cookie": reply.cookie, "origin": "http://hub.test"}
    address, stream, start = await first(fixture, cookie)
    assert (await fixture.ask("DELETE", "/auth/session", cookie)).status == 204
    assert (await stream.rest())[-1].json == {"reason": "revoked", "reconnect": False}
    assert await refused(fixture, address, start)


async def test_a_resume_token_dies_with_the_token_behind_it(fixture: HubFixture) -> None:
    """Revoked by its id or expired, what came of it is refused (W17)."""
    address, _, start = await first(fixture, bearer(jti="j1"))
    await fixture.hub.revoke(jti="j1")
    assert await refused(fixture, address, start)
    address, _, start = await first(fixture, bearer("bob", exp=T0 + 100))
    await fixture.turn(100)
    assert await refused(fixture, address, start)


async def test_the_rights_of_now_count_at_every_resume(make_fixture: MakeHubFixture) -> None:
    """What was taken away is not replayed to a stream that comes back (W21)."""
    allowed = [True]

    async def authorize(identity: object, topics: list[str]) -> bool:
        return allowed[0]

    fixture = await make_fixture(authorize=authorize)
    address, stream, start = await first(fixture, topics=["a"])
    await stream.leave()
    allowed[0] = False
    reply = await fixture.stream(address, {"last-event-id": start}).refused()
    assert (reply.status, reply.json["refused"]) == (403, ["a"])


async def test_a_resume_is_bounded_by_its_tickets_topics(fixture: HubFixture) -> None:
    """Coming back is no way to ask for more (W41)."""
    address, _, start = await first(fixture, bearer(subscribe=["**"]), topics=["a", "b"])
    reply = await fixture.stream(f"{address}&topic=c", {"last-event-id": start}).refused()
    assert (reply.status, reply.json["refused"]) == (403, ["c"])
    stream = fixture.stream(f"{address}&topic=b", {"last-event-id": start})
    assert (await stream.opened()).json["topics"] == ["b"]


async def test_the_oldest_tab_is_not_ended_by_another_tabs_return(make_fixture: MakeHubFixture) -> None:
    """A returning tab takes the place of its own old stream, not of a neighbour's (W14, W45)."""
    fixture = await make_fixture(limits={"streams_per_subject": 2})
    _, oldest, _ = await first(fixture)
    address, half_dead, start = await first(fixture)
    await back(fixture, address, start)
    assert (await half_dead.rest())[-1].json["reason"] == "superseded"
    await fixture.hub.publish("user/alice", "hello")
    assert (await oldest.event("message")).data == "hello"
    assert len(fixture.node.connections) == 2


async def test_one_stream_too_many_ends_the_oldest(make_fixture: MakeHubFixture) -> None:
    """A seventh tab does not freeze the site: the oldest stream goes, and is told to stay away (W45)."""
    fixture = await make_fixture(limits={"streams_per_subject": 2})
    streams = [fixture.stream("/events", bearer()) for _ in range(3)]
    for stream in streams:
        await stream.opened()
    assert (await streams[0].rest())[-1].json == {"reason": "replaced", "reconnect": False}
    other = fixture.stream("/events", bearer("bob"))
    await other.opened()
    assert len(fixture.node.connections) == 3


async def test_a_stream_cut_before_its_first_event_is_401_without_an_id(fixture: HubFixture) -> None:
    """The browser that read nothing has only a spent ticket: the page must ask for a new one (W15)."""
    address, stream, _ = await first(fixture)
    await stream.leave()
    reply = await fixture.stream(address).refused()
    assert (reply.status, reply.json["code"]) == (401, "credential_invalid")


async def test_a_browser_comes_back_over_a_socket(hub_server: HubServer) -> None:
    """The whole turn over a real server: cut, missed event, back with the id, replayed, other stream ended."""
    fixture = hub_server.fixture
    address = f"/events?ticket={await fixture.ticket(bearer())}"
    old = await hub_server.send("GET", address, STREAM)
    opening = await old.event()
    assert opening is not None
    await fixture.hub.publish("user/alice", "one")
    new = await hub_server.send("GET", address, {**STREAM, "last-event-id": str(opening.id)})
    assert new.status == 200
    assert [(await new.event()).type for _ in range(2)] == ["auth", "message"]  # type: ignore[union-attr]
    assert (await old.rest())[-1].json["reason"] == "superseded"


async def test_an_ended_family_is_not_remembered_for_a_year(make_fixture: MakeHubFixture) -> None:
    """Its record is gone: only streams that are open now are left to end, so nobody fills hubs with ended families."""

    async def own(_: object) -> Identity:
        return Identity(subject="alice")

    fixture = await make_fixture(authenticate=own)
    address, _, one = await first(fixture, SAME)
    _, two = await back(fixture, address, one)
    stream, _ = await back(fixture, address, two)
    assert await refused(fixture, address, one)
    assert (await stream.rest())[-1].json["reason"] == "revoked"
    (ended,) = fixture.node.revocations.entries()
    assert ended.kind == "family"
    assert T0 + 2 * fixture.hub.settings.cut_off_after <= ended.expires_at <= T0 + fixture.hub.settings.resume_ttl
    assert await refused(fixture, address, two)
