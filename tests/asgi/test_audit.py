"""Every security event has its line, in the schema of docs/reference/audit.md, and its count."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from joserfc import jwk, jwt

from asgi.conftest import HubFixture, MakeHubFixture
from asgi.driver import ADMIN, SAME, STATUS, STREAM, T0, bearer, token
from jwks_server import JwksServer
from sseal.audit import EVENTS, MAX_TEXT, REASONS, Audit
from sseal.errors import CredentialInvalid
from sseal.identity_sources.accounts import Accounts

PASSWORD = "correct horse battery staple"
ROOT = bearer(**ADMIN)
LOCAL = {"host": "localhost:8000", **SAME}
CLIENT = "192.0.2.7"
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}


@pytest.fixture
async def desk(make_fixture: MakeHubFixture, tmp_path: Path) -> HubFixture:
    """Return a hub with an account, the way `query` open and small limits."""
    path = tmp_path / "accounts.sqlite"
    accounts = Accounts(path, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    accounts.add("alice", PASSWORD)
    accounts.close()
    return await make_fixture(
        accounts=str(path),
        insecure_cookies=True,
        credentials=("bearer", "ticket", "resume", "cookie", "query"),
        limits={"tickets_per_minute_per_subject": 3},
    )


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sseal.audit")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    """Return the events written so far, each with its fields, which are those of the schema and no others."""
    found = []
    for record in caplog.records:
        if record.name != "sseal.audit":
            continue
        fields = {name: value for name, value in vars(record).items() if name not in STANDARD}
        event = EVENTS[record.getMessage()]
        assert (record.levelno, sorted(fields)) == (event.level, sorted(event.fields)), record.getMessage()
        found.append((record.getMessage(), fields))
    return found


async def login(fixture: HubFixture, username: str = "alice", password: str = PASSWORD) -> dict[str, str]:
    """Log in; return the cookie's header, empty when that failed."""
    reply = await fixture.ask("POST", "/auth/login", LOCAL, json={"username": username, "password": password})
    return {"cookie": reply.cookie, **LOCAL} if reply.status == 200 else {}


async def _bad_token(fixture: HubFixture) -> None:
    await fixture.ask("POST", "/events", bearer("mallory", exp=T0 - 1), json={"topic": "a", "data": 1})


async def _spent_ticket(fixture: HubFixture) -> None:
    ticket = await fixture.ticket(bearer())
    assert await fixture.try_stream(f"/events/{ticket}") == 200
    assert await fixture.try_stream(f"/events/{ticket}") == 401


async def _stolen_resume(fixture: HubFixture) -> None:
    target = f"/events?ticket={await fixture.ticket(bearer())}"
    ids = [str((await fixture.stream(target).opened()).id)]
    for _ in range(2):
        ids.append(str((await fixture.stream(target, {"last-event-id": ids[-1]}).opened()).id))
    assert await fixture.try_stream(target, {"last-event-id": ids[0]}) == 401


async def _query_token(fixture: HubFixture) -> None:
    assert await fixture.try_stream(f"/events?token={token()}") == 401


async def _foreign_page(fixture: HubFixture) -> None:
    cookie = await login(fixture)
    reply = await fixture.ask("POST", "/auth/sse", {**cookie, "origin": "https://evil.example", "sec-fetch-site": "x"})
    assert reply.status == 403


async def _no_admin(fixture: HubFixture) -> None:
    assert (await fixture.ask("GET", "/admin/stats", bearer())).status == 403


async def _too_many(fixture: HubFixture) -> None:
    statuses = [(await fixture.ask("POST", "/auth/sse", bearer())).status for _ in range(4)]
    assert statuses[-1] == 429


async def _good_login(fixture: HubFixture) -> None:
    assert await login(fixture)


async def _bad_login(fixture: HubFixture) -> None:
    assert not await login(fixture, password="wrong horse")


async def _logout(fixture: HubFixture) -> None:
    assert (await fixture.ask("DELETE", "/auth/session", await login(fixture))).status == 204


async def _mint(fixture: HubFixture) -> None:
    reply = await fixture.ask("POST", "/auth/sse", ROOT, json={"subject": "bob", "topics": ["room/1"]})
    assert reply.status == 201


async def _kick(fixture: HubFixture) -> None:
    connection = (await fixture.stream("/events", bearer()).opened()).json["connection"]
    assert (await fixture.ask("DELETE", f"/admin/connections/{connection}", ROOT)).status == 204


