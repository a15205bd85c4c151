"""Tickets through HTTP: single use, bounded, bound, and never told why they failed."""

from __future__ import annotations

import re

import pytest

from asgi.conftest import HubFixture, HubServer, MakeHubFixture
from asgi.driver import ADMIN, STREAM, T0, bearer, token
from sseal import Identity


async def test_a_ticket_answer_holds_all_that_a_page_needs(fixture: HubFixture) -> None:
    """201 with the ticket, the same as `sessionId` for clients of old, an address and a time (W44)."""
    reply = await fixture.ask("POST", "/auth/sse", bearer())
    assert reply.status == 201
    assert re.fullmatch("[a-z2-7]{26}", reply.json["ticket"])
    assert reply.json["sessionId"] == reply.json["ticket"]
    assert reply.json["url"] == f"/events?ticket={reply.json['ticket']}"
    assert reply.json["expires_in"] == 30
    assert reply.header("cache-control") == "no-store"


async def test_the_address_of_a_ticket_is_where_the_hub_is_mounted(fixture: HubFixture) -> None:
    """A hub mounted below `/sse` says so, because the page cannot know."""
    reply = await fixture.ask("POST", "/sse/auth/sse", bearer(), root_path="/sse")
    assert reply.json["url"].startswith("/sse/events?ticket=")


@pytest.mark.parametrize("public_url", ["https://hub.example/sse", "https://hub.example/sse/"])
async def test_the_address_of_a_ticket_is_absolute_where_the_public_one_is_set(
    make_fixture: MakeHubFixture, public_url: str
) -> None:
    """A page of another origin can open it as it stands; where the hub is mounted is in the setting already."""
    fixture = await make_fixture(public_url=public_url)
    for root in ("", "/sse"):
        reply = await fixture.ask("POST", f"{root}/auth/sse", bearer(), root_path=root)
        assert reply.json["url"] == f"https://hub.example/sse/events?ticket={reply.json['ticket']}"


@pytest.mark.parametrize("public_url", [None, "https://hub.example"])
async def test_no_host_that_a_request_names_gets_into_the_address_of_a_ticket(
    make_fixture: MakeHubFixture, public_url: str | None
) -> None:
    """Host and its like are what the client says: a page that believed them would take the ticket elsewhere."""
    fixture = await make_fixture(public_url=public_url)
    forged = {"host": "evil.example", "x-forwarded-host": "evil.example", "forwarded": "host=evil.example"}
    reply = await fixture.ask("POST", "/auth/sse", {**bearer(), **forged})
    assert reply.json["url"] == f"{public_url or ''}/events?ticket={reply.json['ticket']}"


@pytest.mark.parametrize("form", ["/events?ticket={}", "/events/{}"])
async def test_a_ticket_is_good_once_in_query_or_path(fixture: HubFixture, form: str) -> None:
    """Either form opens one stream, and then neither does."""
    ticket = await fixture.ticket(bearer())
    stream = fixture.stream(form.format(ticket))
    assert (await stream.opened()).json["topics"] == ["user/alice"]
    for again in ("/events?ticket={}", "/events/{}"):
        reply = await fixture.stream(again.format(ticket)).refused()
        assert (reply.status, reply.json["code"]) == (401, "credential_invalid")
    await fixture.hub.publish("user/alice", "still there")
    assert (await stream.event("message")).data == "still there"


async def test_a_late_ticket_is_refused(fixture: HubFixture) -> None:
    """30 s, and not one more."""
    good, late = [await fixture.ticket(bearer()) for _ in range(2)]
    await fixture.turn(29.9)
    assert await fixture.try_stream(f"/events?ticket={good}") == 200
    await fixture.turn(0.1)
    assert await fixture.try_stream(f"/events?ticket={late}") == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-mode": "navigate"},
        {"sec-fetch-mode": "no-cors"},
        {"accept": "*/*"},
        {"accept": "text/html"},
        {"accept": "image/avif,image/webp,*/*;q=0.8"},
        {"accept": ""},
        {"accept": "text/event-streams"},
    ],
)
async def test_only_a_script_asking_for_a_stream_redeems(fixture: HubFixture, headers: dict[str, str]) -> None:
    """A link scanner, an image or a navigation is refused and spends nothing (W22)."""
    ticket = await fixture.ticket(bearer())
    for path in (f"/events?ticket={ticket}", f"/events/{ticket}"):
        assert (await fixture.stream(path, headers).refused()).status == 401
    assert await fixture.try_stream(f"/events?ticket={ticket}", {"sec-fetch-mode": "cors"}) == 200


