"""``/openapi.json``: complete, true, and the same Structs that decode."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import schemathesis

import sseal
from asgi.conformance import _validator, described, problems_of
from asgi.conftest import HubFixture, MakeHubFixture
from asgi.driver import ADMIN, HUB, SAME, STREAM, Reply, bearer, request
from sseal.asgi import bodies, openapi
from sseal.asgi.endpoint import Endpoint
from sseal.asgi.operations import OPERATIONS
from sseal.asgi.responses import problem
from sseal.errors import InvalidInput, Unavailable
from sseal.identity_sources.accounts import Accounts

ROOT = bearer(**ADMIN)
ALIAS = "/events/"
"""The one route that is another's name: an EventSource must not be redirected from it."""


def served() -> set[tuple[str, str]]:
    """Return method and path of every route of the app."""
    found = set()
    for route in sseal.Hub().asgi._app.routes:  # type: ignore[attr-defined]
        if isinstance(route.app, Endpoint):
            found |= {(method, route.path) for method in route.app.handlers}
        elif route.path != ALIAS:
            found |= {("GET", route.path), *([("POST", route.path)] if "ticket" not in route.path else [])}
    return found


def test_the_document_has_every_route_and_no_other() -> None:
    """Each method of each path of the app is in the document, and the other way round."""
    paths = described()["paths"]
    assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == served()


def test_the_document_is_an_openapi_document() -> None:
    """It is valid by the published schema of OpenAPI 3.1, and each operation has a name of its own."""
    loaded = schemathesis.openapi.from_dict(msgspec.json.decode(msgspec.json.encode(described())))
    loaded.validate()
    assert described()["openapi"] == "3.1.0"
    names = [each["operationId"] for methods in described()["paths"].values() for each in methods.values()]
    assert len(set(names)) == len(names)


def test_every_path_parameter_is_described() -> None:
    """What stands in braces in a path is a parameter, and required."""
    for path, methods in described()["paths"].items():
        for operation in methods.values():
            named = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
            assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}


def examples() -> list[tuple[str, Any, Any]]:
    """Return name, Struct and example of each request of the document."""
    return [
        (f"{operation.name} {name}", operation.body, example)
        for operation in OPERATIONS.values()
        for name, example in operation.examples.items()
    ]


@pytest.mark.parametrize(("name", "shape", "example"), examples())
def test_every_example_is_good(name: str, shape: Any, example: Any) -> None:
    """An example is decoded by the Struct it shows, and is valid by the schema made from it."""
    msgspec.json.decode(msgspec.json.encode(example), type=shape)
    operation = next(each for each in OPERATIONS.values() if each.name == name.split()[0])
    method, path = next(key for key, each in OPERATIONS.items() if each is operation)
    content = described()["paths"][path][method.lower()]["requestBody"]["content"]["application/json"]
    whole = {**content["schema"], "components": described()["components"]}
    jsonschema_rs.validator_for(whole).validate(example)


@pytest.mark.parametrize(
    ("name", "body", "good"),
    [
        ("EventBody", {"topic": "a", "data": 1}, True),
        ("EventBody", {"topics": ["a"], "data": None, "ttl": 5, "key": "k", "event": None}, True),
        ("EventBody", {"topic": "a", "topics": ["a"], "data": 1}, False),
        ("EventBody", {"data": 1}, False),
        ("EventBody", {"topic": "a"}, False),
        ("EventBody", {"topic": "a", "data": 1, "id": "x"}, False),
        ("RevocationBody", {"jti": "a"}, True),
        ("RevocationBody", {"subject": "a", "jti": "b"}, False),
        ("RevocationBody", {"subject": ""}, False),
        ("TicketBody", {}, True),
        ("TicketBody", {"grants": {"admin": True}}, False),
        ("NotificationBody", {"target": "bob", "message": 1}, False),
    ],
)
def test_a_schema_says_what_the_struct_says(name: str, body: Any, good: bool) -> None:
    """Fields, their types, what is required, and that nothing else may be there."""
    assert _validator(f"#/components/schemas/{name}").is_valid(body) is good


