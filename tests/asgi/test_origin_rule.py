"""The Origin rule over every endpoint, way in, Origin and Sec-Fetch-Site (W11, W12)."""

from __future__ import annotations

from typing import Any

import pytest

from asgi.conftest import HubFixture, MakeHubFixture
from asgi.driver import ADMIN, HUB, bearer, token
from sseal import Grants, Identity

LISTED, FOREIGN = "https://app.example", "https://evil.example"
ORIGINS = {"none": None, "own": HUB, "listed": LISTED, "foreign": FOREIGN, "null": "null"}
SITES = [None, "same-origin", "same-site", "cross-site", "none"]
EVERYTHING = Grants(subscribe=("**",), publish=("**",), admin=True)

ENDPOINTS: list[tuple[str, str, Any, int]] = [
    # method, path, body, status when let in
    ("GET", "/events?topic=a", ..., 200),
    ("POST", "/events", {"topic": "a", "data": "x"}, 201),
    ("POST", "/notifications", {"targetUserId": "bob", "message": "x"}, 200),
    ("POST", "/auth/sse", {}, 201),
    ("POST", "/auth/refresh", {"connection": "unknown"}, 404),
    ("GET", "/admin/connections", ..., 200),
    ("GET", "/admin/stats", ..., 200),
    ("DELETE", "/admin/connections/unknown", ..., 404),
    ("POST", "/admin/revocations", {"jti": "unknown"}, 201),
]


def counts(origin: str, site: str | None) -> bool:
    """Tell by the words of W11 whether an ambient credential counts."""
    if origin != "none":
        return origin in ("own", "listed")
    return site == "same-origin"


async def app_cookie(connection: Any) -> Identity | None:
    """Read the app's own session cookie, as an `authenticate=` normally does."""
    return Identity(subject="root", grants=EVERYTHING) if connection.cookies.get("app") == "good" else None


@pytest.fixture
async def fixture(make_fixture: MakeHubFixture) -> HubFixture:
    """Return a hub with an own way in and one foreign page on its list."""
    return await make_fixture(authenticate=app_cookie, allowed_origins=(LISTED,), cookie_name="jwt")


async def ambient(fixture: HubFixture, kind: str) -> dict[str, str]:
    """Return the headers of a credential that a browser adds by itself."""
    match kind:
        case "session":
            reply = await fixture.ask("POST", "/auth/session", bearer(**ADMIN))
            return {"cookie": reply.cookie}
        case "jwt":
            return {"cookie": f"jwt={token(**ADMIN)}"}
        case "own":
            return {"cookie": "app=good"}
        case "basic+session":
            return {**await ambient(fixture, "session"), "authorization": "Basic YWxpY2U6eA=="}
        case "basic+own":
            return {"cookie": "app=good", "authorization": "Basic YWxpY2U6eA=="}
    raise AssertionError(kind)


def marks(origin: str, site: str | None) -> dict[str, str]:
    """Return the headers a browser adds to say where a request comes from."""
    headers = {} if ORIGINS[origin] is None else {"origin": str(ORIGINS[origin])}
    return headers if site is None else {**headers, "sec-fetch-site": site}


async def answer(fixture: HubFixture, method: str, path: str, headers: dict[str, str], body: Any) -> tuple[int, str]:
    """Return status and code of one request, stream or not."""
    if path.startswith("/events") and method == "GET":
        stream = fixture.stream(path, headers)
        await stream.answered()
        if stream.status != 200:
            await stream.refused()
        code = "" if stream.status == 200 else stream.reply.json["code"]
        await stream.leave()
        return stream.status, code
    reply = await fixture.ask(method, path, headers, json=body)
    return reply.status, reply.json.get("code", "") if reply.body else ""


@pytest.mark.parametrize("kind", ["session", "jwt", "own", "basic+session", "basic+own"])
@pytest.mark.parametrize(("method", "path", "body", "fine"), ENDPOINTS)
async def test_an_ambient_credential_counts_from_a_known_page_only(
    fixture: HubFixture, kind: str, method: str, path: str, body: Any, fine: int
) -> None:
    """Whichever cookie, `authenticate=` included, and with the browser's Basic beside it (W12)."""
    carried = await ambient(fixture, kind)
    for origin in ORIGINS:
        for site in SITES:
            before = fixture.state
            status, code = await answer(fixture, method, path, {**carried, **marks(origin, site)}, body)
            expected = (fine, "") if counts(origin, site) else (403, "origin_refused")
            assert (status, code if status == 403 else "") == expected, (origin, site)
            if status == 403:
                assert fixture.state == before


@pytest.mark.parametrize(("method", "path", "body", "fine"), ENDPOINTS)
async def test_a_bearer_token_counts_from_everywhere(
    fixture: HubFixture, method: str, path: str, body: Any, fine: int
) -> None:
    """A page that can show the token has it; cookies beside it change nothing (W12)."""
    for carried in (bearer(**ADMIN), {**bearer(**ADMIN), "cookie": "app=bad; other=1"}):
        for origin in ORIGINS:
            for site in SITES:
                status, _ = await answer(fixture, method, path, {**carried, **marks(origin, site)}, body)
                assert status == fine, (origin, site)