@pytest.mark.parametrize("accept", ["text/event-stream", "text/event-stream, */*;q=0.1", "text/event-stream;q=0.9"])
async def test_an_accept_that_names_the_type_redeems(fixture: HubFixture, accept: str) -> None:
    """Fetch clients may name more than one type."""
    ticket = await fixture.ticket(bearer())
    assert await fixture.try_stream(f"/events?ticket={ticket}", {"accept": accept}) == 200


async def test_head_authenticates_nothing_and_spends_nothing(fixture: HubFixture) -> None:
    """A preview bot's HEAD leaves the ticket to its owner (W22)."""
    ticket = await fixture.ticket(bearer())
    for path, headers in ((f"/events?ticket={ticket}", {}), (f"/events/{ticket}", {}), ("/events", bearer())):
        reply = await fixture.ask("HEAD", path, {**STREAM, **headers})
        assert (reply.status, reply.body) == (401, b"")
    assert await fixture.try_stream(f"/events?ticket={ticket}") == 200


async def test_a_ticket_bounds_what_its_stream_may_read(fixture: HubFixture) -> None:
    """`?topic=` is a subset of the ticket's, whatever else its owner might read (W41)."""
    alice = bearer(subscribe=["a/*", "b"])
    for asked, granted in [(["a/1"], ["a/1"]), (["a/*"], ["a/*"]), (["b", "a/2"], ["a/2", "b"]), ([], ["a/*", "b"])]:
        ticket = await fixture.ticket(alice, topics=["a/*", "b"])
        query = "".join(f"&topic={topic}" for topic in asked)
        stream = fixture.stream(f"/events?ticket={ticket}{query}")
        assert (await stream.opened()).json["topics"] == granted
    for asked, refused in [(["user/alice"], ["user/alice"]), (["a/1", "c", "a/**"], ["c", "a/**"])]:
        ticket = await fixture.ticket(alice, topics=["a/*", "b"])
        query = "".join(f"&topic={topic}" for topic in asked)
        reply = await fixture.stream(f"/events?ticket={ticket}{query}").refused()
        assert (reply.status, reply.json["refused"]) == (403, refused)


async def test_a_ticket_without_topics_is_for_ones_own(fixture: HubFixture) -> None:
    """The default is `user/<sub>`, and nothing else, even for somebody who may read more (W41)."""
    ticket = await fixture.ticket(bearer(subscribe=["**"]))
    reply = await fixture.stream(f"/events?ticket={ticket}&topic=news").refused()
    assert reply.json["refused"] == ["news"]


async def test_a_ticket_for_what_one_may_not_read_is_refused(fixture: HubFixture) -> None:
    """The page learns it when it asks, not when the browser connects."""
    reply = await fixture.ask("POST", "/auth/sse", bearer(), json={"topics": ["user/alice", "user/bob", "x"]})
    assert (reply.status, reply.json["refused"]) == (403, ["user/bob", "x"])


async def test_the_rights_of_now_count_when_a_ticket_is_redeemed(make_fixture: MakeHubFixture) -> None:
    """What was taken away after the ticket was minted is not read with it (W21)."""
    rights = {"alice": {"a"}}

    async def authorize(identity: Identity, topics: list[str]) -> set[str]:
        return rights[str(identity.subject)]

    fixture = await make_fixture(authorize=authorize)
    ticket = await fixture.ticket(bearer(), topics=["a"])
    rights["alice"] = set()
    assert (await fixture.stream(f"/events?ticket={ticket}").refused()).status == 403


