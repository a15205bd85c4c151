"""LoginThrottle at passwords and other credentials: refused where they come from, and nobody is locked out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from asgi.conftest import HubFixture, MakeHubFixture
from asgi.driver import SAME, STREAM, Reply, bearer, token
from sseal.asgi import login_throttle
from sseal.asgi.login_throttle import FROM_ANYWHERE, LoginThrottle
from sseal.errors import CredentialInvalid, TooManyRequests
from sseal.identity_sources.accounts import Accounts

RIGHT = "correct horse battery"
LOCAL = {"host": "localhost"}
Desk = Callable[..., Awaitable[HubFixture]]


@pytest.fixture
def make_desk(make_fixture: MakeHubFixture, tmp_path: Path) -> Desk:
    """Make a hub with an account of alice's, and limits as given."""

    async def make(**limits: Any) -> HubFixture:
        path = tmp_path / "accounts.sqlite"
        Accounts(path).add("alice", RIGHT)
        return await make_fixture(accounts=str(path), insecure_cookies=True, limits=limits)

    return make


async def login(fixture: HubFixture, address: str, password: str = "wrong", name: str = "alice") -> Reply:  # noqa: S107
    """Log in from an address."""
    body = {"username": name, "password": password}
    return await fixture.ask("POST", "/auth/login", {**LOCAL, **SAME}, json=body, client=(address, 1))


async def test_guesses_are_refused_per_name_and_address_and_per_address(make_desk: Desk) -> None:
    """One name from one address, then any name from it; the same name from elsewhere is not concerned."""
    desk = await make_desk(logins_per_minute_per_user=2, logins_per_minute_per_address=3)
    assert [(await login(desk, "192.0.2.1")).status for _ in range(3)] == [401, 401, 429]
    assert [(await login(desk, "192.0.2.1", name=name)).status for name in ("bob", "carol")] == [401, 429]
    reply = await login(desk, "192.0.2.1", RIGHT)
    assert (reply.status, reply.header("retry-after")) == (429, "60")
    assert reply.header("ratelimit-policy") == '"failed-logins-per-address";q=3;w=60'
    assert (await login(desk, "192.0.2.2", RIGHT)).status == 200


async def test_a_network_of_ipv6_is_one_guesser(make_desk: Desk) -> None:
    """2^64 addresses of one /64 have the guesses of one; the next /64 has its own."""
    desk = await make_desk(logins_per_minute_per_user=2)
    statuses = [(await login(desk, f"2001:db8:0:1::{n:x}")).status for n in range(4)]
    assert statuses == [401, 401, 429, 429]
    assert (await login(desk, "2001:db8:0:2::1", RIGHT)).status == 200


async def test_who_knows_the_password_is_not_counted(make_desk: Desk) -> None:
    """Only what failed counts, so that a script that logs in often is no guesser."""
    desk = await make_desk(logins_per_minute_per_user=2, logins_per_minute_per_address=2)
    assert [(await login(desk, "192.0.2.1", RIGHT)).status for _ in range(5)] == [200] * 5
    assert (await login(desk, "192.0.2.1")).status == 401


async def test_guesses_at_once_are_no_way_around(make_desk: Desk) -> None:
    """A login counts as failed while it is under way: of twenty at once no more are tried than one by one."""
    desk = await make_desk(logins_per_minute_per_user=3)
    replies = await asyncio.gather(*(login(desk, "192.0.2.1") for _ in range(20)))
    assert sorted(reply.status for reply in replies) == [401] * 3 + [429] * 17


class Slow:
    """Writes down for how long logins were made to wait, and lets them wait until told."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)
        await self.go.wait()


async def attacked(make_desk: Desk) -> tuple[LoginThrottle, Slow]:
    """Return the guesses of a hub at which alice's name has failed from more addresses than slow it down."""
    desk = await make_desk(logins_per_minute_per_user=3)
    slow = Slow()
    parts = desk.hub._parts
    assert parts.accounts is not None
    throttle = LoginThrottle(parts.accounts, parts.throttling, parts.settings.limits, sleep=slow)
    for number in range(3 * FROM_ANYWHERE):
        with pytest.raises(CredentialInvalid):
            await throttle.verify(f"198.51.100.{number}", "alice", "wrong")
    assert slow.waits == []
    return throttle, slow


async def test_a_name_under_attack_is_slowed_down_and_its_owner_gets_in(make_desk: Desk) -> None:
    """From an address that has not failed the right password is good after a moment; the others wait ever longer."""
    throttle, slow = await attacked(make_desk)
    assert (await throttle.verify("192.0.2.1", "alice", RIGHT)).username == "alice"
    assert slow.waits == [0.5]
    for _ in range(2):
        with pytest.raises(CredentialInvalid):
            await throttle.verify("198.51.100.1", "alice", "wrong")
    assert slow.waits == [0.5, 1.0, 2.0]
    with pytest.raises(TooManyRequests):
        await throttle.verify("198.51.100.1", "alice", RIGHT)
    with pytest.raises(CredentialInvalid):
        await throttle.verify("192.0.2.1", "bob", "wrong")
    assert len(slow.waits) == 3