@pytest.mark.parametrize("origin", list(ORIGINS))
@pytest.mark.parametrize("site", SITES)
async def test_a_request_with_a_foreign_cookie_only_is_checked_before_the_app_is_asked(
    make_fixture: MakeHubFixture, origin: str, site: str | None
) -> None:
    """The rule comes before any way in runs, so `authenticate=` never sees a forged request (W12)."""
    seen = []

    async def spy(connection: Any) -> None:
        seen.append(connection)

    fixture = await make_fixture(authenticate=spy, allowed_origins=(LISTED,))
    headers = {"cookie": "whatever=1", **marks(origin, site)}
    reply = await fixture.ask("POST", "/events", headers, json={"topic": "a", "data": "x"})
    assert reply.status == (401 if counts(origin, site) else 403)
    assert bool(seen) is counts(origin, site)


@pytest.mark.parametrize("origin", list(ORIGINS))
@pytest.mark.parametrize("site", SITES)
async def test_logging_out_is_under_the_origin_rule(fixture: HubFixture, origin: str, site: str | None) -> None:
    """Another page cannot log a user out (W12)."""
    cookie = await ambient(fixture, "session")
    reply = await fixture.ask("DELETE", "/auth/session", {**cookie, **marks(origin, site)})
    assert reply.status == (204 if counts(origin, site) else 403)
    again = await fixture.ask("POST", "/auth/sse", {**cookie, **marks("own", None)})
    assert again.status == (401 if counts(origin, site) else 201)


@pytest.mark.parametrize("origin", list(ORIGINS))
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("cookie", [{}, {"cookie": "other=1"}])
async def test_a_login_is_always_under_the_origin_rule(
    fixture: HubFixture, origin: str, site: str | None, cookie: dict[str, str]
) -> None:
    """Cookie or not, another page cannot log a user in as somebody else (W12)."""
    reply = await fixture.ask("POST", "/auth/login", {**cookie, **marks(origin, site)}, json={})
    # Accounts are off here: a known page gets as far as that.
    assert reply.status == (404 if counts(origin, site) else 403)


@pytest.mark.parametrize("origin", list(ORIGINS))
@pytest.mark.parametrize("site", SITES)
async def test_a_ticket_passes_unless_the_browser_says_another_site_sent_it(
    fixture: HubFixture, origin: str, site: str | None
) -> None:
    """A same-origin EventSource sends no Origin; a cross-origin one always does (W11)."""
    ticket = await fixture.ticket(bearer())
    passes = origin in ("own", "listed") or (origin == "none" and site not in ("same-site", "cross-site"))
    status, code = await answer(fixture, "GET", f"/events?ticket={ticket}", marks(origin, site), ...)
    assert (status, code) == ((200, "") if passes else (401, "credential_invalid"))
    assert (await answer(fixture, "GET", f"/events?ticket={ticket}", marks("none", None), ...))[0] == 401


@pytest.mark.parametrize(
    ("minted", "redeemed", "passes"),
    [
        ("own", "own", True),
        ("own", "none", True),
        ("listed", "listed", True),
        ("listed", "none", True),
        ("listed", "own", False),
        ("own", "listed", False),
        ("foreign", "foreign", True),
        ("foreign", "own", False),
        ("none", "own", True),
        ("none", "foreign", False),
        ("null", "null", False),
        ("null", "none", True),
    ],
)
async def test_a_ticket_is_bound_to_the_page_that_asked_for_it(
    fixture: HubFixture, minted: str, redeemed: str, passes: bool
) -> None:
    """An Origin that is present must be the ticket's; a wrong one burns it (W11)."""
    ticket = await fixture.ticket({**bearer(), **marks(minted, None)})
    status, _ = await answer(fixture, "GET", f"/events?ticket={ticket}", marks(redeemed, None), ...)
    assert status == (200 if passes else 401)
    assert (await answer(fixture, "GET", f"/events?ticket={ticket}", marks(minted, None), ...))[0] == 401


@pytest.mark.parametrize("origin", list(ORIGINS))
async def test_a_resume_token_is_bound_to_the_page_of_its_ticket(fixture: HubFixture, origin: str) -> None:
    """The id of an event, which any script may read, is no good on another page (W11)."""
    ticket = await fixture.ticket({**bearer(), **marks("listed", None)})
    stream = fixture.stream(f"/events?ticket={ticket}", marks("listed", None))
    headers = {"last-event-id": str((await stream.opened()).id), **marks(origin, None)}
    status, _ = await answer(fixture, "GET", f"/events?ticket={ticket}", headers, ...)
    assert status == (200 if origin in ("none", "listed") else 401)


@pytest.mark.parametrize("origin", ["foreign", "null"])
async def test_the_allow_list_does_not_open_by_spelling(fixture: HubFixture, origin: str) -> None:
    """An Origin that only resembles a listed one is foreign (W11)."""
    carried = await ambient(fixture, "own")
    for text in (LISTED + ".evil.example", LISTED + ":8443", LISTED.upper(), "http://app.example", f"{LISTED}, {HUB}"):
        reply = await fixture.ask("GET", "/admin/stats", {**carried, "origin": text})
        assert reply.status == 403, text


@pytest.mark.parametrize(
    "media", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json"]
)
@pytest.mark.parametrize(("path", "body"), [(p, b) for m, p, b, _ in ENDPOINTS if m == "POST" and b is not ...])
async def test_a_form_cannot_post_json(fixture: HubFixture, path: str, body: Any, media: str | None) -> None:
    """A text/plain form can carry JSON across sites without a preflight: login CSRF and its kin (W12)."""
    import json

    headers = {**bearer(**ADMIN)} if media is None else {**bearer(**ADMIN), "content-type": media}
    before = fixture.state
    reply = await fixture.ask("POST", path, headers, body=json.dumps(body).encode())
    assert (reply.status, reply.json["code"]) == (415, "unsupported_media_type")
    assert fixture.state == before
