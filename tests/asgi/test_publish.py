"""Publishing: whole or not at all, once per key, to whom it may concern."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from asgi.conftest import HubFixture, HubServer, MakeHubFixture
from asgi.driver import ADMIN, SAME, STREAM, T0, bearer
from sseal.errors import Conflict, Forbidden, InvalidInput, SsealError, Unavailable

SHOP = bearer("shop", publish=["**"], subscribe=["**"])


async def post(fixture: HubFixture, body: Any, headers: dict[str, str] = SHOP) -> tuple[int, Any]:
    """Publish over HTTP."""
    reply = await fixture.ask("POST", "/events", headers, json=body)
    return reply.status, reply.json


async def test_one_event_is_one_id(fixture: HubFixture) -> None:
    """201 with the position, and the reader gets data, type, topic and that id."""
    stream = fixture.stream("/events?topic=a", SHOP)
    await stream.opened()
    status, body = await post(fixture, {"topic": "a", "data": {"n": 1}, "event": "note"})
    assert (status, body) == (201, {"ids": [fixture.hub.position()]})
    event = await stream.event("note")
    assert event.fields == {"id": body["ids"][0], "event": "note", "topic": "a", "data": '{"n":1}'}


async def test_an_array_is_published_in_order(fixture: HubFixture) -> None:
    """One request, consecutive positions."""
    stream = fixture.stream("/events?topic=*", SHOP)
    await stream.opened()
    status, body = await post(fixture, [{"topic": topic, "data": topic} for topic in "abc"])
    assert status == 201
    assert [await_id.rsplit("-", 1)[1] for await_id in body["ids"]] == ["1", "2", "3"]
    assert [(await stream.event("message")).data for _ in range(3)] == ["a", "b", "c"]


GOOD = {"topic": "a", "data": "x"}
SPOILERS: list[tuple[Any, int, str | None]] = [
    ({"topic": "a"}, 400, "[1].data"),
    ({"data": "x"}, 400, "[1].topic"),
    ({"topic": "a*", "data": "x"}, 400, "[1].topic"),
    ({"topics": ["a", "b//c"], "data": "x"}, 400, "[1].topics[1]"),
    ({"topic": "$sseal/canary", "data": "x"}, 400, "[1].topic"),
    ({**GOOD, "event": "bye"}, 400, "[1].event"),
    ({**GOOD, "event": "a\nb"}, 400, "[1].event"),
    ({**GOOD, "ttl": -1}, 400, "[1].ttl"),
    ({**GOOD, "key": ""}, 400, "[1].key"),
    ({**GOOD, "more": 1}, 400, "[1].more"),
    ({**GOOD, "data": "x" * 300_000}, 413, "[1].data"),
    ({**GOOD, "retry": 1000}, 403, None),
    ({"topic": "secret", "data": "x"}, 403, None),
    ("a", 400, "[1]"),
    (None, 400, "[1]"),
    ({**GOOD, "key": "k", "data": "other"}, 409, None),
]


@pytest.mark.parametrize(("spoiler", "status", "field"), SPOILERS, ids=lambda value: str(value)[:40])
async def test_one_bad_item_stops_the_whole_array(
    fixture: HubFixture, spoiler: Any, status: int, field: str | None
) -> None:
    """All or nothing: the log does not move, and the answer names the item."""
    headers = bearer("shop", publish=["a", "b"])
    stream = fixture.stream("/events?topic=a", bearer(subscribe=["a"]))
    await stream.opened()
    before = fixture.hub.position()
    reply = await fixture.ask("POST", "/events", headers, json=[{**GOOD, "key": "k"}, spoiler, GOOD])
    assert reply.status == status
    assert reply.json.get("field") == field
    assert fixture.hub.position() == before
    await fixture.hub.publish("a", "next")
    assert (await stream.event("message")).data == "next"
    assert (await post(fixture, {**GOOD, "key": "k"}, headers))[0] == 201  # its key was not claimed either


async def test_a_refusal_lists_every_topic_one_may_not_publish_to(fixture: HubFixture) -> None:
    """Over all items of the request, each once."""
    items = [{"topics": ["a", "x"], "data": ""}, {"topic": "y/1", "data": ""}, {"topic": "x", "data": ""}]
    status, problem = await post(fixture, items, bearer(publish=["a", "y/*/**"]))
    assert (status, problem["code"], problem["refused"]) == (403, "topic_refused", ["x", "y/1"])


@pytest.mark.parametrize(
    ("subject", "grants", "topic", "status"),
    [
        ("alice", [], "user/alice", 403),  # reading one's own topic is no right to write it
        ("alice", ["user/{sub}"], "user/alice", 201),
        ("alice", ["user/{sub}"], "user/bob", 403),
        ("*", ["user/{sub}"], "user/alice", 403),
        ("*", ["user/{sub}"], "user/%2A", 201),
        ("alice/x", ["user/{sub}/**"], "user/alice/x/y", 403),
        ("alice", ["a/**"], "a", 403),
        ("alice", ["a/**"], "a/b/c", 201),
    ],
)
async def test_a_publisher_stays_inside_the_grants(
    fixture: HubFixture, subject: str, grants: list[str], topic: str, status: int
) -> None:
    """A subject is one literal segment in a publish grant too (W2)."""
    assert (await post(fixture, {"topic": topic, "data": ""}, bearer(subject, publish=grants)))[0] == status


async def test_several_topics_are_one_event(fixture: HubFixture) -> None:
    """One offset, and one delivery to a reader of both (W27)."""
    both, one = fixture.stream("/events?topic=a&topic=b&topic=*", SHOP), fixture.stream("/events?topic=b", SHOP)
    await both.opened()
    await one.opened()
    status, body = await post(fixture, {"topics": ["a", "b", "a"], "data": "once"})
    assert (status, len(body["ids"])) == (201, 1)
    assert fixture.hub.position() == body["ids"][0]
    await fixture.hub.publish(["b", "a"], "then")
    for stream in (both, one):
        events = [await stream.event("message") for _ in range(2)]
        assert [event.data for event in events] == ["once", "then"]
    assert body["ids"][0].endswith("-1")


async def test_several_topics_need_a_grant_each(fixture: HubFixture) -> None:
    """One event on two topics is refused if one of them is (W27)."""
    status, problem = await post(fixture, {"topics": ["a", "b"], "data": ""}, bearer(publish=["a"]))
    assert (status, problem["refused"]) == (403, ["b"])


async def test_a_key_makes_a_publish_repeatable(fixture: HubFixture) -> None:
    """Same key, same content: the first id, and nothing is sent again; other content is 409 (W20)."""
    stream = fixture.stream("/events?topic=a", SHOP)
    await stream.opened()
    first = await post(fixture, {**GOOD, "key": "order-42"})
    assert first[0] == 201
    assert await post(fixture, {"data": "x", "key": "order-42", "topic": "a"}) == first
    before = fixture.hub.position()
    for change in ({"data": "y"}, {"topic": "b"}, {"event": "note"}):
        status, problem = await post(fixture, {**GOOD, "key": "order-42", **change})
        assert (status, problem["code"]) == (409, "idempotency_conflict")
    assert fixture.hub.position() == before
    await fixture.hub.publish("a", "end")
    assert [(await stream.event("message")).data for _ in range(2)] == ["x", "end"]


async def test_a_key_belongs_to_its_publisher(fixture: HubFixture) -> None:
    """Mallory cannot silence the shop by using its key first (W20)."""
    everybody = [
        bearer("mallory", publish=["a"]),
        SHOP,
        bearer("shop", publish=["a"], iss="elsewhere"),
        bearer("hub", publish=["a"]),
        bearer("shop\x00", publish=["a"]),
    ]
    ids = [
        (await post(fixture, {**GOOD, "key": "k", "data": f"{number}"}, headers))
        for number, headers in enumerate(everybody)
    ]
    assert [status for status, _ in ids] == [201] * 5
    assert len({body["ids"][0] for _, body in ids}) == 5
    assert await fixture.hub.publish("a", "the app's own", key="k") not in [body["ids"][0] for _, body in ids]


async def test_a_key_is_forgotten_after_a_day(fixture: HubFixture) -> None:
    """24 hours, then it is a new event (W20)."""
    one = await fixture.hub.publish("a", "x", key="k")
    fixture.clock.advance(24 * 3600 - 1)
    assert await fixture.hub.publish("a", "x", key="k") == one
    fixture.clock.advance(1)
    assert await fixture.hub.publish("a", "x", key="k") != one


async def test_one_key_twice_in_an_array_is_one_event_or_none(fixture: HubFixture) -> None:
    """The same content is the same id; other content is a conflict, and nothing is published (W20)."""
    item = {**GOOD, "key": "k"}
    before = fixture.hub.position()
    assert (await post(fixture, [item, {**item, "data": "y"}]))[0] == 409
    assert fixture.hub.position() == before
    status, body = await post(fixture, [item, item, GOOD])
    assert status == 201
    assert body["ids"][0] == body["ids"][1] != body["ids"][2]


async def test_two_at_once_with_one_key_are_one_event(fixture: HubFixture) -> None:
    """A retry that overtakes its first attempt does not double it (W20)."""
    answers = await asyncio.gather(*(post(fixture, {**GOOD, "key": "k"}) for _ in range(5)))
    assert len({json.dumps(answer) for answer in answers}) == 1
    assert fixture.hub.position().endswith("-1")


async def test_an_event_with_a_ttl_is_not_replayed_afterwards_and_is_no_gap(fixture: HubFixture) -> None:
    """What is no longer worth reading is not missed (W25)."""
    start = fixture.hub.position()
    await post(fixture, [{**GOOD, "data": "soon", "ttl": 5}, {**GOOD, "data": "later"}])
    fixture.clock.advance(4.9)
    stream = fixture.stream(f"/events?topic=a&last_event_id={start}", SHOP)
    await stream.opened()
    assert [(await stream.event("message")).data for _ in range(2)] == ["soon", "later"]
    fixture.clock.advance(0.1)
    stream = fixture.stream(f"/events?topic=a&last_event_id={start}", SHOP)
    await stream.opened()
    assert (await stream.event()).data == "later"


async def test_only_an_admin_sends_readers_away(fixture: HubFixture) -> None:
    """`retry` needs the admin grant and is half a second to a minute (W19)."""
    stream = fixture.stream("/events?topic=a", SHOP)
    await stream.opened()
    status, problem = await post(fixture, {**GOOD, "retry": 1000})
    assert (status, problem["code"]) == (403, "admin_required")
    root = bearer(**ADMIN)
    for retry in (499, 60_001, 2_147_483_647):
        assert (await post(fixture, {**GOOD, "retry": retry}, root))[0] == 400
    assert (await post(fixture, {**GOOD, "retry": 1000}, root))[0] == 201
    assert (await stream.event("message")).fields["retry"] == "1000"


@pytest.mark.parametrize("event", ["auth", "gap", "bye", "open", "error"])
async def test_reserved_types_are_refused_everywhere(fixture: HubFixture, event: str) -> None:
    """Over HTTP, as a notification, and from Python (W18)."""
    before = fixture.hub.position()
    assert (await post(fixture, {**GOOD, "event": event}))[1]["field"] == "event"
    body = {"targetUserId": "bob", "message": "x", "type": event}
    reply = await fixture.ask("POST", "/notifications", SHOP, json=body)
    assert (reply.status, reply.json["field"]) == (400, "type")
    with pytest.raises(InvalidInput):
        await fixture.hub.publish("a", "x", event=event)
    assert fixture.hub.position() == before


async def test_the_canary_is_never_seen(fixture: HubFixture) -> None:
    """Readiness pushes an event through the log that no reader of everything gets."""
    stream = fixture.stream("/events?topic=**&topic=$sseal/canary", SHOP)
    await stream.opened()
    reply = await fixture.ask("GET", "/readyz")
    assert (reply.status, reply.json["status"]) == (200, "ready")
    await fixture.hub.publish("a", "hello")
    assert (await stream.event()).data == "hello"
    stream = fixture.stream(f"/events?topic=**&last_event_id={fixture.hub.position()[:8]}-0", SHOP)
    await stream.opened()
    assert (await stream.event()).data == "hello"


async def test_a_long_name_is_not_looked_at(fixture: HubFixture) -> None:
    """A target of a megabyte is refused before any character of it is encoded, which would hold up everybody."""
    body = {"targetUserId": "%" * 600_000, "message": "x"}
    reply = await fixture.ask("POST", "/notifications", SHOP, json=body)
    assert (reply.status, reply.json["field"]) == (400, "targetUserId")
    assert "has 600000 characters" in reply.json["detail"]


async def test_a_notification_has_the_shape_of_old(fixture: HubFixture) -> None:
    """`{"type","message","timestamp","sender"}` on the user's topic, answered with success and id."""
    stream = fixture.stream("/events", bearer("42"))
    await stream.opened()
    body = {"targetUserId": "42", "message": {"text": "hi"}, "type": "note"}
    reply = await fixture.ask("POST", "/notifications", SHOP, json=body)
    assert (reply.status, reply.json) == (200, {"success": True, "id": fixture.hub.position()})
    event = await stream.event("note")
    assert event.json == {
        "type": "note",
        "message": {"text": "hi"},
        "timestamp": datetime.fromtimestamp(T0, UTC).isoformat(timespec="milliseconds"),
        "sender": "shop",
    }
    assert event.fields["topic"] == "user/42"
    await fixture.ask("POST", "/notifications", SHOP, json={"targetUserId": "42", "message": "x"})
    assert (await stream.event("notification")).json["message"] == "x"


