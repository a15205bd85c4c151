"""The bad-input table: every endpoint, every malformed field → status, code, field, and nothing has changed.

Each row is one request by somebody who may do everything, so that only its form can be at fault.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from asgi.conftest import HubFixture, MakeHubFixture
from asgi.driver import SAME, STREAM, bearer
from sseal.identity_sources.accounts import Accounts

ROOT = bearer("root", subscribe=["**"], publish=["**"], admin=True)
WRITER = bearer("writer", subscribe=["**"], publish=["**"])
BAD, LARGE, MEDIA, WHO, YOURS = (
    "invalid_request",
    "too_large",
    "unsupported_media_type",
    "credential_invalid",
    "admin_required",
)
RESUME = "a" * 26 + "_k3v9x0aa-7"
DEEP = 200_000


class Raw(bytes):
    """A body that is sent as it is."""


# -- texts that are no topics, by how they are told apart ------------------------------------------------
NO_TOPIC = {
    "empty": "",
    "slash": "/",
    "leading": "/a",
    "trailing": "a/",
    "hole": "a//b",
    "nul": "a\x00b",
    "lf": "a\nb",
    "cr": "a\rb",
    "del": "a\x7fb",
    "separator": "a\u2028b",
    "long": "a" * 257,
    "deep": "/".join("a" * 33),
    "part": "a*b",
    "brace": "{user}",
}
WILD = {"star": "a/*", "stars": "a/**", "all": "**", "sub": "{sub}", "middle": "**/a"}
RESERVED = {"root": "$sseal", "canary": "$sseal/canary"}
NOT_TEXT = {"number": 1, "float": 1.5, "true": True, "null": None, "list": [], "object": {}}
NO_OBJECT = {"string": "x", "number": 5, "true": True, "null": None, "list": [[]]}
NO_JSON = {
    "nothing": Raw(b""),
    "spaces": Raw(b"  "),
    "cut": Raw(b'{"topic":"a"'),
    "tail": Raw(b'{"topic":"a","data":1} x'),
    "quotes": Raw(b"{'topic':'a','data':1}"),
    "nan": Raw(b'{"topic":"a","data":NaN}'),
    "infinity": Raw(b'{"topic":"a","data":Infinity}'),
    "-infinity": Raw(b'{"topic":"a","data":-Infinity}'),
    "latin-1": Raw(b'{"topic":"a","data":"\xe9"}'),
    "overlong": Raw(b'{"topic":"a","data":"\xc0\xaf"}'),
    "surrogate": Raw(b'{"topic":"a","data":"\\ud800"}'),
    "bom": Raw(b'\xef\xbb\xbf{"topic":"a","data":1}'),
    "utf-16": Raw('{"topic":"a","data":1}'.encode("utf-16")),
    "deep list": Raw(b"[" * DEEP + b"]" * DEEP),
    "deep object": Raw(b'{"data":' * 50_000 + b"1" + b"}" * 50_000),
    "leading zero": Raw(b'{"topic":"a","data":01}'),
    "control": Raw(b'{"topic":"a","data":"\n"}'),
}

Row = tuple[str, str, str, dict[str, str], Any, int, str, str | None]


def row(
    name: str,
    method: str,
    path: str,
    body: Any = ...,
    field: str | None = None,
    *,
    status: int = 400,
    code: str = BAD,
    who: dict[str, str] = ROOT,
) -> Row:
    """Return one line of the table."""
    return f"{method} {path.split('?')[0]} {name}", method, path, who, body, status, code, field


def publishing() -> Iterator[Row]:
    """Lines of ``POST /events``."""

    def line(name: str, body: Any, field: str | None, **options: Any) -> Row:
        return row(name, "POST", "/events", body, field, **options)

    for name, raw in NO_JSON.items():
        yield line(f"no JSON: {name}", raw, "body")
    for name, value in NO_OBJECT.items():
        yield line(f"body is {name}", value, "[0]" if name == "list" else "body")
    yield line("body is an empty array", [], "body")
    yield line("too many events", [{"topic": "a", "data": 1}] * 101, "body", status=413, code=LARGE)
    yield line("too many bytes", Raw(b'{"topic":"a","data":"' + b"x" * 2**20 + b'"}'), "body", status=413, code=LARGE)
    yield line("item is no object", [{"topic": "a", "data": 1}, 5], "[1]")
    yield line("nothing in it", {}, "data")
    yield line("no topic", {"data": 1}, "topic")
    yield line("topic and topics", {"topic": "a", "topics": ["a"], "data": 1}, "topic")
    yield line("no data", {"topic": "a"}, "data")
    yield line("too much data", {"topic": "a", "data": "x" * (256 * 1024 + 1)}, "data", status=413, code=LARGE)
    yield line("unknown field", {"topic": "a", "data": 1, "id": "x"}, "id")
    yield line("unknown field of an item", [{"topic": "a", "data": 1, "Data": 1}], "[0].Data")
    yield line("unknown empty field", {"topic": "a", "data": 1, "": 1}, "")
    for name, text in {**NO_TOPIC, **WILD, **RESERVED}.items():
        yield line(f"topic {name}", {"topic": text, "data": 1}, "topic")
        yield line(f"topics {name}", {"topics": ["a", text], "data": 1}, "topics[1]")
    for name, value in NOT_TEXT.items():
        yield line(f"topic is {name}", {"topic": value, "data": 1}, "topic")
        yield line(f"topics holds {name}", {"topics": [value], "data": 1}, "topics[0]")
        if name != "null":
            yield line(f"event is {name}", {"topic": "a", "data": 1, "event": value}, "event")
            yield line(f"key is {name}", {"topic": "a", "data": 1, "key": value}, "key")
    for name, value in {**NOT_TEXT, "string": "a", "empty": []}.items():
        if name != "list":
            yield line(f"topics is {name}", {"topics": value, "data": 1}, "topics")
    yield line("too many topics", {"topics": [f"t{i}" for i in range(17)], "data": 1}, "topics")
    for name, text in {"empty": "", "lf": "a\nb", "cr": "a\rb", "nul": "a\x00b", "long": "x" * 129}.items():
        yield line(f"event {name}", {"topic": "a", "data": 1, "event": text}, "event")
        yield line(f"key {name}", {"topic": "a", "data": 1, "key": text}, "key")
    for event in ("auth", "gap", "bye", "open", "error"):
        yield line(f"event {event}", {"topic": "a", "data": 1, "event": event}, "event")
    for value in (0, -1, -0.0, 604_801, 1e300, "5", True, [], {}):
        yield line(f"ttl {value!r}", {"topic": "a", "data": 1, "ttl": value}, "ttl")
    yield line("ttl 10**400", Raw(b'{"topic":"a","data":1,"ttl":1' + b"0" * 400 + b"}"), None)
    yield line("ttl 1e999", Raw(b'{"topic":"a","data":1,"ttl":1e999}'), None)
    for value in (0, -1, 499, 60_001, 2_147_483_647, 2**64, 1000.5, 1000.0, "1000", True, [], {}):
        yield line(f"retry {value!r}", {"topic": "a", "data": 1, "retry": value}, "retry")
    yield line("retry of a writer", {"topic": "a", "data": 1, "retry": 1000}, None, status=403, code=YOURS, who=WRITER)


def notifying() -> Iterator[Row]:
    """Lines of ``POST /notifications``."""

    def line(name: str, body: Any, field: str | None, **options: Any) -> Row:
        return row(name, "POST", "/notifications", body, field, **options)

    good = {"targetUserId": "bob", "message": "x"}
    for name, raw in NO_JSON.items():
        yield line(f"no JSON: {name}", raw, "body")
    for name, value in NO_OBJECT.items():
        yield line(f"body is {name}", value, "body")
    yield line("no target", {"message": "x"}, "targetUserId")
    yield line("no message", {"targetUserId": "bob"}, "message")
    yield line("unknown field", {**good, "topic": "a"}, "topic")
    for name, value in {**NOT_TEXT, "empty": "", "long": "x" * 252, "long when encoded": "/" * 84}.items():
        yield line(f"target is {name}", {**good, "targetUserId": value}, "targetUserId")
    for name, value in {
        **NOT_TEXT,
        "empty": "",
        "lf": "a\nb",
        "nul": "a\0b",
        "long": "x" * 129,
        "reserved": "bye",
    }.items():
        yield line(f"type is {name}", {**good, "type": value}, "type")
    yield line("too much", {**good, "message": "x" * 262_145}, "message", status=413, code=LARGE)


def minting() -> Iterator[Row]:
    """Lines of ``POST /auth/sse``."""

    def line(name: str, body: Any, field: str | None, **options: Any) -> Row:
        return row(name, "POST", "/auth/sse", body, field, **options)

    for name, raw in NO_JSON.items():
        if name != "nothing":
            yield line(f"no JSON: {name}", raw, "body", **({"status": 413, "code": LARGE} if len(raw) > 65536 else {}))
    for name, value in NO_OBJECT.items():
        yield line(f"body is {name}", value, "body")
    yield line("unknown field", {"topic": ["a"]}, "topic")
    for name, value in {**NOT_TEXT, "string": "a"}.items():
        yield line(f"topics is {name}", {"topics": value}, "topics")
        if name != "object":
            yield (
                line(f"grants is {name}", {"subject": "bob", "grants": value}, "grants")
                if name != "null"
                else line("grants of nobody", {"grants": {}}, "subject")
            )
    for name, value in NOT_TEXT.items():
        yield line(f"topics holds {name}", {"topics": [value]}, "topics[0]")
        yield line(f"subject is {name}", {"subject": value}, "subject")
        yield line(f"token is {name}", {"token": value}, "token", who={})
        if name != "list":
            yield line(
                f"grants.subscribe is {name}", {"subject": "b", "grants": {"subscribe": value}}, "grants.subscribe"
            )
            yield line(f"grants.publish is {name}", {"subject": "b", "grants": {"publish": value}}, "grants.publish")
    for name, text in {**NO_TOPIC, "middle": "**/a"}.items():
        yield line(f"topic {name}", {"topics": ["a", text]}, "topics[1]")
        yield line(f"minted topic {name}", {"topics": [text], "subject": "bob"}, "topics[0]")
        yield line(f"grants.publish {name}", {"subject": "b", "grants": {"publish": [text]}}, "grants.publish[0]")
    yield line("too many topics", {"topics": [f"t{i}" for i in range(65)]}, "topics")
    yield line("empty subject", {"subject": ""}, "subject")
    yield line("long subject", {"subject": "x" * 252}, "subject")
    yield line("long subject with topics", {"subject": "/" * 84, "topics": ["a"]}, "subject")
    yield line("admin grant", {"subject": "b", "grants": {"admin": True}}, "grants.admin")
    yield line("unknown grant", {"subject": "b", "grants": {"read": []}}, "grants.read")
    yield line("empty token", {"token": ""}, "token", who={})
    yield line("bad token", {"token": "x"}, None, who={}, status=401, code=WHO)
    yield line("too large", {"token": "x" * 65_536}, "body", who={}, status=413, code=LARGE)
    yield line("for others", {"subject": "bob"}, None, who=WRITER, status=403, code=YOURS)


def sessions() -> Iterator[Row]:
    """Lines of ``/auth/login``, ``/auth/session`` and ``/auth/refresh``."""
    page = {**SAME, "host": "localhost"}
    good = {"username": "alice", "password": "correct horse"}
    for name, raw in NO_JSON.items():
        large = {"status": 413, "code": LARGE} if len(raw) > 65536 else {}
        yield row(f"no JSON: {name}", "POST", "/auth/login", raw, "body", who=page, **large)
        yield row(f"no JSON: {name}", "POST", "/auth/refresh", raw, "body", **large)
        if name != "nothing":
            yield row(
                f"no JSON: {name}", "POST", "/auth/session", raw, "body", who={**ROOT, "host": "localhost"}, **large
            )
    for name, value in NO_OBJECT.items():
        for path in ("/auth/login", "/auth/refresh", "/auth/session"):
            yield row(f"body is {name}", "POST", path, value, "body", who=page)
    for missing in good:
        yield row(
            f"no {missing}", "POST", "/auth/login", {k: v for k, v in good.items() if k != missing}, missing, who=page
        )
        for name, value in {**NOT_TEXT, "empty": ""}.items():
            yield row(f"{missing} is {name}", "POST", "/auth/login", {**good, missing: value}, missing, who=page)
    yield row("unknown field", "POST", "/auth/login", {**good, "remember": True}, "remember", who=page)
    yield row("unknown field", "POST", "/auth/session", {"ttl": 5}, "ttl", who={**ROOT, "host": "localhost"})
    yield row("no connection", "POST", "/auth/refresh", {}, "connection")
    yield row("unknown field", "POST", "/auth/refresh", {"connection": "x", "id": 1}, "id")
    for name, value in {**NOT_TEXT, "empty": ""}.items():
        yield row(f"connection is {name}", "POST", "/auth/refresh", {"connection": value}, "connection")
    for name in ("x", "../..", "a\x00b", "x" * 5000):
        yield row(f"unknown {name[:9]!r}", "POST", "/auth/refresh", {"connection": name}, status=404, code="not_found")


def administering() -> Iterator[Row]:
    """Lines of ``/admin``."""

    def line(name: str, body: Any, field: str | None, **options: Any) -> Row:
        return row(name, "POST", "/admin/revocations", body, field, **options)

    for name, raw in NO_JSON.items():
        yield line(f"no JSON: {name}", raw, "body", **({"status": 413, "code": LARGE} if len(raw) > 65536 else {}))
    for name, value in NO_OBJECT.items():
        yield line(f"body is {name}", value, "body")
    yield line("nothing", {}, "subject")
    yield line("an issuer alone", {"issuer": "x"}, "subject")
    yield line("both", {"subject": "a", "jti": "b"}, "subject")
    yield line("a token id of an issuer", {"jti": "a", "issuer": "b"}, "issuer")
    yield line("unknown field", {"subject": "a", "until": 5}, "until")
    for name, value in {**NOT_TEXT, "empty": ""}.items():
        yield line(f"subject is {name}", {"subject": value}, "subject")
        yield line(f"jti is {name}", {"jti": value}, "jti")
        yield line(f"issuer is {name}", {"subject": "a", "issuer": value}, "issuer")
    yield row("subject twice", "GET", "/admin/connections?subject=a&subject=b", field="subject")
    yield row("after twice", "GET", "/admin/connections?after=a&after=b", field="after")
    yield row("no UTF-8", "GET", "/admin/connections?subject=%ff", field="query")
    for name in ("x", "%00", "..%2f", "x" * 5000):
        yield row(f"unknown {name[:9]}", "DELETE", f"/admin/connections/{name}", status=404, code="not_found")


def streaming() -> Iterator[Row]:
    """Lines of ``GET /events``."""

    def line(name: str, query: str, field: str | None, **options: Any) -> Row:
        return row(name, "GET", f"/events?{query}", ..., field, **options)

    from urllib.parse import quote

    for name, text in {**NO_TOPIC, "middle": "**/a"}.items():
        yield line(f"topic {name}", f"topic={quote(text, safe='')}", "topic")
        yield line(f"second topic {name}", f"topic=a&topic={quote(text, safe='')}", "topic")
    yield line("topic without =", "topic", "topic")
    yield line("too many topics", "&".join(f"topic=t{i}" for i in range(65)), "topic")
    yield line("too many patterns", "&".join(f"topic=t{i}/*" for i in range(9)), "topic")
    yield line("too many fields", "&".join(f"x{i}=1" for i in range(257)), "query")
    for raw in ("%ff", "%C3", "%ed%a0%80", "%c0%af"):
        yield line(f"no UTF-8 {raw}", f"topic=a&x={raw}", "query")
        yield line(f"no UTF-8 name {raw}", f"{raw}=1", "query")
    for flag in ("envelope", "anonymous"):
        for value in ("", "2", "true", "yes", "01", " 1", "1%00"):
            yield line(f"{flag}={value}", f"{flag}={value}", flag)
        yield line(f"{flag} twice", f"{flag}=1&{flag}=1", flag)
        yield line(f"{flag} both ways", f"{flag}=0&{flag}=1", flag)
    yield line("subject twice", "subject=root&subject=root", "subject")
    yield line("position twice", "last_event_id=k3v9x0aa-1&last_event_id=k3v9x0aa-1", "last_event_id")
    yield line("resume token", f"last_event_id={RESUME}", "last_event_id")
    yield line("resume token in an alias", f"lastEventId={RESUME}", "lastEventId")
    yield line("position by two names", "last_event_id=k3v9x0aa-1&lastEventID=k3v9x0aa-1", "lastEventID")
    yield line("ticket twice", "ticket=a&ticket=b", "ticket", who=STREAM)
    yield row("ticket in path and query", "GET", "/events/a?ticket=a", field="ticket", who=STREAM)
    yield line("nobody and no topic", "anonymous=1", "topic", who={})
    yield line("nobody's own topic", "anonymous=1&topic=user/{sub}", "topic", who={})
    yield line("two cookies", "", "Cookie", who={"cookie": "sseal-dev=a; sseal-dev=b", **SAME})
    yield row("a body", "GET", "/events", {"topic": "a"}, "body")
    yield row("an unread body", "GET", "/events", field="body", who={**ROOT, "transfer-encoding": "chunked"})
    yield line("another subject", "subject=bob", None, status=401, code=WHO)
    yield row("bad ticket in path", "GET", "/events/%00", who=STREAM, status=401, code=WHO)
    yield row("long ticket in path", "GET", f"/events/{'a' * 5000}", who=STREAM, status=401, code=WHO)
    yield row("bad resume token", "GET", "/events", who={**STREAM, "last-event-id": RESUME}, status=401, code=WHO)


def anywhere() -> Iterator[Row]:
    """Lines of every endpoint with a body, and of every query."""
    bodies: dict[str, Any] = {
        "/events": {"topic": "a", "data": 1},
        "/notifications": {"targetUserId": "b", "message": "x"},
        "/auth/sse": {"topics": ["a"]},
        "/auth/login": {"username": "alice", "password": "correct horse"},
        "/auth/session": {"x": 1},
        "/auth/refresh": {"connection": "x"},
        "/admin/revocations": {"subject": "a"},
    }
    for path, body in bodies.items():
        raw = Raw(json.dumps(body).encode())
        who = {**ROOT, **SAME, "host": "localhost"}
        for media in (
            "",
            "text/plain",
            "text/json",
            "application/x-www-form-urlencoded",
            "application/json-patch+json",
        ):
            yield row(
                f"as {media or 'nothing'}", "POST", path, raw, "Content-Type", who={**who, "content-type": media},
                status=415, code=MEDIA,
            )  # fmt: skip
        yield row("query is no UTF-8", "POST", f"{path}?x=%ff", body, "query", who=who)
    for method, path in (("GET", "/admin/stats"), ("DELETE", "/auth/session"), ("DELETE", "/admin/connections/x")):
        yield row("query is no UTF-8", method, f"{path}?x=%ff", field="query")


TABLE = [*publishing(), *notifying(), *minting(), *sessions(), *administering(), *streaming(), *anywhere()]


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with one account."""
    path = tmp_path_factory.mktemp("accounts") / "accounts.sqlite"
    store = Accounts(path, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    store.add("alice", "correct horse")
    store.close()
    return path


@pytest.fixture
async def full(request: pytest.FixtureRequest, make_fixture: MakeHubFixture, accounts: Path) -> HubFixture:
    """Return a hub that has something of everything; accounts, which cost a hash each, only where one logs in."""
    login = request.node.callspec.params["path"].startswith("/auth/login")
    fixture = await make_fixture(
        accounts=str(accounts) if login else None, insecure_cookies=True, public_topics=("news/*",)
    )
    await fixture.hub.publish("a", "something")
    await fixture.stream("/events", bearer()).opened()
    await fixture.ticket(bearer())
    await fixture.hub.revoke(jti="somebody")
    return fixture


@pytest.mark.parametrize(
    ("method", "path", "who", "body", "status", "code", "field"),
    [line[1:] for line in TABLE],
    ids=[line[0] for line in TABLE],
)
async def test_bad_input_is_named_and_changes_nothing(
    full: HubFixture, method: str, path: str, who: dict[str, str], body: Any, status: int, code: str, field: str | None
) -> None:
    """Refused, not repaired: the answer says which field, and log, streams, store and revocations are as before."""
    headers = {**STREAM, **who}
    before = full.state
    if isinstance(body, Raw):
        headers = {"content-type": "application/json", **headers}
        reply = await full.ask(method, path, headers, body=bytes(body))
    else:
        reply = await full.ask(method, path, headers, json=body)
    assert (reply.status, reply.json["code"]) == (status, code), reply.body
    if field is not None:
        assert reply.json["field"] == field, reply.body
    assert full.state == before
    assert reply.header("content-type") == "application/problem+json"
    assert len(reply.body) < 2000  # what was wrong is named, not echoed at length


def test_the_table_is_long_and_has_no_line_twice() -> None:
    """At least 120 lines, each with a name of its own."""
    assert len(TABLE) >= 120
    assert len({line[0] for line in TABLE}) == len(TABLE)
