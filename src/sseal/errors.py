"""Every error sseal raises, and the HTTP answer each one knows.

::

    SsealError
    ├── InvalidInput              400  what the caller sent is malformed; names the field
    │   ├── TooLarge              413  a limit was exceeded; names the limit
    │   └── UnsupportedMediaType  415  a body that is not application/json
    ├── CredentialMissing         401  nobody said who they are
    ├── CredentialInvalid         401  a credential was there and is not good
    │   └── CredentialExpired     401  it was good once (said only after its signature was verified)
    ├── Forbidden                 403  not yours
    ├── NotFound                  404
    ├── MethodNotAllowed          405
    ├── RequestTimeout            408  a body that did not come in time
    ├── Conflict                  409  same idempotency key, other content
    ├── Misdirected               421  a host this hub does not answer to
    ├── TooManyRequests           429  a rate or a count; carries retry_after
    ├── Unavailable               503  starting, draining, full, broker lost; carries retry_after
    └── WireError                  -   a peer broke the event-stream grammar or a decoder bound
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = [
    "Conflict",
    "CredentialExpired",
    "CredentialInvalid",
    "CredentialMissing",
    "Forbidden",
    "InvalidInput",
    "MethodNotAllowed",
    "Misdirected",
    "NotFound",
    "Policy",
    "RequestTimeout",
    "SsealError",
    "TooLarge",
    "TooManyRequests",
    "Unavailable",
    "UnsupportedMediaType",
    "WireError",
]


class SsealError(Exception):
    """Base of all errors sseal raises on purpose.

    ``status`` is the HTTP status and ``title`` its phrase (RFC 9110 section 15), which is what a problem document of
    the type ``about:blank`` has for a title (RFC 9457 section 4.2.1); ``code`` is the stable machine-readable name in
    that document, ``detail`` a sentence that may be shown to the caller.
    """

    status = 500
    code = "internal"
    title = "Internal Server Error"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code


class InvalidInput(SsealError, ValueError):  # noqa: N818 - the names follow the HTTP statuses
    """What the caller sent is malformed; ``field`` names where."""

    status = 400
    code = "invalid_request"
    title = "Bad Request"

    def __init__(self, field: str, problem: str, *, code: str | None = None) -> None:
        super().__init__(f"{field}: {problem}", code=code)
        self.field = field
        self.problem = problem


class TooLarge(InvalidInput):
    """A size limit was exceeded."""

    status = 413
    code = "too_large"
    title = "Content Too Large"


class UnsupportedMediaType(InvalidInput):
    """A body was sent with a media type other than ``application/json``."""

    status = 415
    code = "unsupported_media_type"
    title = "Unsupported Media Type"


class CredentialMissing(SsealError):  # noqa: N818
    """No credential of an enabled way was present."""

    status = 401
    code = "credential_missing"
    title = "Unauthorized"

    def __init__(self, detail: str = "no credential was presented") -> None:
        super().__init__(detail)


class CredentialInvalid(SsealError):  # noqa: N818
    """A credential was present and is not good.

    ``reason`` is for the log and never told to the caller; ``auth_method`` is how it came, ``kind`` one of
    `sseal.audit.REASONS`, ``subject`` whose it is, where that was proven.
    """

    status = 401
    code = "credential_invalid"
    title = "Unauthorized"

    def __init__(
        self, reason: str, *, auth_method: str = "", kind: str = "malformed", subject: str | None = None
    ) -> None:
        super().__init__("the credential was refused")
        self.reason = reason
        self.auth_method = auth_method
        self.kind = kind
        self.subject = subject

    def __str__(self) -> str:
        """Show the reason to whoever reads the log, not the public detail."""
        return f"{self.auth_method or 'credential'}: {self.reason}"


class CredentialExpired(CredentialInvalid):
    """The credential was genuine and its time is over."""

    code = "credential_expired"

    def __init__(self, reason: str = "expired", *, auth_method: str = "", subject: str | None = None) -> None:
        super().__init__(reason, auth_method=auth_method, kind="expired", subject=subject)
        self.detail = "the credential has expired"


class Forbidden(SsealError):  # noqa: N818
    """The caller is known and may not do this; ``refused`` lists what exactly."""

    status = 403
    code = "forbidden"
    title = "Forbidden"

    def __init__(self, detail: str, *, refused: Sequence[str] = (), code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.refused = tuple(refused)


class NotFound(SsealError):  # noqa: N818
    """There is no such thing here."""

    status = 404
    code = "not_found"
    title = "Not Found"


class MethodNotAllowed(SsealError):  # noqa: N818
    """The path exists, the method does not."""

    status = 405
    code = "method_not_allowed"
    title = "Method Not Allowed"


class RequestTimeout(SsealError):  # noqa: N818
    """The body of the request did not come in time."""

    status = 408
    code = "body_timeout"
    title = "Request Timeout"


class Misdirected(SsealError):  # noqa: N818
    """The request is for a host that this hub does not answer to."""

    status = 421
    code = "host_refused"
    title = "Misdirected Request"


class Conflict(SsealError):  # noqa: N818
    """The idempotency key was used before with other content."""

    status = 409
    code = "idempotency_conflict"
    title = "Conflict"


class Policy(NamedTuple):
    """The limit that refused a request, as ``RateLimit-Policy`` names it.

    ``window`` is in seconds, None for what may be open at the same time.
    """

    name: str
    quota: int
    window: int | None = 60


class TooManyRequests(SsealError):  # noqa: N818
    """A rate or a count limit was hit; come back in ``retry_after`` seconds. ``policy`` names it, if it has a name."""

    status = 429
    code = "too_many_requests"
    title = "Too Many Requests"

    def __init__(
        self, detail: str, *, retry_after: float = 1.0, code: str | None = None, policy: Policy | None = None
    ) -> None:
        super().__init__(detail, code=code)
        self.retry_after = retry_after
        self.policy = policy


class Unavailable(SsealError):  # noqa: N818
    """The hub cannot do this now; come back in ``retry_after`` seconds."""

    status = 503
    code = "unavailable"
    title = "Service Unavailable"

    def __init__(self, detail: str, *, retry_after: float = 1.0, code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.retry_after = retry_after


class WireError(SsealError, ValueError):
    """A peer sent what the event-stream grammar or a decoder bound forbids."""

    code = "wire"