async def test_every_endpoint_answers_as_the_document_says(make_fixture: MakeHubFixture, tmp_path: Path) -> None:
    """Each operation is asked once with success; status, media type, headers and body are those described."""
    accounts = Accounts(tmp_path / "accounts")
    accounts.add("alice", "correct horse battery")
    accounts.close()
    fixture = await make_fixture(accounts=str(tmp_path / "accounts"), insecure_cookies=True)
    page = {"host": "localhost", "origin": "http://localhost"}
    met: set[tuple[str, str]] = set()

    async def ask(method: str, path: str, headers: dict[str, str], template: str = "", **options: Any) -> Reply:
        met.add((method, template or path.partition("?")[0]))
        reply = await fixture.ask(method, path, headers, **options)
        assert reply.status < 300, reply
        return reply

    async def stream(target: str, headers: dict[str, str], template: str) -> str:
        met.add(("GET", template))
        opened = fixture.stream(target, headers)
        connection = (await opened.opened()).json["connection"]
        assert problems_of("GET", target, dataclasses.replace(opened.reply, body=b"")) == []
        return str(connection)

    ticket = (await ask("POST", "/auth/sse", bearer(), json={"topics": ["user/alice"]})).json["ticket"]
    await stream(f"/events/{ticket}", STREAM, "/events/{ticket}")
    connection = await stream("/events", bearer(), "/events")
    await ask("POST", "/events", ROOT, json=[{"topic": "user/alice", "data": 1}])
    await ask("POST", "/events", ROOT, json={"topic": "user/alice", "data": 1})
    await ask("POST", "/notifications", ROOT, json={"targetUserId": "alice", "message": {"a": 1}})
    await ask("POST", "/auth/refresh", bearer(), json={"connection": connection})
    await ask("POST", "/auth/login", page, json={"username": "alice", "password": "correct horse battery"})
    cookie = (await ask("POST", "/auth/session", {**bearer(), "host": "localhost"})).cookie
    await ask("DELETE", "/auth/session", {**SAME, "host": "localhost", "cookie": cookie})
    listed = await ask("GET", "/admin/connections", ROOT)
    assert len(listed.json["connections"]) == 2
    await ask("DELETE", f"/admin/connections/{connection}", ROOT, "/admin/connections/{id}")
    await ask("POST", "/admin/revocations", ROOT, json={"subject": "alice"})
    for path in ("/admin/stats", "/healthz", "/readyz", "/metrics", "/openapi.json"):
        await ask("GET", path, ROOT)
    assert met == served()


def test_an_answer_that_is_not_in_the_document_is_noticed() -> None:
    """The check that all tests of the endpoints go through can fail, at each of its parts."""

    def reply(status: int, body: bytes, media: str = "application/json", **headers: str) -> Reply:
        return Reply(status, [("content-type", media), *headers.items()], body)

    fine = b'{"status":"ok"}'
    assert problems_of("GET", "/healthz", reply(200, fine)) == []
    assert problems_of("GET", "/healthz", reply(200, b'{"status":"bad"}')) != []
    assert problems_of("GET", "/healthz", reply(200, fine, "text/plain")) != []
    assert problems_of("GET", "/healthz", reply(418, fine)) != []
    assert problems_of("GET", "/nowhere", reply(200, fine)) != []
    assert problems_of("PUT", "/healthz", reply(200, fine)) != []
    assert problems_of("DELETE", "/admin/connections/x", reply(204, fine)) != []
    refused = problem(Unavailable("no", retry_after=1.0))
    headers = {name.decode().replace("-", "_"): value.decode() for name, value in refused.raw_headers}
    del headers["retry_after"]
    assert problems_of("GET", "/readyz", reply(503, refused.body, "application/problem+json")) == [
        "Retry-After is missing"
    ]


def test_a_problem_has_its_extra_fields_only_where_they_mean_something() -> None:
    """`field` and `refused` are absent, not null, where there is none."""
    made = msgspec.json.decode(problem(Unavailable("no")).body)
    assert set(made) == {"type", "title", "status", "detail", "code"}
    named = msgspec.json.decode(problem(InvalidInput("topic", "is wrong")).body, type=bodies.ProblemAnswer)
    assert (named.field, named.refused) == ("topic", msgspec.UNSET)


