"""Five ways in and one identity: which way decides, and that bad never becomes nobody (W13, W16)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import combinations
from typing import Any

import pytest

from asgi.conftest import HubFixture, MakeHubFixture
from asgi.driver import ADMIN, SAME, STREAM, T0, bearer, token
from sseal import Identity
from sseal.auth.credential import AuthMethod
from sseal.errors import CredentialMissing
from sseal.telemetry import redaction

AUTH_METHODS: tuple[AuthMethod, ...] = ("bearer", "ticket", "resume", "cookie", "query", "custom")
OPEN = ("bearer", "ticket", "resume", "cookie", "query", "custom")


@pytest.fixture
def redacted() -> Any:
    """Install the redaction that `?token=` needs, and take it away again."""
    import logging

    before = {name: list(logging.getLogger(name).filters) for name in redaction.LOGGERS}
    redaction.install()
    yield
    for name, filters in before.items():
        logging.getLogger(name).filters[:] = filters


async def own(connection: Any) -> Identity | None:
    """Read the app's own header."""
    name = connection.headers.get("x-user")
    if name == "broken":
        from sseal.errors import CredentialInvalid

        raise CredentialInvalid("the app says no", auth_method="custom")
    return None if name is None else Identity(subject=name)


@pytest.fixture
async def all_ways(make_fixture: MakeHubFixture, redacted: None) -> HubFixture:
    """Return a hub with every way in open."""
    return await make_fixture(credentials=OPEN, authenticate=own, public_topics=("news/**",), insecure_cookies=True)


Carry = Callable[[HubFixture, str], Awaitable[tuple[dict[str, str], str]]]


async def good(fixture: HubFixture, auth_method: str, subject: str) -> tuple[dict[str, str], str]:
    """Return headers and query of a good credential of a way, for a subject."""
    if auth_method == "bearer":
        return bearer(subject), ""
    if auth_method == "ticket":
        return {}, f"ticket={await fixture.ticket(bearer(subject))}"
    if auth_method == "resume":
        stream = fixture.stream(f"/events?ticket={await fixture.ticket(bearer(subject))}")
        opening = await stream.opened()
        await stream.leave()
        return {"last-event-id": str(opening.id)}, ""
    if auth_method == "cookie":
        reply = await fixture.ask("POST", "/auth/session", {**bearer(subject), "host": "localhost"})
        assert reply.status == 200, reply.body
        return {"cookie": reply.cookie, **SAME}, ""
    if auth_method == "query":
        return {}, f"token={token(subject)}"
    return {"x-user": subject}, ""


BAD: dict[str, tuple[dict[str, str], str]] = {
    "bearer": ({"authorization": "Bearer nonsense"}, ""),
    "ticket": ({}, "ticket=" + "a" * 26),
    "resume": ({"last-event-id": "a" * 26 + "_k3v9x0aa-7"}, ""),
    "cookie": ({"cookie": "sseal-dev=" + "a" * 26, **SAME}, ""),
    "query": ({}, "token=nonsense"),
    "custom": ({"x-user": "broken"}, ""),
}


def target(*queries: str) -> str:
    """Return the stream's address with these query parts."""
    return "/events?" + "&".join(filter(None, queries))


@pytest.mark.parametrize("auth_method", AUTH_METHODS)
async def test_each_way_in_opens_a_stream_of_its_subject(all_ways: HubFixture, auth_method: str) -> None:
    """A good credential, whichever, is who it says, and reads that person's own topic."""
    headers, query = await good(all_ways, auth_method, "alice")
    stream = all_ways.stream(target(query), headers)
    opening = await stream.opened()
    assert opening.json["subject"] == "alice"
    assert opening.json["topics"] == ["user/alice"]
    await all_ways.hub.publish("user/alice", "hello")
    assert (await stream.event("message")).data == "hello"


@pytest.mark.parametrize("auth_method", AUTH_METHODS)
@pytest.mark.parametrize("extra", ["", "anonymous=1&topic=news/a"])
async def test_a_bad_credential_is_never_nobody(all_ways: HubFixture, auth_method: str, extra: str) -> None:
    """Present and bad means 401, even where nobody would be let in (W13, W16)."""
    headers, query = BAD[auth_method]
    stream = all_ways.stream(target(query, extra), headers)
    assert (await stream.refused()).status == 401
    assert not all_ways.node.connections


@pytest.mark.parametrize(("first", "second"), list(combinations(AUTH_METHODS, 2)))
async def test_a_good_first_way_decides_over_a_bad_second(all_ways: HubFixture, first: str, second: str) -> None:
    """What comes later in the order is not even looked at (W13)."""
    headers, query = await good(all_ways, first, "alice")
    worse, worse_query = BAD[second]
    stream = all_ways.stream(target(query, worse_query), {**worse, **headers})
    assert (await stream.opened()).json["subject"] == "alice"


