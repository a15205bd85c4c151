"""What a request carried to say who it is, and where. The first auth method present decides alone (W13)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ..errors import InvalidInput
from .last_event_id import LastEventId

__all__ = ["AUTH_METHODS", "AuthMethod", "Credential", "CredentialPolicy"]

AuthMethod = Literal["bearer", "ticket", "resume", "cookie", "query", "custom"]
AUTH_METHODS: Final[tuple[AuthMethod, ...]] = ("bearer", "ticket", "resume", "cookie", "query", "custom")
"""All auth methods, in the order in which they are looked for."""


@dataclass(frozen=True, slots=True)
class Credential:
    """One credential of a request.

    :param auth_method: how it was presented.
    :param value: the token; empty for ``custom``, which reads the request itself.
    :param session: for a cookie: whether it is sseal's own session rather than the app's JWT.
    :param fallback: for a ticket: the resume token beside it, good only if of the ticket's own family.
    """

    auth_method: AuthMethod
    value: str
    session: bool = False
    fallback: str | None = None

    @property
    def ambient(self) -> bool:
        """Whether the browser adds it by itself, so that the Origin rule must decide."""
        return self.auth_method in ("cookie", "custom")


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialPolicy:
    """Which auth methods are accepted, and the names of the cookies.

    :param auth_methods: those that are enabled.
    :param session_cookie: name of sseal's own session cookie.
    :param jwt_cookie: name of the app's cookie that holds a JWT, None for none.
    """

    auth_methods: frozenset[AuthMethod]
    session_cookie: str
    jwt_cookie: str | None = None

    def find(
        self,
        accepted: frozenset[AuthMethod],
        headers: Iterable[tuple[bytes, bytes]],
        query: Sequence[tuple[str, str]] = (),
        *,
        path_ticket: str | None = None,
        last_event_id: LastEventId | None = None,
    ) -> Credential | None:
        """Return the first credential present among the auth methods that are enabled and accepted here, or None.

        :raises InvalidInput: two Authorization headers, two tickets or tokens, or one cookie name twice.
        """
        auth_methods = self.auth_methods & accepted
        authorization = [value for name, value in headers if name == b"authorization"]
        if len(authorization) > 1:
            raise InvalidInput("Authorization", "stands twice; send one header")
        if "bearer" in auth_methods and authorization and (token := _bearer(authorization[0])) is not None:
            return Credential("bearer", token)
        resume = last_event_id.token if last_event_id is not None and "resume" in auth_methods else None
        if "ticket" in auth_methods and (ticket := _single(query, "ticket", path_ticket)) is not None:
            return Credential("ticket", ticket, fallback=resume)
        if resume is not None:
            return Credential("resume", resume)
        if "cookie" in auth_methods and (cookie := self._cookie(headers)) is not None:
            return cookie
        if "query" in auth_methods and (token := _single(query, "token")) is not None:
            return Credential("query", token)
        return Credential("custom", "") if "custom" in auth_methods else None

    def _cookie(self, headers: Iterable[tuple[bytes, bytes]]) -> Credential | None:
        found: dict[str, list[str]] = {}
        for name, value in headers:
            if name == b"cookie":
                for pair in value.decode("latin-1").split(";"):
                    key, _, content = pair.partition("=")
                    found.setdefault(key.strip(" \t"), []).append(content.strip(" \t").strip('"'))
        for wanted in filter(None, (self.session_cookie, self.jwt_cookie)):
            values = found.get(wanted, [])
            if len(values) > 1:
                raise InvalidInput("Cookie", f"{wanted} stands twice; one of them is not ours")
            if values:
                return Credential("cookie", values[0], session=wanted == self.session_cookie)
        return None


def _bearer(header: bytes) -> str | None:
    """Return the token of a Bearer header (RFC 6750 section 2.1); None for another scheme."""
    scheme, _, token = header.decode("latin-1").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _single(query: Sequence[tuple[str, str]], name: str, extra: str | None = None) -> str | None:
    values = [value for key, value in query if key == name]
    if extra is not None:
        values.append(extra)
    if len(values) > 1:
        raise InvalidInput(name, "stands twice; send one")
    return values[0] if values else None