async def test_it_is_served_to_anybody_and_revalidated(fixture: HubFixture) -> None:
    """Without a credential; a cache asks again, and is told when nothing has changed."""
    first = await fixture.ask("GET", "/openapi.json")
    assert (first.header("cache-control"), first.header("content-type")) == ("no-cache", "application/json")
    assert first.json == {"servers": [{"url": "/"}], **described_by(fixture)}
    tag = first.header("etag")
    assert tag is not None
    for known in (tag, f'"other", {tag}'):
        again = await fixture.ask("GET", "/openapi.json", {"if-none-match": known})
        assert (again.status, again.body, again.header("etag")) == (304, b"", tag)
        assert again.header("content-length") is None
    assert (await fixture.ask("GET", "/openapi.json", {"if-none-match": '"other"'})).status == 200
    head = await fixture.ask("HEAD", "/openapi.json")
    assert (head.status, head.body, head.header("content-length")) == (200, b"", str(len(first.body)))


def described_by(fixture: HubFixture) -> Any:
    """Return the document of a hub as JSON has it."""
    return msgspec.json.decode(msgspec.json.encode(openapi.document(fixture.hub._parts.credentials)))


async def test_it_is_written_once(fixture: HubFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first who asks pays for it."""
    written: list[object] = []
    monkeypatch.setattr(openapi, "document", lambda policy: written.append(policy) or {"openapi": "3.1.0"})
    for _ in range(3):
        await fixture.ask("GET", "/openapi.json")
    assert len(written) == 1


async def test_a_mounted_hub_says_where_it_is(fixture: HubFixture) -> None:
    """Paths are relative to where the hub is mounted, which each request says anew."""
    for root, url in (("/sse", "/sse"), ("/a/b", "/a/b"), ("", "/")):
        reply = await fixture.ask("GET", f"{root}/openapi.json", root_path=root)
        assert reply.json["servers"] == [{"url": url}]


async def test_a_hub_with_a_public_address_says_that(make_fixture: MakeHubFixture) -> None:
    """What the operator has set counts, wherever the hub is mounted."""
    fixture = await make_fixture(public_url="https://hub.example/sse/")
    reply = await fixture.ask("GET", "/x/openapi.json", root_path="/x")
    assert reply.json["servers"] == [{"url": "https://hub.example/sse"}]


async def test_any_page_may_read_it_where_the_hub_answers_for_cors(make_fixture: MakeHubFixture) -> None:
    """Alone, the hub lets tools on other pages read it; mounted, CORS is the app's (W39)."""
    alone = await make_fixture(cors=True, allowed_origins=("https://app.example",))
    for origin, allowed in (("https://docs.example", "*"), ("https://app.example", "https://app.example")):
        reply = await alone.ask("GET", "/openapi.json", {"origin": origin})
        assert reply.header("access-control-allow-origin") == allowed
        other = await alone.ask("GET", "/healthz", {"origin": origin})
        assert other.header("access-control-allow-origin") == (None if allowed == "*" else allowed)
    mounted = await make_fixture()
    assert (await mounted.ask("GET", "/openapi.json", {"origin": HUB})).header("access-control-allow-origin") is None


async def test_it_can_be_switched_off(make_fixture: MakeHubFixture) -> None:
    """With `openapi` off there is nothing at the path."""
    fixture = await make_fixture(openapi=False)
    reply = await request(fixture.hub.asgi, "GET", "/openapi.json")
    assert (reply.status, reply.json["code"]) == (404, "not_found")


async def test_only_ways_that_are_open_are_described(make_fixture: MakeHubFixture) -> None:
    """A closed way has no scheme, and no operation asks for it."""
    schemes = {
        frozenset(("bearer", "cookie")): {"bearer", "session"},
        frozenset(("bearer", "query")): {"bearer", "query"},
        frozenset(("ticket", "resume", "bearer")): {"bearer", "ticket", "resume"},
    }
    for auth_methods, expected in schemes.items():
        made = described_by(await make_fixture(credentials=tuple(auth_methods)))
        assert set(made["components"]["securitySchemes"]) == expected
        used = {
            name
            for methods in made["paths"].values()
            for operation in methods.values()
            for option in operation["security"]
            for name in option
        }
        assert used == expected
    cookie = described_by(await make_fixture(cookie_name="app_jwt"))
    assert cookie["components"]["securitySchemes"]["cookie"]["name"] == "app_jwt"
