"""What a verified token claims: times, issuer, audience, subject and grants (RFC 7519 section 4.1). No I/O, no clock.

joserfc decides about times, issuer and audience. Ours is what it has no rule for: ``exp`` is needed, and checked last,
so that "expired" says that all else is good; numbers are finite and before the year 10000; a token with ``aud`` is
refused where no audience is configured; text can be stored as UTF-8; a subject may be an integer, and fits a topic.
"""

from __future__ import annotations

import json
import math
from sys import intern
from typing import Any, Final, NoReturn

from joserfc.errors import ClaimError, ExpiredTokenError
from joserfc.jwt import JWTClaimsRegistry

from ..errors import CredentialExpired, CredentialInvalid, InvalidInput
from ..topics import MAX_TOPIC_LENGTH, user_topic
from .identity import MAX_TIME, Grants, Identity

__all__ = ["MAX_GRANTS", "ClaimRules", "json_object"]

MAX_GRANTS: Final = 64
"""Patterns in one list of a token: what an index can hold for each of many thousand streams."""
_REFUSED: Final = {
    "nbf": "nbf is in the future",
    "iat": "iat is in the future",
    "iss": "iss is not the issuer expected",
    "aud": "aud is no text or list of texts, or does not name this audience",
}
"""What the log says of a claim that joserfc refuses."""


class ClaimRules:
    """From the claims of a verified token to an identity; parameters as of `sseal.auth.jwt.JwtVerifier`."""

    def __init__(
        self,
        *,
        issuer: str | None,
        audience: frozenset[str] | None,
        leeway: float,
        subject_claim: str,
        grants_claim: str,
    ) -> None:
        self._options: dict[str, object] = {}  # of the registry; its own checks have none
        if issuer is not None:
            self._options["iss"] = {"value": issuer}
        if audience is not None:
            self._options["aud"] = {"values": sorted(audience)}
        self._leeway = leeway
        self._subject_claim = subject_claim
        self._grants_claim = grants_claim

    def identity(self, claims: dict[str, object], now: float, auth_method: str) -> Identity:
        """Return who the claims name, if they hold at ``now`` (Unix seconds).

        :raises CredentialExpired: all of it is good but its time.
        :raises CredentialInvalid: anything else.
        """
        exp, _, iat = (_seconds(claims, name) for name in ("exp", "nbf", "iat"))
        if exp is None:
            raise CredentialInvalid("exp is missing")
        if exp + self._leeway > MAX_TIME or min(exp, iat or 0.0) < 0:
            raise CredentialInvalid("exp or iat is no time")
        issuer = _text(claims, "iss")
        if "aud" in claims and "aud" not in self._options:
            raise CredentialInvalid("aud is present and no audience is configured", kind="claims")
        registry = JWTClaimsRegistry(now, self._leeway, **self._options)  # type: ignore[arg-type]  # may be floats
        try:
            # One by one: its `validate` would also have an opinion on ``sub``, and takes twice as long.
            if "nbf" in claims:
                registry.validate_nbf(claims["nbf"])
            if "iat" in claims:
                registry.validate_iat(claims["iat"])
            if "iss" in self._options:
                registry.validate_iss(claims.get("iss"))
            if "aud" in self._options:
                registry.validate_aud(claims.get("aud"))
        except ClaimError as error:
            raise CredentialInvalid(_REFUSED[error.claim], kind="claims") from None
        subject = _subject(claims, self._subject_claim)
        grants = _grants(claims, self._grants_claim)
        jti = _text(claims, "jti")
        try:
            registry.validate_exp(exp)
        except ExpiredTokenError:
            raise CredentialExpired("exp is over") from None
        return Identity(
            subject=subject,
            issuer=intern(issuer or ""),
            grants=grants,
            # A revocation goes by our clock, `iat` by the issuer's, which may be ahead by the leeway (W17).
            issued_at=max(0.0, (iat or 0.0) - self._leeway),
            expires_at=exp + self._leeway,
            token_id=None if jti is None else f"jti:{jti}",
            auth_method=auth_method,
        )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_json: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def json_object(raw: bytes, name: str) -> dict[str, object]:
    """Return a JSON object in which no key stands twice."""
    try:
        value = _json.decode(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CredentialInvalid(f"the {name} is not JSON: {error!s:.80}") from None
    if not isinstance(value, dict):
        raise CredentialInvalid(f"the {name} is not a JSON object")
    return value


def _seconds(claims: dict[str, object], name: str) -> float | None:
    """Return a NumericDate (RFC 7519 section 2), None if it is absent."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CredentialInvalid(f"{name} is not a number")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise CredentialInvalid(f"{name} is not a finite number")
    return seconds


def _text(claims: dict[str, object], name: str) -> str | None:
    """Return a claim that is text and can be stored as such, None if it is absent."""
    if name not in claims:
        return None
    value = claims[name]
    if not isinstance(value, str) or not value:
        raise CredentialInvalid(f"{name} is not a string, or is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise CredentialInvalid(f"{name} holds a lone surrogate") from None
    return value


def _subject(claims: dict[str, object], name: str) -> str:
    value = claims.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise CredentialInvalid(f"{name} is missing, empty, or neither a string nor an integer")
    try:
        fits = len(user_topic(value)) <= MAX_TOPIC_LENGTH
    except InvalidInput as error:
        raise CredentialInvalid(f"{name}: {error.problem}") from None
    if not fits:
        raise CredentialInvalid(f"{name} is too long for a topic")
    return value


_NO_GRANTS: Final = Grants()


def _grants(claims: dict[str, object], name: str) -> Grants:
    if name not in claims:
        return _NO_GRANTS
    value = claims[name]
    if not isinstance(value, dict):
        raise CredentialInvalid(f"{name} is not an object")
    lists: dict[str, tuple[str, ...]] = {}
    for key in ("subscribe", "publish"):
        patterns = value.get(key, [])
        if not isinstance(patterns, list) or len(patterns) > MAX_GRANTS:
            raise CredentialInvalid(f"{name}.{key} is not a list of at most {MAX_GRANTS} patterns")
        lists[key] = tuple(patterns)
    admin = value.get("admin", False)
    if not isinstance(admin, bool):
        raise CredentialInvalid(f"{name}.admin is neither true nor false")
    try:
        return Grants(**lists, admin=admin)
    except InvalidInput as error:
        raise CredentialInvalid(f"{name}: {error}") from None