@pytest.mark.parametrize(("first", "second"), list(combinations(AUTH_METHODS, 2)))
async def test_a_bad_first_way_decides_over_a_good_second(all_ways: HubFixture, first: str, second: str) -> None:
    """The later credential, however good, does not heal the first (W13)."""
    headers, query = await good(all_ways, second, "bob")
    worse, worse_query = BAD[first]
    stream = all_ways.stream(target(worse_query, query), {**headers, **worse})
    assert (await stream.refused()).status == 401


@pytest.mark.parametrize(("first", "second"), list(combinations(AUTH_METHODS, 2)))
async def test_of_two_good_ways_the_first_says_who(all_ways: HubFixture, first: str, second: str) -> None:
    """Two people in one request: the stream is the first one's (W13)."""
    headers, query = await good(all_ways, first, "alice")
    other, other_query = await good(all_ways, second, "bob")
    stream = all_ways.stream(target(other_query, query), {**other, **headers})
    assert (await stream.opened()).json["subject"] == "alice"


async def test_without_a_credential_a_public_topic_is_refused_too(all_ways: HubFixture) -> None:
    """Anonymous is asked for, never fallen into: a lost cookie is a 401 (W16)."""
    stream = all_ways.stream("/events?topic=news/a")
    reply = await stream.refused()
    assert reply.status == 401
    assert reply.json["code"] == "credential_missing"


async def test_nobody_may_read_public_topics_who_asks_for_it(all_ways: HubFixture) -> None:
    """`?anonymous=1` opens the public topics (W16)."""
    stream = all_ways.stream("/events?anonymous=1&topic=news/a&topic=news/b/*")
    opening = await stream.opened()
    assert opening.json["subject"] is None
    assert opening.json["topics"] == ["news/a", "news/b/*"]
    assert opening.json["expires_at"] is None


@pytest.mark.parametrize("topic", ["user/alice", "**", "news", "*/a"])
async def test_nobody_may_read_nothing_else(all_ways: HubFixture, topic: str) -> None:
    """A topic outside the public ones is 403 for the anonymous identity (W16)."""
    reply = await all_ways.stream(f"/events?anonymous=1&topic=news/a&topic={topic}").refused()
    assert reply.status == 403
    assert reply.json["refused"] == [topic]


async def test_anonymous_stays_off_where_nothing_is_public(fixture: HubFixture) -> None:
    """A hub without public topics lets nobody in."""
    assert (await fixture.stream("/events?anonymous=1&topic=a").refused()).status == 403


async def test_asking_for_nobody_with_a_good_credential_stays_somebody(all_ways: HubFixture) -> None:
    """The flag is a fallback asked for, not an order to forget who one is."""
    stream = all_ways.stream("/events?anonymous=1&topic=news/a", bearer())
    assert (await stream.opened()).json["subject"] == "alice"


@pytest.mark.parametrize("auth_method", AUTH_METHODS)
async def test_the_pinned_subject_is_the_only_one_let_in(all_ways: HubFixture, auth_method: str) -> None:
    """After a user switch alice's tab does not become bob's stream (W16)."""
    headers, query = await good(all_ways, auth_method, "bob")
    assert (await all_ways.stream(target(query, "subject=alice"), headers).refused()).status == 401
    headers, query = await good(all_ways, auth_method, "bob")
    stream = all_ways.stream(target(query, "subject=bob"), headers)
    assert (await stream.opened()).json["subject"] == "bob"


async def test_a_pin_refuses_nobody_too(all_ways: HubFixture) -> None:
    """A pinned tab whose cookie has gone is not silently anonymous (W16)."""
    assert (await all_ways.stream("/events?anonymous=1&topic=news/a&subject=alice").refused()).status == 401


@pytest.mark.parametrize("scheme", ["Basic YWxpY2U6eA==", "Digest x", "Negotiate x"])
async def test_another_scheme_is_not_a_credential(all_ways: HubFixture, scheme: str) -> None:
    """Staging under HTTP Basic: the browser's own header neither helps nor hurts (W13)."""
    headers, query = await good(all_ways, "cookie", "alice")
    stream = all_ways.stream(target(query), {"authorization": scheme, **headers})
    assert (await stream.opened()).json["subject"] == "alice"
    assert (await all_ways.stream("/events", {"authorization": scheme}).refused()).json["code"] == "credential_missing"


@pytest.mark.parametrize("method_path", ["GET /events", "POST /events", "POST /auth/sse", "GET /admin/stats"])
async def test_two_authorization_headers_are_malformed(all_ways: HubFixture, method_path: str) -> None:
    """Which of two headers counts is nobody's guess (W13)."""
    method, path = method_path.split()
    pairs = [("authorization", "Basic x"), ("authorization", f"Bearer {token()}"), ("accept", "text/event-stream")]
    reply = await all_ways.ask(method, path, pairs)
    assert (reply.status, reply.json["field"]) == (400, "Authorization")


