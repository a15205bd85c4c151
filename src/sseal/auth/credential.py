"""What a request carried to say who it is, and where. The first way present decides alone (W13)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ..errors import InvalidInput
from ..position import Position

__all__ = ["AUTH_METHODS", "AuthMethod", "Credential", "CredentialPolicy", "LastEventId"]

AuthMethod = Literal["bearer", "ticket", "resume", "cookie", "query", "custom"]
AUTH_METHODS: Final[tuple[AuthMethod, ...]] = ("bearer", "ticket", "resume", "cookie", "query", "custom")
"""All ways in, in the order in which they are looked for."""

_RESUME = re.compile(r"([a-z2-7]{26})_([a-z0-9]{8}-[0-9]{1,16})", re.ASCII)


@dataclass(frozen=True, slots=True)
class LastEventId:
    """What ``Last-Event-ID`` (or ``last_event_id=``) said.

    :param position: the position, None when it was no position of ours.
    :param token: the resume token in front of it, if it had exactly that form.
    """

    position: Position | None
    token: str | None = None

    @classmethod
    def parse(cls, text: str) -> LastEventId:
        """Read the wire form; anything that is neither form is an unknown position, not a credential."""
        match = _RESUME.fullmatch(text)
        if match is not None and (position := Position.parse(match[2])) is not None:
            return cls(position, match[1])
        return cls(Position.parse(text))


@dataclass(frozen=True, slots=True)
class Credential:
    """One credential of a request.

    :param way: by which way it came.
    :param value: the token; empty for ``own``, which reads the request itself.
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
    """Which ways are open, and the names of the cookies.

    :param ways: the ways that are enabled.
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
        """Return the first credential present among the ways that are enabled and accepted here, or None.

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
