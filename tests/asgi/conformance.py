"""Holds answers against the OpenAPI document: status, media type, headers, body."""

from __future__ import annotations

import re
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import jsonschema_rs

from asgi.driver import Reply
from sseal import Hub
from sseal.asgi.openapi import document

__all__ = ["described", "problems_of"]


@cache
def described() -> dict[str, Any]:
    """Return the document; what it says of answers is the same for every hub."""
    return document(Hub()._parts.credentials)


@cache
def _templates() -> list[tuple[re.Pattern[str], str]]:
    found = []
    for path in sorted(described()["paths"], key=lambda path: "{" in path):
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))
        found.append((re.compile(f"{pattern}/?" if path == "/events" else pattern), path))
    return found


def template_of(target: str) -> str | None:
    """Return the path of the document that a target belongs to, None if there is none."""
    path = urlsplit(target).path
    return next((template for pattern, template in _templates() if pattern.fullmatch(path)), None)


@cache
def _validator(reference: str) -> Any:
    return jsonschema_rs.validator_for({"$ref": reference, "components": described()["components"]})


def problems_of(method: str, target: str, reply: Reply) -> list[str]:
    """Return in what an answer differs from the document."""
    template = template_of(target)
    if template is None:
        return [] if reply.status in (404, 503) else [f"{reply.status} at a path that is not in the document"]
    name = {"HEAD": "get"}.get(method, method.lower()) if method.isupper() else ""  # `get` is no method
    operation = described()["paths"][template].get(name)
    if operation is None:
        return [] if reply.status in (405, 503) or method == "OPTIONS" else [f"{method} is not in the document"]
    response = operation["responses"].get(str(reply.status))
    if response is None:
        return [f"{reply.status} is not in the document"]
    if "$ref" in response:
        response = described()["components"]["responses"][response["$ref"].rpartition("/")[2]]
    headers = response.get("headers", {}).items()
    missing = [name for name, header in headers if header.get("required") and not reply.all(name.lower())]
    found = [f"{name} is missing" for name in missing]
    if method == "HEAD":
        return found
    return found + _faults_of_body(response.get("content"), reply)


def _faults_of_body(content: dict[str, Any] | None, reply: Reply) -> list[str]:
    if content is None:
        return ["it has a body"] if reply.body else []
    media = (reply.header("content-type") or "").partition(";")[0]
    if media not in content:
        return [f"{media or 'no media type'} instead of {', '.join(content)}"]
    schema = content[media].get("schema")
    if schema is None:
        return []
    return [str(error) for error in _validator(schema["$ref"]).iter_errors(reply.json)]