async def _revoke(fixture: HubFixture) -> None:
    await fixture.stream("/events", bearer("bob", iss="app")).opened()
    reply = await fixture.ask("POST", "/admin/revocations", ROOT, json={"subject": "bob", "issuer": "app"})
    assert reply.status == 201


BOB = {"kind": "subject", "target": "bob", "target_issuer": "app", "ended": 1}
BY_ROOT = {"subject": "root", "issuer": "", "auth_method": "bearer", "address": CLIENT}
BY_ALICE = {"subject": "alice", "issuer": "sseal", "address": CLIENT}
CASES: dict[str, tuple[Callable[[HubFixture], Awaitable[None]], dict[str, Any]]] = {
    "credential_refused": (
        _bad_token,
        {"auth_method": "bearer", "reason": "expired", "detail": "exp is over", "address": CLIENT, "path": "/events"},
    ),
    "ticket_reused": (_spent_ticket, {"address": CLIENT, "path": "/events/[redacted]"}),
    "family_ended": (_stolen_resume, {"subject": "alice", "address": CLIENT, "path": "/events"}),
    "query_token_refused": (_query_token, {"reason": "unredacted", "address": CLIENT, "path": "/events"}),
    "origin_refused": (_foreign_page, {"origin": "https://evil.example", "address": CLIENT, "path": "/auth/sse"}),
    "admin_refused": (_no_admin, {"subject": "alice", "issuer": "", "auth_method": "bearer", "path": "/admin/stats"}),
    "rate_limited": (_too_many, {"code": "rate", "subject": "alice", "auth_method": "bearer", "path": "/auth/sse"}),
    "login_succeeded": (_good_login, {"subject": "alice", "address": CLIENT}),
    "login_failed": (_bad_login, {"subject": "alice", "detail": "wrong password", "address": CLIENT}),
    "session_opened": (_good_login, {**BY_ALICE, "auth_method": "password"}),
    "session_closed": (_logout, BY_ALICE),
    "admin_minted": (_mint, {**BY_ROOT, "target": "bob", "topics": ["room/1"]}),
    "admin_disconnected": (_kick, BY_ROOT),
    "admin_revoked": (_revoke, {**BY_ROOT, **BOB}),
    "revocation_applied": (_revoke, BOB),
}