@pytest.mark.parametrize(
    ("target", "topic"),
    [
        ("42/admin", "user/42%2Fadmin"),
        ("**", "user/%2A%2A"),
        ("*", "user/%2A"),
        ("{sub}", "user/%7Bsub%7D"),
        ("..", "user/.."),
    ],
)
async def test_a_notification_cannot_be_steered(fixture: HubFixture, target: str, topic: str) -> None:
    """`targetUserId` is one literal segment, so the grant for one topic is not one for another (W2)."""
    stream = fixture.stream("/events?topic=**", SHOP)
    await stream.opened()
    assert (
        await fixture.ask("POST", "/notifications", SHOP, json={"targetUserId": target, "message": "x"})
    ).status == 200
    assert (await stream.event("notification")).fields["topic"] == topic
    narrow = bearer(publish=["user/42/*", "user/*/admin"])
    reply = await fixture.ask("POST", "/notifications", narrow, json={"targetUserId": target, "message": "x"})
    assert (reply.status, reply.json["refused"]) == (403, [topic])


async def test_the_limits_of_a_request_are_inclusive(make_fixture: MakeHubFixture) -> None:
    """Body, batch, data and topics: the bound itself passes, one more is refused."""
    fixture = await make_fixture(limits={"body": 400, "batch": 3, "data": 50, "event_topics": 2, "key": 4, "ttl": 10})
    cases = [
        ([GOOD] * 3, [GOOD] * 4, 413, "body"),
        ({**GOOD, "data": "x" * 50}, {**GOOD, "data": "x" * 51}, 413, "data"),
        ({**GOOD, "data": "é" * 25}, {**GOOD, "data": "é" * 26}, 413, "data"),
        ({"topics": ["a", "b"], "data": ""}, {"topics": ["a", "b", "c"], "data": ""}, 400, "topics"),
        ({**GOOD, "key": "1234"}, {**GOOD, "key": "12345"}, 400, "key"),
        ({**GOOD, "ttl": 10}, {**GOOD, "ttl": 10.1}, 400, "ttl"),
    ]
    for fits, exceeds, status, field in cases:
        assert (await post(fixture, fits))[0] == 201
        before = fixture.hub.position()
        answer = await post(fixture, exceeds)
        assert (answer[0], answer[1]["field"]) == (status, field)
        assert fixture.hub.position() == before
    padded = json.dumps(GOOD).encode().ljust(400)
    media = {**SHOP, "content-type": "application/json"}
    for chunked in (False, True):
        assert (await fixture.ask("POST", "/events", media, body=padded, chunked=chunked)).status == 201
        reply = await fixture.ask("POST", "/events", media, body=padded + b" ", chunked=chunked)
        assert (reply.status, reply.json["field"]) == (413, "body")