@pytest.mark.parametrize("name", ["sseal-dev", "app"])
async def test_one_cookie_twice_is_malformed(make_fixture: MakeHubFixture, name: str) -> None:
    """Cookie tossing from a neighbour domain is refused, whichever of the two is ours (W13)."""
    fixture = await make_fixture(insecure_cookies=True, cookie_name="app")
    reply = await fixture.stream("/events", {"cookie": f"{name}=a; {name}=b", **SAME}).refused()
    assert (reply.status, reply.json["field"]) == (400, "Cookie")


async def test_the_apps_jwt_cookie_is_a_way_in(make_fixture: MakeHubFixture) -> None:
    """A JWT in the app's own cookie counts, after our session and under the Origin rule (W23)."""
    fixture = await make_fixture(insecure_cookies=True, cookie_name="app")
    stream = fixture.stream("/events", {"cookie": f"app={token()}", **SAME})
    assert (await stream.opened()).json["subject"] == "alice"
    session = await fixture.ask("POST", "/auth/session", {**bearer("bob"), "host": "localhost"})
    stream = fixture.stream("/events", {"cookie": f"app={token()}; {session.cookie}", **SAME})
    assert (await stream.opened()).json["subject"] == "bob"
    both = {"cookie": f"app={token()}; sseal-dev={'a' * 26}", **SAME}
    assert (await fixture.stream("/events", both).refused()).status == 401


@pytest.mark.parametrize("path", ["/events?ticket=a&ticket=b", "/events/abc?ticket=abc"])
async def test_two_tickets_are_malformed(all_ways: HubFixture, path: str) -> None:
    """In the query twice, or in path and query, nobody guesses (W13)."""
    reply = await all_ways.stream(path).refused()
    assert (reply.status, reply.json["field"]) == (400, "ticket")


async def test_a_resume_token_in_the_query_is_malformed(all_ways: HubFixture) -> None:
    """It would be logged, and sent again for ever (W38)."""
    headers, _ = await good(all_ways, "resume", "alice")
    reply = await all_ways.stream(f"/events?last_event_id={headers['last-event-id']}").refused()
    assert (reply.status, reply.json["field"]) == (400, "last_event_id")


@pytest.mark.parametrize("header", ["foo_12", "42", "", "a" * 26, "A" * 26 + "_k3v9x0aa-7"])
async def test_a_foreign_last_event_id_is_a_gap_and_no_credential(all_ways: HubFixture, header: str) -> None:
    """A live tab of another SSE library is not thrown out for its id (W13)."""
    stream = all_ways.stream("/events", {**bearer(), "last-event-id": header})
    await stream.opened()
    gap = await stream.event("gap")
    assert gap.json["reason"] == "unknown_position"
    assert gap.json["from"] is None
    reply = await all_ways.stream("/events", {"last-event-id": header}).refused()
    assert reply.json["code"] == "credential_missing"


async def test_a_token_in_the_url_is_off_by_default(fixture: HubFixture, redacted: None) -> None:
    """URLs end up in logs, so this way is opened on purpose only (W22)."""
    reply = await fixture.stream(f"/events?token={token()}").refused()
    assert reply.json["code"] == "credential_missing"


async def test_a_token_in_the_url_needs_redaction(make_fixture: MakeHubFixture) -> None:
    """Where the server's access log is not filtered, it is refused and never anonymous (W22)."""
    assert not redaction.installed()
    fixture = await make_fixture(credentials=OPEN, public_topics=("a",))
    reply = await fixture.stream(f"/events?token={token()}&anonymous=1&topic=a").refused()
    assert (reply.status, reply.json["code"]) == (401, "credential_invalid")


ELSEWHERE: list[tuple[str, str, Any]] = [
    ("POST", "/events", {"topic": "a", "data": "x"}),
    ("POST", "/notifications", {"targetUserId": "bob", "message": "x"}),
    ("POST", "/auth/sse", {}),
    ("POST", "/auth/session", {}),
    ("POST", "/auth/refresh", {"connection": "x"}),
    ("GET", "/admin/connections", ...),
    ("GET", "/admin/stats", ...),
    ("DELETE", "/admin/connections/x", ...),
    ("POST", "/admin/revocations", {"subject": "bob"}),
]


