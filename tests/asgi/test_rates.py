"""Rates of publishing, bounds of streams, and what is counted of refusals."""

from __future__ import annotations

import pytest

from asgi.conftest import HubFixture, MakeHubFixture
from asgi.driver import ADMIN, STATUS, STREAM, Reply, bearer

SHOP = bearer("shop", publish=["**"])


async def publish(fixture: HubFixture, number: int, headers: dict[str, str] = SHOP) -> Reply:
    """Publish an array of so many events."""
    return await fixture.ask("POST", "/events", headers, json=[{"topic": "a", "data": n} for n in range(number)])


async def test_every_event_of_a_subject_counts(make_fixture: MakeHubFixture) -> None:
    """Each of an array, and a notification; one too many is refused whole with 429, and counts nothing."""
    fixture = await make_fixture(limits={"publishes_per_minute_per_subject": 10})
    assert (await publish(fixture, 8)).status == 201
    note = {"targetUserId": "bob", "message": "hello"}
    assert (await fixture.ask("POST", "/notifications", SHOP, json=note)).status == 200
    before = fixture.hub.position()
    reply = await publish(fixture, 2)
    assert (reply.status, reply.json["code"], reply.header("retry-after")) == (429, "rate", "60")
    assert reply.header("ratelimit-policy") == '"publishes-per-subject";q=10;w=60'
    assert reply.header("ratelimit") == '"publishes-per-subject";r=0;t=60'
    assert fixture.hub.position() == before
    assert (await publish(fixture, 1)).status == 201
    assert (await fixture.ask("POST", "/notifications", SHOP, json=note)).status == 429
    assert (await publish(fixture, 10, bearer("other", publish=["**"]))).status == 201
    await fixture.turn(60)
    assert (await publish(fixture, 10)).status == 201


async def test_what_is_not_published_does_not_count(make_fixture: MakeHubFixture) -> None:
    """Malformed events and topics that are not granted use up no rate."""
    fixture = await make_fixture(limits={"publishes_per_minute_per_subject": 1})
    assert (await fixture.ask("POST", "/events", SHOP, json={"topic": "a*", "data": 1})).status == 400
    assert (await publish(fixture, 1, bearer("shop", publish=["b"]))).status == 403
    assert (await publish(fixture, 1)).status == 201


async def test_no_rate_is_no_limit(make_fixture: MakeHubFixture) -> None:
    """0 switches it off, and the app itself has none."""
    fixture = await make_fixture(limits={"publishes_per_minute_per_subject": 0})
    for _ in range(5):
        assert (await publish(fixture, 100)).status == 201
    strict = await make_fixture(limits={"publishes_per_minute_per_subject": 1})
    for _ in range(3):
        await strict.hub.publish("a", "b")


async def test_streams_of_one_network_are_counted_together(make_fixture: MakeHubFixture) -> None:
    """Addresses of a /64 are one client; IPv4 in IPv6 form is the IPv4 address."""
    fixture = await make_fixture(limits={"streams_per_address": 2})
    for number in (1, 2):
        await fixture.stream("/events", bearer(f"u{number}"), client=(f"2001:db8::{number}", 1)).opened()
    reply = await fixture.ask("GET", "/events", bearer("u3"), client=("2001:db8::3", 1))
    assert (reply.status, reply.json["code"]) == (429, "full")
    assert reply.header("ratelimit-policy") == '"streams-per-address";q=2;qu="concurrent-requests"'
    assert await fixture.try_stream("/events", bearer("u3"), client=("2001:db8:0:1::3", 1)) == 200
    assert await fixture.try_stream("/events", bearer("u3"), client=("192.0.2.1", 1)) == 200
    for number in (4, 5):
        await fixture.stream("/events", bearer(f"u{number}"), client=("192.0.2.1", number)).opened()
    assert await fixture.try_stream("/events", {**bearer("u6"), **STATUS}, client=("::ffff:192.0.2.1", 1)) == 429
    assert len(fixture.node.connections) == 4