async def test_python_publishes_like_http(fixture: HubFixture) -> None:
    """`hub.publish` returns the id, checks the same, and may use `retry`."""
    stream = fixture.stream("/events?topic=a", SHOP)
    await stream.opened()
    made = await fixture.hub.publish("a", {"n": 1}, event="note", ttl=5, key="k", retry=500)
    assert made == fixture.hub.position()
    assert (await stream.event("note")).fields["retry"] == "500"
    assert await fixture.hub.publish("a", {"n": 1}, event="note", key="k") == made
    with pytest.raises(Conflict):
        await fixture.hub.publish("a", {"n": 2}, event="note", key="k")
    for wrong in ({"topic": "a*"}, {"topic": []}, {"ttl": 0}, {"retry": 499}, {"key": ""}, {"event": ""}):
        with pytest.raises(InvalidInput):
            await fixture.hub.publish(**{"topic": "a", "data": "x", **wrong})
    assert fixture.hub.position() == made


async def test_a_thread_publishes_through_the_hubs_loop(fixture: HubFixture) -> None:
    """A sync route waits for the id; a mistake is raised there (W40)."""
    stream = fixture.stream("/events?topic=a", SHOP)
    await stream.opened()
    results: list[Any] = []

    def route() -> None:
        results.append(fixture.hub.publish_threadsafe("a", "from a thread").result(5))
        try:
            fixture.hub.publish_threadsafe("a*", "x").result(5)
        except SsealError as error:
            results.append(error)

    thread = threading.Thread(target=route)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert results[0] == fixture.hub.position()
    assert isinstance(results[1], InvalidInput)
    assert (await stream.event("message")).data == "from a thread"


