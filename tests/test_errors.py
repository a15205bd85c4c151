"""The errors: what each tells HTTP."""

from __future__ import annotations

import pytest

from sseal import errors

# RFC 9110 section 15; spelled out because `http.HTTPStatus` has older phrases on older Pythons.
PHRASES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    421: "Misdirected Request",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def classes() -> list[type[errors.SsealError]]:
    """Return every error class of the module."""
    found = [getattr(errors, name) for name in errors.__all__]
    return [each for each in found if isinstance(each, type) and issubclass(each, errors.SsealError)]


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_the_title_of_an_error_is_the_phrase_of_its_status(kind: type[errors.SsealError]) -> None:
    """A problem document of the type about:blank has no other title (RFC 9457 section 4.2.1)."""
    assert kind.title == PHRASES[kind.status]