async def test_every_ticket_fault_looks_the_same(fixture: HubFixture) -> None:
    """Unknown, used, late, malformed, of another page: one answer, so nothing can be learned (W46)."""
    used = await fixture.ticket(bearer())
    await fixture.try_stream(f"/events?ticket={used}")
    late = await fixture.ticket(bearer())
    await fixture.turn(31)
    bound = await fixture.ticket({**bearer(), "origin": "https://app.example"})
    revoked = await fixture.ticket(bearer(jti="gone"))
    await fixture.hub.revoke(jti="gone")
    faults = [(used, {}), (late, {}), ("a" * 26, {}), ("x", {}), ("", {}), (revoked, {})]
    faults += [(bound, {"origin": "https://evil.example"}), (await fixture.ticket(bearer()), {"accept": "*/*"})]
    answers = [await fixture.stream(f"/events?ticket={ticket}", headers).refused() for ticket, headers in faults]
    assert {answer.status for answer in answers} == {401}
    assert len({answer.body for answer in answers}) == 1
    assert len({str(answer.headers) for answer in answers}) == 1


async def test_a_ticket_stream_carries_its_resume_token_in_every_id(fixture: HubFixture) -> None:
    """All ids of one stream have one token before the position (W14, W31)."""
    stream = fixture.stream(f"/events?ticket={await fixture.ticket(bearer())}")
    ids = [str((await stream.opened()).id)]
    for text in ("one", "two"):
        await fixture.hub.publish("user/alice", text)
        ids.append(str((await stream.event("message")).id))
    tokens, positions = zip(*(text.split("_") for text in ids), strict=True)
    assert len(set(tokens)) == 1
    assert re.fullmatch("[a-z2-7]{26}", tokens[0])
    assert [position.split("-")[1] for position in positions] == ["0", "1", "2"]


async def test_an_app_mints_for_its_users_without_jwts(fixture: HubFixture) -> None:
    """An admin's ticket for somebody else is that person's stream, topics granted by naming them (W40)."""
    root = bearer(**ADMIN)
    ticket = await fixture.ticket(root, subject="42", topics=["order/7", "user/{sub}"])
    stream = fixture.stream(f"/events?ticket={ticket}")
    opening = await stream.opened()
    assert opening.json["subject"] == "42"
    assert opening.json["topics"] == ["order/7", "user/42"]
    ticket = await fixture.ticket(root, subject="42")
    assert (await fixture.stream(f"/events?ticket={ticket}").opened()).json["topics"] == ["user/42"]
    ticket = await fixture.ticket(root, subject="42", topics=["a/1"], grants={"subscribe": ["a/*"], "publish": []})
    assert (await fixture.stream(f"/events?ticket={ticket}").opened()).json["topics"] == ["a/1"]


@pytest.mark.parametrize("body", [{"subject": "bob"}, {"subject": "alice"}, {"subject": "bob", "grants": {}}])
async def test_only_an_admin_mints_for_others(fixture: HubFixture, body: dict[str, object]) -> None:
    """Even for oneself, naming a subject is the admin's word (W40)."""
    reply = await fixture.ask("POST", "/auth/sse", bearer(subscribe=["**"], publish=["**"]), json=body)
    assert (reply.status, reply.json["code"]) == (403, "admin_required")


async def test_a_minted_identity_is_no_admin(fixture: HubFixture) -> None:
    """The admin grant cannot be handed on (W40)."""
    reply = await fixture.ask("POST", "/auth/sse", bearer(**ADMIN), json={"subject": "42", "grants": {"admin": True}})
    assert (reply.status, reply.json["field"]) == (400, "grants.admin")


@pytest.mark.parametrize("subject", ["*", "**", "alice/x", "{sub}", "42/admin"])
async def test_a_minted_subject_is_one_literal_segment(fixture: HubFixture, subject: str) -> None:
    """Whatever the app's users are called, each gets their own topic only (W2, W40)."""
    ticket = await fixture.ticket(bearer(**ADMIN), subject=subject)
    (topic,) = (await fixture.stream(f"/events?ticket={ticket}").opened()).json["topics"]
    assert topic.startswith("user/")
    assert topic.count("/") == 1
    assert not set("*{}") & set(topic)


