"""Sessions and their cookies: attributes, rotation, logout, and who may get one (W12, W16, W23)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from asgi.conftest import HubFixture, MakeHubFixture
from asgi.driver import HUB, SAME, STREAM, T0, Reply, bearer
from sseal import Grants
from sseal.identity_sources.accounts import Accounts

PASSWORD = "correct horse battery staple"
LOCAL = {"host": "localhost:8000"}
MONTH = 30 * 24 * 3600
DAY12 = 12 * 3600


@pytest.fixture
async def desk(make_fixture: MakeHubFixture, tmp_path: Path) -> HubFixture:
    """Return a hub with two accounts and cookies for loopback."""
    path = tmp_path / "accounts.sqlite"
    accounts = Accounts(path, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    for name in ("alice", "bob"):
        accounts.add(name, PASSWORD, grants=Grants(subscribe=("news/*",)))
    accounts.close()
    return await make_fixture(accounts=str(path), insecure_cookies=True)


async def login(fixture: HubFixture, name: str = "alice", headers: dict[str, str] | None = None, **body: Any) -> Reply:
    """Log in from our own page."""
    content = {"username": name, "password": PASSWORD, **body}
    return await fixture.ask("POST", "/auth/login", {**LOCAL, **SAME, **(headers or {})}, json=content)


async def session(fixture: HubFixture, headers: dict[str, str]) -> Reply:
    """Turn a bearer token into a session."""
    return await fixture.ask("POST", "/auth/session", {**LOCAL, **headers})


def attributes(reply: Reply) -> dict[str, str]:
    """Return name, value and attributes of the one cookie that was set."""
    pair, *rest = [part.strip() for part in str(reply.header("set-cookie")).split(";")]
    found = {"": pair.partition("=")[0], "value": pair.partition("=")[2]}
    return found | {part.partition("=")[0].lower(): part.partition("=")[2] for part in rest}


Opening = Callable[[HubFixture], Awaitable[Reply]]
OPENINGS: list[Opening] = [login, lambda fixture: session(fixture, bearer(exp=T0 + 10 * 24 * 3600))]


@pytest.mark.parametrize("opening", OPENINGS, ids=["login", "session"])
async def test_on_loopback_the_cookie_says_what_it_is(desk: HubFixture, opening: Opening) -> None:
    """`sseal-dev` without Secure, for http on this machine, otherwise as strict (W23)."""
    reply = await opening(desk)
    assert reply.status == 200
    assert reply.json == {"subject": "alice", "expires_at": T0 + DAY12}
    found = attributes(reply)
    assert len(found.pop("value")) == 26
    assert found == {"": "sseal-dev", "path": "/", "max-age": str(DAY12 + MONTH), "httponly": "", "samesite": "Strict"}


async def test_elsewhere_the_cookie_is_bound_to_the_host(make_fixture: MakeHubFixture) -> None:
    """`__Host-` needs Secure, Path=/ and no Domain; all are there (W23)."""
    fixture = await make_fixture()
    reply = await fixture.ask("POST", "/auth/session", bearer(), scheme="https")
    found = attributes(reply)
    assert len(found.pop("value")) == 26
    assert found == {
        "": "__Host-sseal",
        "path": "/",
        "max-age": str(3600 + MONTH),
        "httponly": "",
        "samesite": "Strict",
        "secure": "",
    }


@pytest.mark.parametrize("host", ["hub.test", "192.168.0.7:8000", "localhost.evil.example", "0.0.0.0:8000"])
async def test_an_insecure_cookie_is_given_to_loopback_only(desk: HubFixture, host: str) -> None:
    """A cookie without Secure never goes over a network (W23)."""
    before = desk.state
    for path, body in (("/auth/login", {"username": "alice", "password": PASSWORD}), ("/auth/session", {})):
        reply = await desk.ask("POST", path, {**bearer(), **SAME, "host": host}, json=body)
        assert (reply.status, reply.json["code"]) == (403, "insecure_cookie")
        assert reply.header("set-cookie") is None
    assert desk.state == before


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]", "[::1]:8000", "app.localhost:3000"])
async def test_every_name_of_this_machine_is_loopback(desk: HubFixture, host: str) -> None:
    """Development works on each of them (W23)."""
    assert (await desk.ask("POST", "/auth/session", {**bearer(), "host": host})).status == 200


@pytest.mark.parametrize(("exp", "ends"), [(T0 + 100, T0 + 100), (T0 + 10 * 24 * 3600, T0 + DAY12)])
async def test_a_session_is_capped_by_the_token_that_opened_it(desk: HubFixture, exp: float, ends: float) -> None:
    """A cookie is no way to outlive a token."""
    reply = await session(desk, bearer(exp=exp))
    assert reply.json["expires_at"] == ends
    assert attributes(reply)["max-age"] == str(int(ends - T0) + MONTH)
    cookie = {"cookie": reply.cookie, **SAME}
    await desk.turn(ends - T0 - 1)
    assert await desk.try_stream("/events", cookie) == 200
    await desk.turn(1)
    assert await desk.try_stream("/events", cookie) == 401


async def test_a_session_that_is_over_is_a_401_and_not_nobody(make_fixture: MakeHubFixture) -> None:
    """The cookie outlives its session by a month, so the tab learns that it is over (W16)."""
    fixture = await make_fixture(insecure_cookies=True, public_topics=("news/*",))
    cookie = {"cookie": (await session(fixture, bearer())).cookie, **SAME}
    await fixture.turn(3600)
    reply = await fixture.stream("/events?anonymous=1&topic=news/a", cookie).refused()
    assert reply.status == 401


async def test_a_login_is_who_the_account_says(desk: HubFixture) -> None:
    """Subject and grants are the account's."""
    cookie = {"cookie": (await login(desk)).cookie, **SAME}
    stream = desk.stream("/events?topic=news/a", cookie)
    opening = await stream.opened()
    assert (opening.json["subject"], opening.json["topics"]) == ("alice", ["news/a"])


