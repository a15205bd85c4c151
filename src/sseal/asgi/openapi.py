"""The OpenAPI 3.1 document of the HTTP interface as a hub is set up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, Final

import msgspec

from ..auth.credential import CredentialPolicy
from .bodies import ProblemAnswer
from .operations import OPERATIONS, Operation, Success

__all__ = ["document"]

_TEMPLATE: Final = "#/components/schemas/{name}"
_PROBLEMS: Final = {
    400: "Malformed; `field` says what.",
    401: "Nobody said who they are, or it was not good.",
    403: "Not yours, or from a page that is not known.",
    404: "There is no such thing here.",
    408: "The body did not come in time.",
    409: "The key was used before with other content.",
    413: "A limit was exceeded; `detail` says which.",
    415: "The body is not `application/json`.",
    421: "This hub does not answer to the host that was asked for.",
    429: "Too many; come back after `Retry-After` seconds.",
    500: "A fault; the log says which.",
    503: "Not now; come back after `Retry-After` seconds.",
}
_PROBLEM_HEADERS: Final = {
    401: ("WWW-Authenticate",),
    429: ("RateLimit", "RateLimit-Policy", "Retry-After"),
    503: ("Retry-After",),
}
_HEADERS: Final = {
    "ETag": {"description": "Changes with the document.", "required": True, "schema": {"type": "string"}},
    "RateLimit": {"description": "What is left of the limit, when it has a name.", "schema": {"type": "string"}},
    "RateLimit-Policy": {"description": "The limit, when it has a name.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds.", "required": True, "schema": {"type": "integer", "minimum": 0}},
    "Set-Cookie": {"description": "The session cookie.", "required": True, "schema": {"type": "string"}},
    "WWW-Authenticate": {"description": "RFC 6750.", "required": True, "schema": {"type": "string"}},
}
_ONE_OF: Final = {
    "EventBody": ("topic", "topics"),
    "RevocationBody": ("subject", "jti"),
}
"""Bodies that hold exactly one of two fields, which a Struct cannot say."""


def document(policy: CredentialPolicy) -> dict[str, object]:
    """Return the document, but for ``servers``.

    :param policy: says which auth methods are open at this hub.
    """
    schemes = _schemes(policy)
    components, schemas = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method.lower()] = _operation(operation, schemes, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sseal",
            "version": version("sseal"),
            "summary": "Authenticated server-sent events",
            "description": "Bodies are JSON, and a field that is not known is refused. Refusals are problem documents "
            "(RFC 9457) with a stable `code`. GET answers HEAD too, but for streams, where it is 401.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": _problems(components[ProblemAnswer]),
            "securitySchemes": schemes,
        },
    }


def _schemas() -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    """Return a schema for each body, and the components these refer to."""
    successes = [success for each in OPERATIONS.values() for success in each.success.values()]
    kinds = [each.body for each in OPERATIONS.values() if each.body is not None]
    kinds += [success.body for success in successes if success.body is not None]
    kinds = list(dict.fromkeys([*kinds, ProblemAnswer]))
    found, schemas = msgspec.json.schema_components(kinds, ref_template=_TEMPLATE)
    for name, fields in _ONE_OF.items():
        schemas[name]["oneOf"] = [{"required": [each]} for each in fields]
    return dict(zip(kinds, found, strict=True)), schemas


def _operation(
    operation: Operation, schemes: Mapping[str, Any], schemas: Mapping[Any, Mapping[str, Any]]
) -> dict[str, Any]:
    written: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": _responses(operation, schemas),
        "security": _security(operation, schemes),
    }
    if operation.description:
        written["description"] = operation.description
    if operation.parameters:
        written["parameters"] = list(operation.parameters)
    if operation.body is not None:
        content: dict[str, Any] = {"schema": schemas[operation.body]}
        content["examples"] = {name: {"value": value} for name, value in operation.examples.items()}
        written["requestBody"] = {"required": operation.body_required, "content": {"application/json": content}}
    return written


def _responses(operation: Operation, schemas: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    found = {str(status): _success(success, schemas) for status, success in operation.success.items()}
    problems = (*operation.problems, 421, 500, *((503,) if operation.unavailable else ()))
    return found | {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(problems)}


def _problems(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        str(status): {
            "description": description,
            "content": {"application/problem+json": {"schema": schema}},
            **_headers(_PROBLEM_HEADERS.get(status, ())),
        }
        for status, description in _PROBLEMS.items()
    }


def _success(success: Success, schemas: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    written: dict[str, Any] = {"description": success.description, **_headers(success.headers)}
    if success.media is not None:
        content: dict[str, Any] = {}
        if success.body is not None:
            content["schema"] = schemas[success.body]
        if success.example is not None:
            content["example"] = success.example
        written["content"] = {success.media: content}
    return written


def _headers(names: Iterable[str]) -> dict[str, Any]:
    found = {name: _HEADERS[name] for name in names}
    return {"headers": found} if found else {}


def _schemes(policy: CredentialPolicy) -> dict[str, Any]:
    """Return the auth methods that are open at this hub; what an app adds is its own affair."""
    jwt = "A JWT, as the hub's keys verify it."
    known: dict[str, tuple[str, dict[str, Any]]] = {
        "bearer": ("bearer", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": jwt}),
        "ticket": (
            "ticket",
            {"type": "apiKey", "in": "query", "name": "ticket", "description": "From `POST /auth/sse`; good once."},
        ),
        "resume": (
            "resume",
            {
                "type": "apiKey",
                "in": "header",
                "name": "Last-Event-ID",
                "description": "The id of an event of a stream that was opened with a ticket.",
            },
        ),
        "session": (
            "cookie",
            {
                "type": "apiKey",
                "in": "cookie",
                "name": policy.session_cookie,
                "description": "From `POST /auth/login` or `POST /auth/session`. Counts from known pages only.",
            },
        ),
        "query": ("query", {"type": "apiKey", "in": "query", "name": "token", "description": jwt}),
    }
    if policy.jwt_cookie is not None:
        cookie = {"type": "apiKey", "in": "cookie", "name": policy.jwt_cookie, "description": jwt}
        known["cookie"] = ("cookie", cookie)
    return {name: scheme for name, (auth_method, scheme) in known.items() if auth_method in policy.auth_methods}


_API: Final = ("bearer", "session", "cookie")
_ACCESS: Final[Mapping[str, tuple[tuple[str, ...], bool]]] = {
    "stream": (("bearer", "ticket", "resume", "session", "cookie", "query"), True),
    "api": (_API, False),
    "ticket": (_API, True),
    "bearer": (("bearer",), False),
    "cookie": (("session",), False),
    "none": ((), False),
}
"""By who may ask: the schemes, and whether to ask without one may be right."""


def _security(operation: Operation, schemes: Mapping[str, Any]) -> list[dict[str, list[str]]]:
    names, optional = _ACCESS[operation.access]
    found: list[dict[str, list[str]]] = [{name: []} for name in names if name in schemes]
    return [*found, {}] if optional else found