async def test_only_so_many_logins_wait(make_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the waiting room is full, addresses that have failed are refused, and one that has not gets in."""
    monkeypatch.setattr(login_throttle, "MAX_SLOWED", 2)
    throttle, slow = await attacked(make_desk)
    slow.go.clear()
    waiting = [asyncio.create_task(throttle.verify(f"198.51.100.{n}", "alice", "no")) for n in range(2)]
    while len(slow.waits) < 2:
        await asyncio.sleep(0)
    with pytest.raises(TooManyRequests):
        await throttle.verify("198.51.100.2", "alice", RIGHT)
    assert (await throttle.verify("192.0.2.1", "alice", RIGHT)).username == "alice"
    slow.go.set()
    assert {type(each) for each in await asyncio.gather(*waiting, return_exceptions=True)} == {CredentialInvalid}


async def test_a_slowed_login_waits_in_real_time(make_desk: Desk) -> None:
    """Over the endpoint: half a second, and then in."""
    desk = await make_desk(logins_per_minute_per_user=1)
    for number in range(FROM_ANYWHERE):
        assert (await login(desk, f"198.51.100.{number}")).status == 401
    began = asyncio.get_running_loop().time()
    assert (await login(desk, "192.0.2.1", RIGHT)).status == 200
    assert asyncio.get_running_loop().time() - began >= 0.5


BAD = {"authorization": f"Bearer {token()[:-8]}AAAAAAAA"}
ENDPOINTS: dict[str, tuple[str, str, dict[str, str], Any]] = {
    "stream": ("GET", "/events", {**BAD, "accept": "application/json"}, ...),
    "ticket": ("GET", "/events?ticket=" + "a" * 26, {"accept": "text/event-stream, application/problem+json"}, ...),
    "path": ("GET", "/events/" + "a" * 26, {"accept": "text/event-stream, application/problem+json"}, ...),
    "publish": ("POST", "/events", BAD, {"topic": "a", "data": 1}),
    "notify": ("POST", "/notifications", BAD, {"targetUserId": "a", "message": 1}),
    "mint": ("POST", "/auth/sse", BAD, {}),
    "body": ("POST", "/auth/sse", {}, {"token": token()[:-8] + "AAAAAAAA"}),
    "session": ("POST", "/auth/session", BAD, {}),
    "cookie": ("POST", "/auth/sse", {"cookie": "sseal-dev=" + "a" * 26, **SAME}, {}),
    "logout": ("DELETE", "/auth/session", {"cookie": "sseal-dev=" + "a" * 26, **SAME}, ...),
    "refresh": ("POST", "/auth/refresh", BAD, {"connection": "aaaaaaaa." + "a" * 16}),
    "login": ("POST", "/auth/login", SAME, {"username": "a", "password": "b"}),
    "admin": ("GET", "/admin/stats", BAD, ...),
}


@pytest.mark.parametrize("auth_method", ENDPOINTS)
async def test_refused_credentials_are_counted_on_every_endpoint(make_desk: Desk, auth_method: str) -> None:
    """After so many the address is told to wait, whatever it brings; another address is not concerned."""
    desk = await make_desk(failures_per_minute_per_address=2)
    method, target, headers, body = ENDPOINTS[auth_method]
    options = {} if body is ... else {"json": body}
    for _ in range(2):
        reply = await desk.ask(method, target, {**LOCAL, **headers}, **options)
        assert reply.status == (204 if auth_method == "logout" else 401), reply.body
    reply = await desk.ask(method, target, {**LOCAL, **headers}, **options)
    assert (reply.status, reply.json["code"]) == (429, "rate")
    assert reply.header("ratelimit-policy") == '"failed-credentials-per-address";q=2;w=60'
    assert (await desk.ask("POST", "/auth/sse", {**LOCAL, **bearer()})).status == 429
    assert (await desk.ask("POST", "/auth/sse", {**LOCAL, **bearer()}, client=("192.0.2.9", 1))).status == 201
    desk.clock.advance(60)
    assert (await desk.ask("POST", "/auth/sse", {**LOCAL, **bearer()})).status == 201


async def test_what_was_good_once_is_no_guess(make_desk: Desk) -> None:
    """Expired tokens of an office that slept over the weekend lock nobody out; neither do requests without any."""
    desk = await make_desk(failures_per_minute_per_address=1)
    late = bearer(exp=1.0)
    assert [(await desk.ask("GET", "/admin/stats", headers)).status for headers in (late, late, {}, {})] == [401] * 4
    assert (await desk.ask("POST", "/auth/sse", bearer())).status == 201


async def test_a_native_client_behind_a_guesser_is_told_to_come_back(make_desk: Desk) -> None:
    """It gets a stream it survives, and its ticket is not spent (W35)."""
    desk = await make_desk(failures_per_minute_per_address=1)
    ticket = await desk.ticket(bearer())
    assert (await desk.ask("GET", "/admin/stats", BAD)).status == 401
    reply = await desk.stream(f"/events?ticket={ticket}", STREAM).refused()
    assert reply.status == 200
    assert b'"reason":"rate","reconnect":true' in reply.body
    desk.clock.advance(60)
    await desk.stream(f"/events?ticket={ticket}", STREAM).opened()


async def test_where_nobody_says_who_asks_nobody_is_locked_out(make_desk: Desk) -> None:
    """Behind a socket without addresses a bound of one address would be everybody's."""
    limits = {"failures_per_minute_per_address": 1, "logins_per_minute_per_user": 1, "logins_per_minute_per_address": 1}
    desk = await make_desk(connects_per_minute_per_address=1, **limits)
    unknown: dict[str, Any] = {"client": None}
    body = {"username": "alice", "password": "wrong"}
    for _ in range(3):
        assert (await desk.ask("GET", "/admin/stats", BAD, **unknown)).status == 401
        assert (await desk.ask("POST", "/auth/login", {**LOCAL, **SAME}, json=body, **unknown)).status == 401
    body["password"] = RIGHT
    assert (await desk.ask("POST", "/auth/login", {**LOCAL, **SAME}, json=body, **unknown)).status == 200
    for _ in range(2):
        assert await desk.try_stream("/events", bearer(), **unknown) == 200
