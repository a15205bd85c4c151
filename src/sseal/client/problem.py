"""From a hub's refusal (RFC 9457) back to the error it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ..errors import (
    Conflict,
    CredentialExpired,
    CredentialInvalid,
    CredentialMissing,
    Forbidden,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    SsealError,
    TooLarge,
    TooManyRequests,
    Unavailable,
    UnsupportedMediaType,
)

__all__ = ["Answer", "error_of"]

_PLAIN: Final = {404: NotFound, 405: MethodNotAllowed, 409: Conflict}
_INPUT: Final = {400: InvalidInput, 413: TooLarge, 415: UnsupportedMediaType}
_LATER: Final[dict[int, type[TooManyRequests] | type[Unavailable]]] = {429: TooManyRequests, 503: Unavailable}
MAX_TEXT: Final = 500
"""Characters of a foreign text that go into an exception; a sentence fits, a page of HTML does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is known of a response before any of its stream.

    :param status: the HTTP status.
    :param content_type: the Content-Type as it was sent.
    :param retry_after: seconds from now, from Retry-After in either of its forms; None without one.
    :param problem: the members of the problem document; empty when the body was none.
    """

    status: int
    content_type: str = ""
    retry_after: float | None = None
    problem: Mapping[str, object] = field(default_factory=dict)

    @property
    def media_type(self) -> str:
        """The Content-Type without parameters, in lower case."""
        return self.content_type.partition(";")[0].strip().lower()

    def text(self, member: str) -> str | None:
        """Return a member of the problem document that is a text, clipped; None if it is none."""
        value = self.problem.get(member)
        return value[:MAX_TEXT] if isinstance(value, str) and value else None


def error_of(answer: Answer) -> SsealError:
    """Return the error a refusal stands for, by its ``code`` and status, with the hub's own ``detail``.

    A status no class stands for gives an `SsealError` whose ``status`` is that status.
    """
    status, code = answer.status, answer.text("code")
    detail = answer.text("detail") or f"the hub answered with status {status}"
    if status == 401:
        return _credential(code, detail)
    if status in _INPUT:
        name = answer.text("field") or "request"
        return _INPUT[status](name, detail.removeprefix(f"{name}: "), code=code)
    if status in _LATER:
        after = 1.0 if answer.retry_after is None else answer.retry_after
        return _LATER[status](detail, retry_after=after, code=code)
    if status == 403:
        listed = answer.problem.get("refused")
        refused = [item for item in listed if isinstance(item, str)] if isinstance(listed, list) else []
        return Forbidden(detail, refused=refused, code=code)
    error = _PLAIN.get(status, SsealError)(detail, code=code)
    error.status = status
    return error


def _credential(code: str | None, detail: str) -> SsealError:
    if code == CredentialMissing.code:
        return CredentialMissing(detail)
    if code == CredentialExpired.code:
        return CredentialExpired(detail)
    error = CredentialInvalid(detail)
    if code is not None:
        error.code = code
    return error
