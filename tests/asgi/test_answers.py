"""Every answer: problem documents, the headers that go with them, and paths that are not there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asgi.conftest import HubFixture, HubServer, MakeHubFixture
from asgi.driver import ADMIN, STREAM, T0, Reply, bearer
from test_errors import PHRASES

MEMBERS = {"type", "title", "status", "detail", "code"}
JSON = {"content-type": "application/json"}

REFUSALS: list[tuple[str, str, dict[str, str], Any, int, str]] = [
    ("GET", "/events", {}, ..., 401, "credential_missing"),
    ("GET", "/events", {"authorization": "Bearer x"}, ..., 401, "credential_invalid"),
    ("GET", "/events", bearer(exp=T0 - 1), ..., 401, "credential_expired"),
    ("GET", "/events?ticket=x", STREAM, ..., 401, "credential_invalid"),
    ("GET", "/events/x", STREAM, ..., 401, "credential_invalid"),
    ("GET", "/events", {"last-event-id": "a" * 26 + "_k3v9x0aa-7", **STREAM}, ..., 401, "credential_invalid"),
    ("GET", "/events", {"cookie": "__Host-sseal=x", "sec-fetch-site": "same-origin"}, ..., 401, "credential_invalid"),
    ("GET", "/events", {"cookie": "__Host-sseal=x"}, ..., 403, "origin_refused"),
    ("GET", "/events?topic=user/bob", bearer(), ..., 403, "topic_refused"),
    ("GET", "/events?topic=", bearer(), ..., 400, "invalid_request"),
    ("POST", "/events", {}, {}, 401, "credential_missing"),
    ("POST", "/events", bearer(), {"topic": "a", "data": ""}, 403, "topic_refused"),
    ("POST", "/events", bearer(), {}, 400, "invalid_request"),
    ("POST", "/auth/sse", {}, {}, 401, "credential_missing"),
    ("POST", "/auth/sse", {}, {"token": "x"}, 401, "credential_invalid"),
    ("POST", "/auth/login", {"sec-fetch-site": "same-origin"}, {}, 404, "not_found"),
    ("POST", "/auth/login", {}, {}, 403, "origin_refused"),
    ("POST", "/auth/session", {}, {}, 401, "credential_missing"),
    ("DELETE", "/auth/session", {}, ..., 401, "credential_missing"),
    ("POST", "/auth/refresh", {}, {"connection": "x"}, 401, "credential_missing"),
    ("POST", "/auth/refresh", bearer(), {"connection": "x"}, 404, "not_found"),
    ("POST", "/notifications", {}, {}, 401, "credential_missing"),
    ("POST", "/notifications", bearer(), {"targetUserId": "x", "message": ""}, 403, "topic_refused"),
    ("GET", "/admin/connections", {}, ..., 401, "credential_missing"),
    ("GET", "/admin/connections", bearer(), ..., 403, "admin_required"),
    ("DELETE", "/admin/connections/x", bearer(**ADMIN), ..., 404, "not_found"),
    ("POST", "/admin/revocations", bearer(), {"subject": "x"}, 403, "admin_required"),
    ("GET", "/admin/stats", {}, ..., 401, "credential_missing"),
    ("PUT", "/events", bearer(), ..., 405, "method_not_allowed"),
    ("GET", "/nothing", bearer(), ..., 404, "not_found"),
]


def check_problem(reply: Reply, status: int, code: str) -> None:
    """Check what every refusal promises (RFC 9457)."""
    assert reply.status == status
    assert reply.header("content-type") == "application/problem+json"
    assert reply.header("cache-control") == "no-store"
    assert reply.header("content-length") == str(len(reply.body))
    assert reply.json["code"] == code
    assert reply.json["status"] == status
    assert (reply.json["type"], reply.json["title"]) == ("about:blank", PHRASES[status])
    assert set(reply.json) >= MEMBERS
    assert set(reply.json) - MEMBERS <= {"field", "refused"}
    assert ("refused" in reply.json) is (code == "topic_refused")
    assert ("field" in reply.json) is (status in (400, 413, 415))
    assert (reply.header("www-authenticate") is not None) is (status == 401)
    assert (reply.header("retry-after") is not None) is (status in (429, 503))


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "code"),
    REFUSALS,
    ids=[f"{r[0]} {r[1]} {r[4]} {r[5]}" for r in REFUSALS],
)
async def test_a_refusal_is_a_problem_document(
    fixture: HubFixture, method: str, path: str, headers: dict[str, str], body: Any, status: int, code: str
) -> None:
    """Status, stable code, and the headers that belong to the status, whichever endpoint (W46)."""
    check_problem(await fixture.ask(method, path, headers, json=body), status, code)


async def test_a_401_says_how_to_authenticate(fixture: HubFixture) -> None:
    """RFC 9110 section 11.6.1, and RFC 6750: `invalid_token` only when there was one."""
    missing = await fixture.ask("GET", "/events")
    assert missing.header("www-authenticate") == 'Bearer realm="sseal"'
    bad = await fixture.ask("GET", "/events", {"authorization": "Bearer x"})
    assert bad.header("www-authenticate") == 'Bearer realm="sseal", error="invalid_token"'


async def test_why_a_token_failed_is_logged_and_not_told(fixture: HubFixture, caplog: pytest.LogCaptureFixture) -> None:
    """Wrong key, wrong algorithm, not yet valid, no such form: one answer outside, the reason inside (W46)."""
    tokens = ["x", "a.b.c", bearer(nbf=T0 + 99)["authorization"][7:], bearer()["authorization"][7:-3] + "AAA", ""]
    replies = [await fixture.ask("GET", "/events", {"authorization": f"Bearer {text}"}) for text in tokens]
    assert {(reply.status, reply.body) for reply in replies} == {(401, replies[0].body)}
    reasons = {vars(record)["detail"] for record in caplog.records if record.name == "sseal.audit"}
    assert len(reasons) >= 3
    assert not any(text in record.getMessage() for text in tokens[2:4] for record in caplog.records)


async def test_no_log_line_holds_a_ticket(fixture: HubFixture, caplog: pytest.LogCaptureFixture) -> None:
    """In path, query or header: what opens a stream is nowhere in our logs (W22)."""
    import logging

    caplog.set_level(logging.DEBUG)
    tickets = [await fixture.ticket(bearer()) for _ in range(3)]
    stream = fixture.stream(f"/events/{tickets[0]}")
    resume = str((await stream.opened()).id)
    await stream.leave()
    for path in (f"/events/{tickets[0]}", f"/events?ticket={tickets[0]}", f"/events/{tickets[1]}?topic=x"):
        await fixture.stream(path).refused()
    await fixture.try_stream("/events", {"last-event-id": resume})
    await fixture.try_stream("/events", {"last-event-id": resume[:25] + "a" + resume[26:]})
    text = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    for secret in (*tickets, resume.split("_")[0]):
        assert secret not in text


METHODS = {
    "/events": {"GET", "HEAD", "POST"},
    "/events/": {"GET", "HEAD", "POST"},
    "/events/abc": {"GET", "HEAD"},
    "/auth/sse": {"POST"},
    "/auth/login": {"POST"},
    "/auth/session": {"POST", "DELETE"},
    "/auth/refresh": {"POST"},
    "/notifications": {"POST"},
    "/admin/connections": {"GET", "HEAD"},
    "/admin/connections/abc": {"DELETE"},
    "/admin/revocations": {"POST"},
    "/admin/stats": {"GET", "HEAD"},
    "/healthz": {"GET", "HEAD"},
    "/readyz": {"GET", "HEAD"},
    "/metrics": {"GET", "HEAD"},
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO", "get"])
@pytest.mark.parametrize("path", list(METHODS))
async def test_a_wrong_method_is_405_with_the_right_ones(fixture: HubFixture, path: str, method: str) -> None:
    """`Allow` lists what the path can do (RFC 9110 section 15.5.6), and nothing else happens."""
    before = fixture.state
    headers = {**bearer(**ADMIN), **STREAM}
    if method in METHODS[path]:
        if method == "HEAD":
            assert (await fixture.ask(method, path, headers)).status in (200, 401)
        return
    reply = await fixture.ask(method, path, headers, body=b"{}")
    assert reply.status == 405
    assert set(str(reply.header("allow")).split(", ")) == METHODS[path]
    assert fixture.state == before


@pytest.mark.parametrize("path", list(METHODS))
async def test_head_has_no_body_and_changes_nothing(fixture: HubFixture, path: str) -> None:
    """Whatever the answer, HEAD sends the head of it only (W22)."""
    before = fixture.state
    reply = await fixture.ask("HEAD", path, {**bearer(**ADMIN), **STREAM})
    assert reply.body == b""
    assert reply.status in (200, 401, 405)
    assert fixture.state[1:] == before[1:]  # readiness may have sent a canary


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/event",
        "/events/a/b",
        "/EVENTS",
        "/auth",
        "/auth/",
        "/auth/sse/",
        "/admin",
        "/admin/connections/",
        "/admin/stats/",
        "/x",
        "//events",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_path_that_is_not_there_is_404_and_never_a_redirect(
    fixture: HubFixture, path: str, method: str
) -> None:
    """An EventSource would reconnect to wherever it was sent (W38), and a POST would lose its body."""
    reply = await fixture.ask(method, path, bearer(**ADMIN), json={})
    check_problem(reply, 404 if path != "/admin/connections/" else reply.status, reply.json["code"])
    assert reply.status == 404 or path == "/admin/connections/"
    assert reply.header("location") is None


async def test_the_trailing_slash_is_the_same_endpoint(fixture: HubFixture) -> None:
    """`/events/` streams and publishes and never redirects (W38)."""
    stream = fixture.stream("/events/?topic=a", bearer(subscribe=["a"]))
    await stream.opened()
    headers = bearer(publish=["a"])
    assert (await fixture.ask("POST", "/events/", headers, json={"topic": "a", "data": "x"})).status == 201
    assert (await stream.event("message")).data == "x"


async def test_health_needs_no_credential_and_tells_no_secret(fixture: HubFixture) -> None:
    """What a load balancer asks is open, small, and a 200."""
    await fixture.stream("/events", bearer("secret-subject")).opened()
    for path in ("/healthz", "/readyz", "/metrics"):
        reply = await fixture.ask("GET", path)
        assert reply.status == 200, path
        assert b"secret-subject" not in reply.body


async def test_a_draining_hub_is_alive_and_not_ready(fixture: HubFixture) -> None:
    """The load balancer takes it out; the supervisor does not kill it."""
    await fixture.hub.drain()
    assert (await fixture.ask("GET", "/healthz")).status == 200
    check_problem(await fixture.ask("GET", "/readyz"), 503, "draining")


async def test_the_head_of_a_stream(fixture: HubFixture) -> None:
    """No caching, no proxy buffering, no transformation, and the connection is not reused (W33)."""
    stream = fixture.stream("/events", bearer())
    await stream.opened()
    assert dict(stream.headers) == {
        "content-type": "text/event-stream",
        "cache-control": "no-store, no-transform",
        "x-accel-buffering": "no",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "connection": "close",
    }


@pytest.mark.parametrize("name", ["last_event_id", "lastEventId", "lastEventID"])
async def test_a_position_in_the_address_has_three_names(fixture: HubFixture, name: str) -> None:
    """Polyfills know their own only; ignored, its reader would miss an outage without a word (W53)."""
    for text in ("one", "two"):
        await fixture.hub.publish("user/alice", text)
    epoch = fixture.hub.position().split("-")[0]
    stream = fixture.stream(f"/events?{name}={epoch}-1", bearer())
    assert (await stream.opened()).id == f"{epoch}-1"
    assert (await stream.event("message")).data == "two"


async def test_a_stream_opens_with_one_block(fixture: HubFixture) -> None:
    """A block of `retry:` alone is an empty event to five client libraries, at every connect (W51)."""
    stream = fixture.stream("/events", bearer())
    opening = await stream.opened()
    assert (opening.type, "data" in opening.fields) == ("auth", True)
    assert 2250 <= int(opening.fields["retry"]) <= 3750
    await fixture.hub.drain()
    (last,) = await stream.rest()
    assert (last.type, last.json["reason"]) == ("bye", "draining")
    assert 2250 <= int(last.fields["retry"]) <= 3750


async def test_the_header_wins_over_the_address(fixture: HubFixture) -> None:
    """`last_event_id=` stays in the URL for ever; on a reconnect the header is newer (W38)."""
    for text in ("one", "two", "three"):
        await fixture.hub.publish("user/alice", text)
    epoch = fixture.hub.position().split("-")[0]
    for header, first in ((f"{epoch}-2", "three"), (None, "one")):
        headers = bearer() if header is None else {**bearer(), "last-event-id": header}
        stream = fixture.stream(f"/events?last_event_id={epoch}-0", headers)
        assert (await stream.opened()).id == (header or f"{epoch}-0")
        assert (await stream.event("message")).data == first


async def test_the_opening_names_the_position_the_stream_starts_from(fixture: HubFixture) -> None:
    """The one presented, or the head when none was: a stream cut right afterwards loses nothing (W1)."""
    await fixture.hub.publish("user/alice", "one")
    stream = fixture.stream("/events", bearer())
    opening = await stream.opened()
    assert opening.id == fixture.hub.position()
    await stream.leave()
    await fixture.hub.publish("user/alice", "two")
    again = fixture.stream("/events", {**bearer(), "last-event-id": str(opening.id)})
    assert (await again.opened()).id == opening.id
    assert (await again.event("message")).data == "two"


async def test_a_mounted_app_that_fails_answers_500_without_details(make_fixture: MakeHubFixture) -> None:
    """A fault in the app's own function is in the log, not in the answer."""

    async def broken(connection: Any) -> None:
        raise RuntimeError("the password is hunter2")

    fixture = await make_fixture(authenticate=broken)
    for reply in (await fixture.ask("GET", "/events"), await fixture.ask("POST", "/auth/sse")):
        check_problem(reply, 500, "internal")
        assert b"hunter2" not in reply.body


async def test_answers_over_a_socket(hub_server: HubServer) -> None:
    """A real server frames them the same: lengths, no body on HEAD, kept connections."""
    wire = await hub_server.connect()
    await wire.send("GET", "/nothing")
    assert json.loads(await wire.body())["code"] == "not_found"
    await wire.send("GET", "/events", bearer(exp=T0 - 1))
    assert (wire.status, json.loads(await wire.body())["code"]) == (401, "credential_expired")
    await wire.send("HEAD", "/events", {**bearer(), **STREAM})
    assert (wire.status, wire.headers["www-authenticate"]) == (401, ['Bearer realm="sseal"'])
    await wire.send("DELETE", "/events", bearer())
    assert (wire.status, wire.headers["allow"]) == (405, ["GET, HEAD, POST"])
    await wire.body()
    await wire.send("GET", "/events/", {**bearer(), **STREAM})
    assert (wire.status, wire.headers["connection"]) == (200, ["close"])