@pytest.mark.parametrize("how", [{"jti": "r1"}, {"subject": "root"}, {"subject": "root", "issuer": "app"}])
async def test_an_admins_end_is_the_end_of_what_they_minted(fixture: HubFixture, how: dict[str, str]) -> None:
    """Tickets, streams and families minted with a credential die with it (W17, W40)."""
    root = bearer(**ADMIN, jti="r1", iss="app")
    unused = await fixture.ticket(root, subject="42")
    stream = fixture.stream(f"/events?ticket={await fixture.ticket(root, subject='42')}")
    opening = await stream.opened()
    bystander = fixture.stream("/events", bearer("42", iss="app"))
    await bystander.opened()
    await fixture.hub.revoke(**how)
    last = await stream.rest()
    assert [block.json for block in last if block.type == "bye"] == [{"reason": "revoked", "reconnect": False}]
    assert await fixture.try_stream(f"/events?ticket={unused}") == 401
    assert await fixture.try_stream("/events", {"last-event-id": str(opening.id)}) == 401
    await fixture.hub.publish("user/42", "hello")
    assert (await bystander.event("message")).data == "hello"


async def test_a_minted_users_own_revocation_ends_the_stream_too(fixture: HubFixture) -> None:
    """The person behind a minted ticket can be revoked by name (W17, W40)."""
    stream = fixture.stream(f"/events?ticket={await fixture.ticket(bearer(**ADMIN), subject='42')}")
    await stream.opened()
    assert await fixture.hub.revoke(subject="42") == 1
    assert (await stream.rest())[-1].type == "bye"


async def test_a_ticket_never_outlives_the_token_behind_it(fixture: HubFixture) -> None:
    """A stream opened with a ticket ends when the token that bought it does."""
    ticket = await fixture.ticket(bearer(exp=T0 + 20))
    assert (await fixture.stream(f"/events?ticket={ticket}").opened()).json["expires_at"] == T0 + 20
    late = await fixture.ticket(bearer(exp=T0 + 20))
    await fixture.turn(20)
    assert await fixture.try_stream(f"/events?ticket={late}") == 401


@pytest.mark.parametrize(
    "query",
    [
        "&subject=a&subject=b",
        "&topic=a//b",
        "&topic=",
        "&envelope=2",
        "&anonymous=x",
        "&last_event_id=a&last_event_id=b",
    ],
)
async def test_a_malformed_request_spends_no_ticket(fixture: HubFixture, query: str) -> None:
    """400 means that nothing happened: the page may correct itself with the ticket it has."""
    ticket = await fixture.ticket(bearer())
    before = fixture.state
    assert (await fixture.stream(f"/events?ticket={ticket}{query}").refused()).status == 400
    assert fixture.state == before
    assert await fixture.try_stream(f"/events?ticket={ticket}") == 200


async def test_a_ticket_opens_a_stream_over_a_socket(hub_server: HubServer) -> None:
    """The same over a real server: minted, redeemed once, delivered."""
    wire = await hub_server.send("POST", "/auth/sse", {**bearer(), "origin": hub_server.origin})
    assert wire.status == 201
    import json

    ticket = json.loads(await wire.body())["ticket"]
    stream = await hub_server.send("GET", f"/events/{ticket}", STREAM)
    assert stream.status == 200
    assert stream.headers["content-type"] == ["text/event-stream"]
    opening = await stream.event()
    assert opening is not None
    assert opening.json["subject"] == "alice"
    assert (await hub_server.send("GET", f"/events/{ticket}", STREAM)).status == 401
    await hub_server.fixture.hub.publish("user/alice", "hello")
    event = await stream.event()
    assert event is not None
    assert event.data == "hello"


async def test_a_token_in_the_body_is_good_from_another_page(fixture: HubFixture) -> None:
    """A page on the list may mint with a token it holds; one off the list may not use this form."""
    good = await fixture.ask("POST", "/auth/sse", {"origin": "http://hub.test"}, json={"token": token()})
    assert good.status == 201
    bad = await fixture.ask("POST", "/auth/sse", {"origin": "https://evil.example"}, json={"token": token()})
    assert (bad.status, bad.json["code"]) == (403, "origin_refused")