@pytest.mark.parametrize("auth_method", ["ticket", "resume", "query"])
@pytest.mark.parametrize(("method", "path", "body"), ELSEWHERE)
async def test_a_ticket_a_resume_token_and_a_query_token_open_streams_and_nothing_else(
    all_ways: HubFixture, auth_method: str, method: str, path: str, body: Any
) -> None:
    """On `/auth/sse` they would renew themselves for ever (W13); nothing is spent by the attempt."""
    if auth_method == "ticket":
        headers, query = {}, f"ticket={await all_ways.ticket(bearer(**ADMIN))}"
    elif auth_method == "query":
        headers, query = {}, f"token={token(**ADMIN)}"
    else:
        headers, query = await good(all_ways, "resume", "root")
    before = all_ways.state
    reply = await all_ways.ask(method, f"{path}?{query}", {**headers, **STREAM}, json=body)
    assert (reply.status, reply.json["code"]) == (401, "credential_missing")
    assert all_ways.state == before
    stream = all_ways.stream(target(query), headers)
    assert (await stream.opened()).json["subject"] == "root"


@pytest.mark.parametrize("auth_method", ["cookie", "custom"])
async def test_a_session_is_opened_with_a_bearer_token_only(all_ways: HubFixture, auth_method: str) -> None:
    """A cookie would renew itself for ever."""
    headers, _ = await good(all_ways, auth_method, "alice")
    reply = await all_ways.ask("POST", "/auth/session", {**headers, "host": "localhost"})
    assert (reply.status, reply.json["code"]) == (401, "credential_missing")


@pytest.mark.parametrize("auth_method", ["bearer", "cookie", "custom"])
async def test_a_caller_is_who_the_credential_says_everywhere(all_ways: HubFixture, auth_method: str) -> None:
    """The three ways good for all endpoints mint a ticket for the same person."""
    headers, _ = await good(all_ways, auth_method, "alice")
    ticket = await all_ways.ticket(headers)
    assert (await all_ways.stream(f"/events?ticket={ticket}").opened()).json["subject"] == "alice"


async def test_a_token_in_the_body_mints_a_ticket(all_ways: HubFixture) -> None:
    """A page that may not set headers sends its token as JSON; another way present decides before it."""
    for headers, subject in [({}, "bob"), ({"x-user": "carol"}, "bob"), (bearer(), "alice")]:
        ticket = await all_ways.ticket(headers, token=token("bob"))
        assert (await all_ways.stream(f"/events?ticket={ticket}").opened()).json["subject"] == subject
    for headers in ({}, {"x-user": "carol"}):
        reply = await all_ways.ask("POST", "/auth/sse", headers, json={"token": "nonsense"})
        assert (reply.status, reply.json["code"]) == (401, "credential_invalid")


async def test_an_expired_token_is_told_so(fixture: HubFixture) -> None:
    """A genuine token whose time is over has its own code; a forged one has not (W46)."""
    late = bearer(exp=T0 - 1)
    assert (await fixture.stream("/events", late).refused()).json["code"] == "credential_expired"
    forged = {"authorization": late["authorization"][:-2] + "xx"}
    assert (await fixture.stream("/events", forged).refused()).json["code"] == "credential_invalid"


async def test_an_own_way_that_answers_nonsense_is_a_fault_of_the_app(make_fixture: MakeHubFixture) -> None:
    """Neither let in nor called bad: 500, and the log says why."""

    async def nonsense(connection: Any) -> Any:
        return "alice"

    fixture = await make_fixture(authenticate=nonsense)
    assert (await fixture.stream("/events").refused()).status == 500
    assert (await fixture.ask("POST", "/auth/sse")).status == 500


async def test_an_app_may_raise_that_it_knows_nobody(make_fixture: MakeHubFixture) -> None:
    """That is what returning None says: 401, unless the client asked to be nobody (W16)."""

    async def nobody(connection: Any) -> Identity:
        raise CredentialMissing

    fixture = await make_fixture(authenticate=nobody, public_topics=("news/**",))
    assert (await fixture.stream("/events").refused()).json["code"] == "credential_missing"
    assert await fixture.try_stream("/events?anonymous=1&topic=news/a") == 200


async def test_an_own_identity_is_subject_to_time_and_revocation(make_fixture: MakeHubFixture) -> None:
    """What the app returns is checked like every other identity (W17)."""

    async def answer(connection: Any) -> Identity:
        late = connection.headers["x-user"] == "late"
        return Identity(subject=connection.headers["x-user"], issued_at=T0, expires_at=T0 if late else T0 + 60)

    fixture = await make_fixture(authenticate=answer)
    assert await fixture.try_stream("/events", {"x-user": "alice"}) == 200
    assert await fixture.try_stream("/events", {"x-user": "late"}) == 401
    await fixture.hub.revoke(subject="alice")
    assert await fixture.try_stream("/events", {"x-user": "alice"}) == 401


async def test_an_endpoint_without_keys_takes_no_token(make_fixture: MakeHubFixture) -> None:
    """A hub that can verify nothing treats a bearer token as no way in, not as a good one."""
    fixture = await make_fixture(jwt_secret=())
    assert await fixture.try_stream("/events", bearer()) == 401
    assert (await fixture.ask("POST", "/auth/sse", json={"token": token()})).status == 401
