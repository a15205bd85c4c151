"""The answers: JSON, and problem documents (RFC 9457)."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..errors import (
    CredentialInvalid,
    Forbidden,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    Policy,
    SsealError,
    TooManyRequests,
    Unavailable,
)
from .audit import audit_refusal, redacted_path
from .bodies import ProblemAnswer

__all__ = ["HARDENING", "JsonResponse", "not_found", "problem", "refusal"]

logger = logging.getLogger("sseal.asgi")

HARDENING: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),  # an address may carry a ticket
    (b"cross-origin-resource-policy", b"same-origin"),  # no image or script of another site; CORS is not touched
)
_COMMON: Final = ((b"cache-control", b"no-store"), *HARDENING)


class JsonResponse(Response):
    """A complete response with the headers that all have in common.

    :param content: encoded as JSON; bytes are sent as they are, None is no body.
    :param headers: more headers, names in lower case; they replace the common ones.
    """

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Return the body."""
        if content is None or isinstance(content, bytes):
            return content or b""
        return msgspec.json.encode(content)

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Make the head: as Starlette does, with the common headers, and without a content type for no content."""
        raw = [*_COMMON]
        if headers:
            given = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
            raw = [*(pair for pair in _COMMON if pair[0] not in given), *given.items()]
        if self.body:
            raw.append((b"content-type", self.media_type.encode()))
        if self.status_code not in (204, 304):
            raw.append((b"content-length", b"%d" % len(self.body)))
        self.raw_headers = raw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; a HEAD request gets no body, whatever the server does about it."""
        if scope["method"] == "HEAD":
            self.body = b""
        await super().__call__(scope, receive, send)


def problem(error: SsealError, headers: Mapping[str, str] | None = None) -> JsonResponse:
    """Return the problem document of an error; what a credential's fault was stays in the log.

    :param headers: more headers than the error has by itself.
    """
    body = ProblemAnswer(title=error.title, status=error.status, detail=error.detail, code=error.code)
    found: dict[str, str] = {}
    if isinstance(error, InvalidInput):
        body.field = error.field
    if isinstance(error, Forbidden) and error.refused:
        body.refused = list(error.refused)
    if isinstance(error, TooManyRequests | Unavailable):
        found["retry-after"] = str(math.ceil(error.retry_after))
    if isinstance(error, TooManyRequests) and error.policy is not None:
        found |= _rate_limit(error.policy, math.ceil(error.retry_after))
    if error.status == 401:
        detail = ', error="invalid_token"' if isinstance(error, CredentialInvalid) else ""
        found["www-authenticate"] = f'Bearer realm="sseal"{detail}'
    return JsonResponse(body, error.status, found | dict(headers or {}), "application/problem+json")


def refusal(error: SsealError, scope: Scope, *, allow: str = "") -> JsonResponse:
    """Log why a request was refused and return its problem document.

    :param allow: the methods of the path, for when the error is that it has not this one.
    """
    audit_refusal(error, scope)
    if error.status >= 500:
        logger.warning("refused: %s", error, extra={"path": redacted_path(scope)})
    return problem(error, {"allow": allow} if allow and isinstance(error, MethodNotAllowed) else None)


def _rate_limit(policy: Policy, reset: int) -> dict[str, str]:
    """Return what tells a client its limit (draft-ietf-httpapi-ratelimit-headers-11)."""
    if policy.window is None:
        return {
            "ratelimit-policy": f'"{policy.name}";q={policy.quota};qu="concurrent-requests"',
            "ratelimit": f'"{policy.name}";r=0',
        }
    return {
        "ratelimit-policy": f'"{policy.name}";q={policy.quota};w={policy.window}',
        "ratelimit": f'"{policy.name}";r=0;t={reset}',
    }


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a path that does not exist."""
    if scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1000})
        return
    await problem(NotFound("there is nothing at this path"))(scope, receive, send)