@pytest.mark.parametrize("name", CASES)
async def test_each_event_is_written_once_and_counted(
    desk: HubFixture, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """A request that is a security event leaves one line that says who, what, how proven, why and from where."""
    provoke, expected = CASES[name]
    await provoke(desk)
    (fields,) = [fields for event, fields in lines(caplog) if event == name]
    assert {key: fields[key] for key in expected} == expected
    assert desk.node.audit.counts[name] == 1
    stats = (await desk.ask("GET", "/admin/stats", ROOT)).json
    assert stats["audit"] == desk.node.audit.counts
    text = (await desk.ask("GET", "/metrics")).body.decode()
    assert f'sseal_audit_events_total{{event="{name}"}} 1.0' in text
    secrets = [PASSWORD, "wrong horse", token(), *bearer("mallory", exp=T0 - 1)["authorization"].split(".")[1:]]
    shown = " ".join(str(fields) for _, fields in lines(caplog))
    assert not any(secret in shown for secret in secrets)
    assert not re.search(r"(?<![a-z2-7])[a-z2-7]{26}(?![a-z2-7])", shown)


def _remedies(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    """Return what the lines of an event say behind the refusal itself."""
    return [fields["detail"].partition("; ")[2] for event, fields in lines(caplog) if event == name]


async def test_the_line_of_a_refused_origin_says_which_setting_lets_it_in(
    desk: HubFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator whose own page is refused can paste the origin; where no setting helps, none is named."""
    cookie = await login(desk)
    for origin in ("https://app.example:8443", "null", "nonsense", "https://app.example/path"):
        reply = await desk.ask("POST", "/auth/sse", {**cookie, "origin": origin})
        assert (reply.status, reply.json["code"]) == (403, "origin_refused")
        assert "SSEAL_ALLOWED_ORIGINS" not in reply.json["detail"]
    remedy = "if that page is yours, add https://app.example:8443 to allowed_origins (SSEAL_ALLOWED_ORIGINS)"
    assert _remedies(caplog, "origin_refused") == [remedy, "", "", ""]


@pytest.mark.parametrize(
    ("minted_from", "remedy"),
    [
        (None, "if that page is yours, add https://app.example to allowed_origins (SSEAL_ALLOWED_ORIGINS)"),
        ("http://localhost:8000", ""),
    ],
)
async def test_the_line_of_a_ticket_from_an_unknown_page_says_so_too(
    desk: HubFixture, caplog: pytest.LogCaptureFixture, minted_from: str | None, remedy: str
) -> None:
    """A ticket that a server minted is used by a page: if that is not known, its origin and the setting are named."""
    source = {} if minted_from is None else {"origin": minted_from, "host": "localhost:8000"}
    ticket = await desk.ticket({**bearer(), **source})
    assert await desk.try_stream(f"/events?ticket={ticket}", {"origin": "https://app.example"}) == 401
    assert _remedies(caplog, "credential_refused") == [remedy]
    (fields,) = [fields for event, fields in lines(caplog) if event == "credential_refused"]
    assert fields["detail"].startswith("from another Origin, https://app.example")


async def test_a_key_set_that_cannot_be_read_is_an_event(
    make_fixture: MakeHubFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """Its line says which address and why; the token that asked for it is refused for now."""
    async with JwksServer() as server:
        server.serve(b"no keys", status="500 Internal Server Error")
        fixture = await make_fixture(jwt_secret=(), jwt_jwks_url=server.url)
        key = jwk.OKPKey.generate_key("Ed25519")
        signed = jwt.encode({"alg": "Ed25519", "kid": "1"}, {"sub": "a", "exp": T0 + 9}, key, ["Ed25519"])
        assert (await fixture.ask("GET", "/events", {"authorization": f"Bearer {signed}", "accept": "x"})).status == 503
        events = [fields for name, fields in lines(caplog) if name == "keyset_failed"]
        assert events[0]["url"] == server.url
        assert events[0]["detail"]
        assert fixture.node.audit.counts["keyset_failed"] == len(events)


def test_every_event_has_a_request_that_leaves_it() -> None:
    """No event of the schema is without a proof."""
    assert set(CASES) | {"keyset_failed"} == set(EVENTS)


REFUSED: dict[str, Any] = {
    "algorithm": {"authorization": "Bearer eyJhbGciOiJub25lIn0.e30.AAAA"},
    "claims": bearer(nbf=T0 + 60),
    "expired": bearer(exp=T0),
    "malformed": {"authorization": "Bearer x"},
    "revoked": bearer("eve"),
    "signature": {"authorization": bearer()["authorization"][:-4] + "AAAA"},
    "unknown": {"cookie": f"sseal-dev={'a' * 26}", **SAME},
}


@pytest.mark.parametrize("reason", REFUSED)
async def test_refusals_are_counted_by_reason(desk: HubFixture, caplog: pytest.LogCaptureFixture, reason: str) -> None:
    """Why a credential was refused is one of a few stable words, in the line and as a label."""
    await desk.hub.revoke(subject="eve")
    assert await desk.try_stream("/events", REFUSED[reason]) == 401
    (fields,) = [fields for event, fields in lines(caplog) if event == "credential_refused"]
    assert fields["reason"] == reason
    assert fields["subject"] == ("eve" if reason == "revoked" else None)
    stats = (await desk.ask("GET", "/admin/stats", ROOT)).json["credentials_refused"]
    assert {name: count for name, count in stats.items() if count} == {reason: 1}
    assert set(stats) == set(REASONS)


async def test_a_token_in_the_address_where_that_way_is_closed_is_an_event(
    fixture: HubFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody puts tokens where they get into logs; the line does not repeat it."""
    assert await fixture.try_stream(f"/events?token={token()}") == 401
    assert lines(caplog) == [("query_token_refused", {"reason": "closed", "address": CLIENT, "path": "/events"})]


async def test_a_name_that_is_no_account_is_not_written(desk: HubFixture, caplog: pytest.LogCaptureFixture) -> None:
    """People type their password into the field for the name."""
    assert not await login(desk, username=PASSWORD)
    (fields,) = [fields for event, fields in lines(caplog) if event == "login_failed"]
    assert (fields["subject"], fields["detail"]) == (None, "unknown name")
    assert PASSWORD not in caplog.text


async def test_a_refused_stream_of_any_client_is_counted(make_fixture: MakeHubFixture) -> None:
    """Limits refuse scripts with 429 and native readers by a stream; both are in the counters of refusals."""
    fixture = await make_fixture(limits={"connects_per_minute_per_address": 1})
    assert await fixture.try_stream("/events", bearer()) == 200
    assert await fixture.try_stream("/events", {**bearer(), **STATUS}) == 429
    assert await fixture.try_stream("/events", STREAM) == 200  # by a stream that says `bye`
    stats = (await fixture.ask("GET", "/admin/stats", ROOT)).json
    assert stats["refused"] == {"rate": 2}
    assert stats["audit"]["rate_limited"] == 2


async def test_what_a_client_chose_is_redacted_and_cut(desk: HubFixture, caplog: pytest.LogCaptureFixture) -> None:
    """A path full of secrets, or endless, leaves neither in the line."""
    ticket = "a" * 26
    desk.node.audit.emit("ticket_reused", address=CLIENT, path=f"/{token()}/X{ticket}/" + "y1" * 5_000)
    headers = {"origin": f"https://{ticket}.example", **(await login(desk)), "sec-fetch-site": "cross-site"}
    assert (await desk.ask("POST", "/auth/sse", headers)).status == 403
    shown = json.dumps([fields for _, fields in lines(caplog)])
    assert ticket not in shown
    assert token() not in shown
    assert all(len(str(value)) <= MAX_TEXT for _, fields in lines(caplog) for value in fields.values())


async def test_revocations_read_at_the_start_are_no_events(make_fixture: MakeHubFixture, tmp_path: Path) -> None:
    """A restart does not write a line for each revocation of the last year."""
    address = f"sqlite:///{tmp_path}/hub.db"
    first = await make_fixture(broker=address)
    await first.hub.revoke(subject="eve")
    assert first.node.audit.counts["revocation_applied"] == 1
    again = await make_fixture(broker=address)
    assert len(again.node.revocations) == 1
    assert again.node.audit.counts["revocation_applied"] == 0


def test_an_event_nobody_knows_is_a_mistake() -> None:
    """A name that is not in the schema is refused where it is written, not found by whoever reads the log."""
    with pytest.raises(KeyError):
        Audit().emit("something", address="x")


def test_the_page_lists_every_event_with_its_fields() -> None:
    """docs/reference/audit.md is the schema: names, levels, fields, reasons."""
    page = (Path(__file__).parents[2] / "docs/reference/audit.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `")
    ]
    listed = {row[0].strip("`"): (row[1], tuple(re.findall(r"`(\w+)`", row[2]))) for row in rows if len(row) == 4}
    assert listed == {name: (logging.getLevelName(event.level).lower(), event.fields) for name, event in EVENTS.items()}
    reasons = [row[0].strip("`") for row in rows if len(row) == 2]
    assert [reason for reason in reasons if reason in REASONS] == list(REASONS)


async def test_no_text_of_a_client_begins_a_line(desk: HubFixture, caplog: pytest.LogCaptureFixture) -> None:
    """A mounted hub's lines are written in whatever format the app has, so what moves a cursor is escaped before."""
    await desk.ask("DELETE", "/admin/connections/x%0Aevil%1B%5B2J%E2%80%A8", bearer(exp=T0 - 1))
    ((name, fields),) = lines(caplog)
    assert (name, fields["path"]) == ("credential_refused", "/admin/connections/x\\nevil\\x1b[2J\\u2028")


async def test_an_app_may_refuse_for_reasons_of_its_own(
    make_fixture: MakeHubFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """An `authenticate=` that names a reason nobody else knows gets its 401, counted as an unknown one."""

    async def own(_: object) -> None:
        raise CredentialInvalid("no badge", auth_method="custom", kind="badge")

    fixture = await make_fixture(authenticate=own)
    assert (await fixture.ask("POST", "/auth/sse", SAME, json={})).status == 401
    assert await fixture.try_stream("/events", SAME) == 401
    assert [(fields["reason"], fields["detail"]) for _, fields in lines(caplog)] == [("unknown", "no badge")] * 2
    assert fixture.node.audit.refused["unknown"] == 2


async def test_a_name_that_users_choose_begins_no_line_either(
    desk: HubFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """Subjects come from an issuer, who may let people choose them."""
    assert (await desk.ask("GET", "/admin/stats", bearer("mallory\nadmin_minted"))).status == 403
    ((name, fields),) = lines(caplog)
    assert (name, fields["subject"]) == ("admin_refused", "mallory\\nadmin_minted")


async def test_a_failed_request_begins_no_line(make_fixture: MakeHubFixture, caplog: pytest.LogCaptureFixture) -> None:
    """Nor does the path in the line about a fault of the app's own way in."""

    async def broken(_: object) -> None:
        raise RuntimeError("the session database is away")

    fixture = await make_fixture(authenticate=broken)
    assert (await fixture.ask("DELETE", "/admin/connections/x%0Aevil", SAME)).status == 500
    (record,) = [each for each in caplog.records if each.name == "sseal.asgi"]
    assert record.getMessage() == "request failed: DELETE /admin/connections/x\\nevil"