@pytest.mark.parametrize(("name", "password"), [("alice", "wrong password"), ("nobody", PASSWORD), ("Alice", PASSWORD)])
async def test_a_login_that_fails_says_nothing(desk: HubFixture, name: str, password: str) -> None:
    """Unknown name and wrong password have one answer, and no cookie."""
    replies = [await login(desk, name, password=password), await login(desk, "somebody", password="nothing right")]
    assert [reply.status for reply in replies] == [401, 401]
    assert replies[0].body == replies[1].body
    assert replies[0].header("set-cookie") is None


async def test_a_login_rotates_the_session(desk: HubFixture) -> None:
    """A value planted before the login, or left from the last one, is not the session afterwards (W12)."""
    old = await login(desk)
    new = await login(desk, headers={"cookie": old.cookie})
    assert attributes(new)["value"] != attributes(old)["value"]
    assert await desk.try_stream("/events", {"cookie": old.cookie, **SAME}) == 401
    assert await desk.try_stream("/events", {"cookie": new.cookie, **SAME}) == 200
    planted = await login(desk, headers={"cookie": "sseal-dev=" + "a" * 26})
    assert attributes(planted)["value"] != "a" * 26


@pytest.mark.parametrize("path", ["login", "session"])
async def test_a_login_of_somebody_else_ends_what_the_last_one_had_open(desk: HubFixture, path: str) -> None:
    """On a shared machine bob's login is alice's logout: her streams and tickets end (W17)."""
    alice = await login(desk)
    headers = {"cookie": alice.cookie, **SAME}
    stream = desk.stream("/events", headers)
    await stream.opened()
    ticket = await desk.ticket({"cookie": alice.cookie, "origin": HUB})
    if path == "login":
        assert (await login(desk, "bob", {"cookie": alice.cookie})).status == 200
    else:
        assert (await session(desk, {**bearer("bob"), "cookie": alice.cookie})).status == 200
    assert (await stream.rest())[-1].json == {"reason": "revoked", "reconnect": False}
    assert await desk.try_stream(f"/events?ticket={ticket}") == 401


async def test_a_logout_after_a_second_login_ends_the_streams_of_the_first(desk: HubFixture) -> None:
    """Logging in again does not detach what was open before from the logout (W17)."""
    first = await login(desk)
    stream = desk.stream("/events", {"cookie": first.cookie, **SAME})
    await stream.opened()
    second = await login(desk, headers={"cookie": first.cookie})
    assert len(desk.node.connections) == 1, "the other tab of the same person goes on"
    await desk.ask("DELETE", "/auth/session", {"cookie": second.cookie, **SAME})
    assert (await stream.rest())[-1].type == "bye"


async def test_a_logout_with_a_short_renewal_ends_the_whole_login_for_good(desk: HubFixture) -> None:
    """A session renewed by a short credential, expired or not, still logs out what the long one opened (W17)."""
    first = await session(desk, bearer("alice", exp=T0 + 3600))
    ticket = await desk.ticket({"cookie": first.cookie, "origin": HUB})
    stream = desk.stream(f"/events?ticket={ticket}")
    last = str((await stream.opened()).id)
    second = await session(desk, {**bearer("alice", exp=T0 + 60), "cookie": first.cookie})
    assert second.status == 200
    await desk.turn(120.0)
    assert len(desk.node.connections) == 1
    await desk.ask("DELETE", "/auth/session", {"cookie": second.cookie, **SAME})
    assert desk.node.connections == {}
    await desk.turn(600.0)
    assert await desk.try_stream(f"/events?ticket={ticket}", {"last-event-id": last}) == 401


