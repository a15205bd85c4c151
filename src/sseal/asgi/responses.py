"""The answers: JSON, problem documents (RFC 9457), and the guard that turns errors into them."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
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
from .requests import ClientGone

__all__ = ["Answer", "Endpoint", "Guarded", "problem"]

logger = logging.getLogger("sseal.asgi")

HARDENING: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),  # an address may carry a ticket
    (b"cross-origin-resource-policy", b"same-origin"),  # no image or script of another site; CORS is not touched
)
_COMMON: Final = ((b"cache-control", b"no-store"), *HARDENING)


class Answer:
    """A complete response.

    :param body: encoded as JSON; None for no body.
    :param headers: more headers, names in lower case; they replace the common ones.
    """

    def __init__(
        self,
        status: int,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        media: str = "application/json",
        raw: bytes | None = None,
    ) -> None:
        self.status = status
        self.raw = raw if raw is not None else b"" if body is None else msgspec.json.encode(body)
        self.headers = [*_COMMON]
        if headers:
            given = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
            self.headers = [*(pair for pair in _COMMON if pair[0] not in given), *given.items()]
        if self.raw:
            self.headers.append((b"content-type", media.encode()))
        if status not in (204, 304):
            self.headers.append((b"content-length", b"%d" % len(self.raw)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        del receive
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self.raw})


Endpoint = Callable[[Scope, Receive], Awaitable[Answer]]


def problem(error: SsealError) -> Answer:
    """Return the problem document of an error; what a credential's fault was stays in the log."""
    body = ProblemAnswer(title=error.title, status=error.status, detail=error.detail, code=error.code)
    headers: dict[str, str] = {}
    if isinstance(error, InvalidInput):
        body.field = error.field
    if isinstance(error, Forbidden) and error.refused:
        body.refused = list(error.refused)
    if isinstance(error, TooManyRequests | Unavailable):
        headers["retry-after"] = str(math.ceil(error.retry_after))
    if isinstance(error, TooManyRequests) and error.policy is not None:
        headers |= _rate_limit(error.policy, math.ceil(error.retry_after))
    if error.status == 401:
        detail = ', error="invalid_token"' if isinstance(error, CredentialInvalid) else ""
        headers["www-authenticate"] = f'Bearer realm="sseal"{detail}'
    return Answer(error.status, body, headers=headers, media="application/problem+json")


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


class Guarded:
    """An ASGI app around an endpoint per method: errors become problem documents, with nothing half said.

    :param refused: told the code of each error.
    """

    def __init__(self, refused: Callable[[str], None] = lambda _: None, **methods: Endpoint) -> None:
        self._refused = refused
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            answer = await self._answer(scope, receive)
        except ClientGone:
            return
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        method = scope["method"]
        endpoint = self._methods.get("GET" if method == "HEAD" else method)
        try:
            if endpoint is None:
                raise MethodNotAllowed(f"{method} is not allowed here")
            return await endpoint(scope, receive)
        except SsealError as error:
            self._refused(error.code)
            allow = [*self._methods, *(["HEAD"] if "GET" in self._methods else [])]
            return refusal(error, scope, allow=", ".join(allow))
        except ClientGone:
            raise
        except Exception:
            logger.exception("request failed: %s %s", method, redacted_path(scope))
            self._refused(SsealError.code)
            return problem(SsealError("the request failed; the log says why"))


def refusal(error: SsealError, scope: Scope, *, allow: str = "") -> Answer:
    """Log why a request was refused and return its problem document."""
    audit_refusal(error, scope)
    if error.status >= 500:
        logger.warning("refused: %s", error, extra={"path": redacted_path(scope)})
    answer = problem(error)
    if isinstance(error, MethodNotAllowed) and allow:
        answer.headers.append((b"allow", allow.encode()))
    return answer


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a path that does not exist."""
    if scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1000})
        return
    await problem(NotFound("there is nothing at this path"))(scope, receive, send)