@pytest.mark.parametrize("native", [True, False])
async def test_one_stream_too_many_may_be_refused(make_fixture: MakeHubFixture, native: bool) -> None:
    """With `refuse` those that are there stay; the new one is told to come back, by a stream or a status (W35)."""
    fixture = await make_fixture(limits={"streams_per_subject": 2, "on_too_many": "refuse"})
    cookie = {"cookie": (await fixture.ask("POST", "/auth/session", bearer())).cookie, "sec-fetch-site": "same-origin"}
    streams = [fixture.stream("/events", bearer()) for _ in range(2)]
    for stream in streams:
        await stream.opened()
    reply = await fixture.stream("/events", {**STREAM, **cookie} if native else {**cookie, "accept": "*/*"}).refused()
    if native:
        assert b'"reason":"full","reconnect":true' in reply.body
    else:
        assert (reply.status, reply.json["code"]) == (429, "full")
        assert reply.header("ratelimit-policy") == '"streams-per-subject";q=2;qu="concurrent-requests"'
    assert len(fixture.node.connections) == 2
    await streams[0].leave()
    assert await fixture.try_stream("/events", bearer()) == 200


async def test_a_ticket_is_not_spent_where_its_subject_has_too_many(make_fixture: MakeHubFixture) -> None:
    """It is good when one of the others has gone (W35)."""
    fixture = await make_fixture(limits={"streams_per_subject": 1, "on_too_many": "refuse"})
    stream = fixture.stream("/events", bearer())
    await stream.opened()
    ticket = await fixture.ticket(bearer())
    assert b'"reason":"full"' in (await fixture.stream(f"/events?ticket={ticket}").refused()).body
    await stream.leave()
    await fixture.stream(f"/events?ticket={ticket}").opened()


@pytest.mark.parametrize(("most", "topics", "status"), [(2, 2, 200), (2, 3, 400), (0, 100, 200), (100, 100, 200)])
async def test_topics_of_a_stream_have_a_bound(
    make_fixture: MakeHubFixture, most: int, topics: int, status: int
) -> None:
    """As many as the setting says, for streams and for tickets; 0 for no bound."""
    fixture = await make_fixture(limits={"topics_per_stream": most})
    names = [f"t/{number}" for number in range(topics)]
    headers = bearer(subscribe=["**"])
    assert await fixture.try_stream("/events?" + "&".join(f"topic={name}" for name in names), headers) == status
    reply = await fixture.ask("POST", "/auth/sse", headers, json={"topics": names})
    assert reply.status == (201 if status == 200 else 400)


async def test_refusals_of_all_are_counted_by_reason(make_fixture: MakeHubFixture) -> None:
    """Whoever was refused whatever: native and fetch readers, publishers, logins, admins."""
    fixture = await make_fixture(limits={"streams": 1, "publishes_per_minute_per_subject": 1})
    await fixture.stream("/events", bearer()).opened()
    ticket = await fixture.ticket(bearer())
    await fixture.stream(f"/events?ticket={ticket}", STREAM).refused()
    await fixture.ask("GET", "/events", bearer())
    await publish(fixture, 2)
    await publish(fixture, 1, bearer("eve"))
    await fixture.ask("POST", "/auth/sse", {"authorization": "Bearer x"})
    await fixture.ask("GET", "/admin/stats", bearer())
    await fixture.ask("PUT", "/notifications", bearer())
    await fixture.ask("POST", "/events", SHOP, body=b"{", chunked=True)
    refused = (await fixture.ask("GET", "/admin/stats", bearer(**ADMIN))).json["refused"]
    assert refused == {
        "full": 2,
        "rate": 1,
        "topic_refused": 1,
        "credential_invalid": 1,
        "admin_required": 1,
        "method_not_allowed": 1,
        "unsupported_media_type": 1,
    }