async def test_publishing_from_the_loop_itself_does_not_hang(fixture: HubFixture) -> None:
    """`publish_threadsafe` in the hub's own loop would wait for itself: it says so instead (W40)."""
    with pytest.raises(Unavailable, match="await"):
        fixture.hub.publish_threadsafe("a", "x")


async def test_a_hub_that_has_not_started_says_so() -> None:
    """There is no loop to publish in before the first use (W39, W40)."""
    from sseal import Hub

    with pytest.raises(Unavailable, match="not started"):
        Hub().publish_threadsafe("a", "x")


async def test_publishing_is_done_over_a_socket(hub_server: HubServer) -> None:
    """The whole way over a real server: refused, published, delivered once per connection."""
    reader = await hub_server.send("GET", "/events?topic=a", {**SHOP, **STREAM})
    await reader.event()
    media = {"content-type": "application/json"}
    refused = await hub_server.send("POST", "/events", {**bearer(), **media}, json.dumps(GOOD).encode())
    assert refused.status == 403
    wire = await hub_server.send("POST", "/events", {**SHOP, **media}, json.dumps([GOOD, GOOD]).encode())
    assert wire.status == 201
    ids = json.loads(await wire.body())["ids"]
    seen = [await reader.event() for _ in range(2)]
    assert [event.id for event in seen if event is not None] == ids