async def test_many_logins_in_a_row_keep_the_tabs_and_one_logout_ends_them(desk: HubFixture) -> None:
    """However often the same person logs in again, the tabs go on until the logout (W12, W17)."""
    reply = await login(desk)
    for _ in range(7):
        await desk.stream("/events", {"cookie": reply.cookie, **SAME}).opened()
        reply = await login(desk, headers={"cookie": reply.cookie})
    assert len(desk.node.connections) == 7
    await desk.ask("DELETE", "/auth/session", {"cookie": reply.cookie, **SAME})
    assert desk.node.connections == {}


async def test_a_logout_ends_all_that_came_of_the_session(desk: HubFixture) -> None:
    """Cookie, its streams, its tickets, streams of its tickets, and their resume tokens (W17)."""
    cookie = {"cookie": (await login(desk)).cookie, "origin": HUB}
    other = await login(desk)
    unused = await desk.ticket(cookie)
    direct = desk.stream("/events", cookie)
    ticketed = desk.stream(f"/events?ticket={await desk.ticket(cookie)}")
    elsewhere = desk.stream("/events", {"cookie": other.cookie, **SAME})
    last = [str((await stream.opened()).id) for stream in (direct, ticketed, elsewhere)][1]
    reply = await desk.ask("DELETE", "/auth/session", cookie)
    assert (reply.status, reply.body) == (204, b"")
    cleared = attributes(reply)
    assert (cleared[""], cleared["value"].strip('"'), cleared["max-age"], cleared["path"]) == (
        "sseal-dev",
        "",
        "0",
        "/",
    )
    for stream in (direct, ticketed):
        events = await stream.rest()
        assert events[-2].json["session"] == "revoked"
        assert events[-1].json == {"reason": "revoked", "reconnect": False}
    assert await desk.try_stream("/events", cookie) == 401
    assert await desk.try_stream(f"/events?ticket={unused}") == 401
    assert await desk.try_stream("/events", {"last-event-id": last}) == 401
    await desk.hub.publish("user/alice", "hello")
    assert (await elsewhere.event("message")).data == "hello"


async def test_a_session_dies_with_the_token_that_opened_it(desk: HubFixture) -> None:
    """Revoke the token, and the cookie it bought is worth nothing (W17)."""
    cookie = {"cookie": (await session(desk, bearer(jti="j1"))).cookie, **SAME}
    await desk.hub.revoke(jti="j1")
    assert await desk.try_stream("/events", cookie) == 401


async def test_who_has_no_session_cannot_log_out(desk: HubFixture) -> None:
    """A bearer token is not ended by this endpoint, and an unknown cookie is cleared all the same."""
    assert (await desk.ask("DELETE", "/auth/session", {**bearer(), **SAME})).status == 401
    reply = await desk.ask("DELETE", "/auth/session", {"cookie": "sseal-dev=" + "a" * 26, **SAME})
    assert (reply.status, attributes(reply)["max-age"]) == (204, "0")


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_a_foreign_form_cannot_log_anybody_in(desk: HubFixture, media: str | None) -> None:
    """Login CSRF: a text/plain form can hold JSON, from our own page or another (W12)."""
    body = json.dumps({"username": "bob", "password": PASSWORD}).encode()
    headers = {**LOCAL} if media is None else {**LOCAL, "content-type": media}
    for origin, status in ((SAME, 415), ({"origin": "https://evil.example"}, 403), ({}, 403)):
        reply = await desk.ask("POST", "/auth/login", {**headers, **origin}, body=body)
        assert reply.status == status
        assert reply.header("set-cookie") is None


async def test_login_is_not_there_without_accounts(fixture: HubFixture) -> None:
    """A hub without accounts has nothing to log in to."""
    reply = await fixture.ask("POST", "/auth/login", SAME, json={"username": "a", "password": "b"})
    assert reply.status == 404


async def test_a_session_cookie_needs_no_stream_header(desk: HubFixture) -> None:
    """A cookie stream is opened by whatever asks from our own page."""
    cookie = {"cookie": (await login(desk)).cookie, **SAME, **STREAM}
    assert await desk.try_stream("/events", cookie) == 200


async def test_logins_are_sessions_like_others_and_as_limited(make_fixture: MakeHubFixture, tmp_path: Path) -> None:
    """Whoever knows a password fills neither the store with sessions nor every hub with revocations of them."""
    path = tmp_path / "accounts.sqlite"
    accounts = Accounts(path, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    for name in ("alice", "bob"):
        accounts.add(name, PASSWORD)
    accounts.close()
    limits = {"sessions_per_minute_per_subject": 2}
    fixture = await make_fixture(accounts=str(path), insecure_cookies=True, limits=limits)
    replies = [await login(fixture) for _ in range(4)]
    assert [reply.status for reply in replies] == [200, 200, 429, 429]
    assert replies[-1].header("ratelimit-policy") == '"sessions-per-subject";q=2;w=60'
    assert (await login(fixture, "bob")).status == 200
    fixture.clock.advance(60)
    assert (await login(fixture)).status == 200