def test_the_errors_of_publishing_know_their_answers() -> None:
    """Each refusal has its status."""
    assert [error.status for error in (InvalidInput, Forbidden, Conflict, Unavailable)] == [400, 403, 409, 503]


async def test_a_cookie_publishes_from_our_own_page(make_fixture: MakeHubFixture) -> None:
    """The three ways good for callers are good for publishing, under their rules (W12)."""
    fixture = await make_fixture(insecure_cookies=True)
    reply = await fixture.ask("POST", "/auth/session", {**SHOP, "host": "localhost"})
    assert (await post(fixture, GOOD, {"cookie": reply.cookie, **SAME}))[0] == 201
    assert (await post(fixture, GOOD, {"cookie": reply.cookie}))[0] == 403


async def test_publishing_that_outruns_delivery_is_429_and_in_python_waits(make_fixture: MakeHubFixture) -> None:
    """While the oldest fan-out is unfinished for too long, nobody adds to it (W29)."""
    fixture = await make_fixture(overload_after=0.0)
    stream = fixture.stream("/events?topic=a", SHOP)
    await stream.opened()
    await fixture.hub.publish("a", "one")  # its fan-out comes at the next turn of the loop
    fixture.clock.advance(1.0)
    reply = await fixture.ask("POST", "/events", SHOP, json=GOOD)
    assert (reply.status, reply.json["code"]) == (429, "overloaded")
    assert reply.header("retry-after") == "1"
    await fixture.hub.publish("a", "two")
    assert [(await stream.event("message")).data for _ in range(2)] == ["one", "two"]
    assert (await fixture.ask("POST", "/events", SHOP, json=GOOD)).status == 201


async def test_a_hub_starts_on_its_first_request_or_publish() -> None:
    """A mounted app gets no lifespan, so nobody has to start it (W39)."""
    from asgi.driver import request
    from sseal import Hub, HubSettings

    for first in ("request", "publish"):
        hub = Hub(HubSettings(handle_signals=False))
        if first == "request":
            assert (await request(hub.asgi, "GET", "/readyz")).status == 200
        else:
            assert (await hub.publish("a", "x")).endswith("-1")
        assert hub.node.started
        await hub.aclose()
        await hub.aclose()
