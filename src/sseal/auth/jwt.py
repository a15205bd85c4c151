"""JSON Web Tokens: who signed, until when, for whom (RFC 7519, RFC 7515, RFC 8725). No I/O and no clock.

How a token finds its key
-------------------------
1. ``alg`` must be on the allow-list, and each key knows its algorithms from its own type, curve and size: an
   RSA key is never an HMAC secret, a P-384 key never checks ES256.
2. ``kid`` is compared as a string with the ids of the keys and used for nothing else. The id of a configured
   secret or PEM key is its RFC 7638 thumbprint; the id of a JWKS key is its ``kid``.
3. A ``kid`` that matches decides alone. One that matches nothing leaves the keys to which the issuer never gave a
   name, that is the configured ones and JWKS keys without ``kid``; when none of them fits either, `UnknownKey`.
4. Without ``kid`` every key of that algorithm is tried, newest first.

``jku``, ``jwk``, ``x5u`` and ``x5c`` are never read. A token with ``crit`` or ``b64`` is refused.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from sys import intern
from typing import Any, Final, NoReturn

from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry, serialize_compact
from joserfc.util import urlsafe_b64decode

from ..errors import CredentialExpired, CredentialInvalid, InvalidInput
from ..topics import MAX_TOPIC_LENGTH, user_topic
from .identity import MAX_TIME, Grants, Identity

__all__ = ["ALGORITHMS", "MAX_GRANTS", "MAX_JWKS_KEYS", "MIN_SECRET", "JwtVerifier", "UnknownKey", "sign"]

MIN_SECRET: Final = 32
"""Bytes of an HMAC secret: those of the SHA-256 digest (RFC 7518 section 3.2)."""
MAX_JWKS_KEYS: Final = 64
"""Keys of a JWKS document: issuers publish two to five; more would only make a token without ``kid`` expensive."""
MAX_GRANTS: Final = 64
"""Patterns in one list of a token: what an index can hold for each of many thousand streams."""
_RSA_BITS: Final = range(2048, 8193)
"""RFC 7518 section 3.3 sets the lower end; beyond the upper one a verification takes milliseconds."""

_HMAC: Final = ("HS256", "HS384", "HS512")
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"P-256": ("ES256",), "P-384": ("ES384",), "P-521": ("ES512",)}
_EDWARDS: Final = {"Ed25519": ("EdDSA", "Ed25519")}
ALGORITHMS: Final = (*_HMAC, *_RSA, "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
"""Every algorithm sseal can verify; ``none`` is not among them."""

_Public = RSAKey | ECKey | OKPKey
_KINDS: Final[Mapping[str, tuple[Callable[[dict[str, Any]], _Public], tuple[str, ...]]]] = {
    "RSA": (RSAKey.import_key, ("kty", "n", "e")),
    "EC": (ECKey.import_key, ("kty", "crv", "x", "y")),
    "OKP": (OKPKey.import_key, ("kty", "crv", "x")),
}
"""How a public JWK of each type is read, and the members that make it up."""
_TYPES: Final = ("jwt", "at+jwt")


class UnknownKey(CredentialInvalid):
    """The token names a key nobody here knows; a caller with a JWKS source may refresh it and try once more."""


@dataclass(frozen=True, slots=True)
class _Key:
    """A key, the algorithms it may be used with, and its id; ``named`` if its issuer gave it that id."""

    key: Key
    algorithms: tuple[str, ...]
    kid: str
    named: bool = False


@dataclass(frozen=True, slots=True)
class _Ring:
    """All keys of one moment, ready to be looked up."""

    kids: frozenset[str] = frozenset()
    by_algorithm: Mapping[str, tuple[_Key, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, keys: Iterable[_Key], allowed: Sequence[str]) -> _Ring:
        keys = tuple(keys)
        table = {name: tuple(key for key in keys if name in key.algorithms) for name in allowed}
        return cls(frozenset(key.kid for key in keys), {name: found for name, found in table.items() if found})


class JwtVerifier:
    """Checks tokens against configured keys and, if given, those of a JWKS document.

    :param secrets: HMAC secrets of at least 32 bytes, newest first; each verifies HS256, HS384 and HS512.
    :param public_keys: public keys or certificates as PEM text, newest first.
    :param algorithms: allow-list; by default all algorithms for which there are keys.
    :param issuer: what ``iss`` must be; None leaves ``iss`` to the issuers that have a key.
    :param audience: one or several audiences of which ``aud`` must name one. With None a token that carries
        ``aud`` is refused, for it was meant for somebody else (RFC 7519 section 4.1.3).
    :param leeway: seconds by which clocks may differ. It also moves the end of the identity to ``exp + leeway``,
        else a token let in within the leeway would end at once.
    :param subject_claim: the claim that names the subject: a string, or an integer, which counts as its decimal
        text (``42`` and ``"42"`` are the same subject).
    :param grants_claim: the claim with ``{"subscribe": [...], "publish": [...], "admin": bool}``.
    :param max_length: characters of a token.
    :raises InvalidInput: names the option and what to do.
    """

    def __init__(
        self,
        *,
        secrets: Sequence[str] = (),
        public_keys: Sequence[str] = (),
        algorithms: Sequence[str] | None = None,
        issuer: str | None = None,
        audience: str | Sequence[str] | None = None,
        leeway: float = 10.0,
        subject_claim: str = "sub",
        grants_claim: str = "sseal",
        max_length: int = 8192,
    ) -> None:
        self._allowed = ALGORITHMS if algorithms is None else _checked_algorithms(algorithms)
        self._static = (
            *(_from_secret(text) for text in _texts("secrets", secrets)),
            *(_from_pem(text) for text in _texts("public_keys", public_keys)),
        )
        self._ring = _Ring.of(self._static, self._allowed)
        if not (isinstance(leeway, int | float) and 0 <= leeway < math.inf):
            raise InvalidInput("leeway", f"must be a number of seconds of at least 0, not {leeway!r}")
        self._issuer = None if issuer is None else _texts("issuer", [issuer])[0]
        audiences = [audience] if isinstance(audience, str) else audience
        self._audience = None if audiences is None else frozenset(_texts("audience", audiences))
        if self._audience is not None and not self._audience:
            raise InvalidInput("audience", "must name at least one audience; leave it out to have none")
        self._leeway = float(leeway)
        self._subject_claim = subject_claim
        self._grants_claim = grants_claim
        self._max_length = max_length
        self.jwks_skipped: tuple[str, ...] = ()

    @property
    def usable_keys(self) -> int:
        """How many keys can verify something now."""
        return len({id(key) for keys in self._ring.by_algorithm.values() for key in keys})

    def replace_jwks(self, document: Mapping[str, Any]) -> int:
        """Put the keys of a JWKS document (RFC 7517) in the place of those of the last one.

        A key that is symmetric, weak, unknown, or not meant to verify signatures is skipped, and `jwks_skipped`
        says why. Only its public members are read.

        :returns: how many of its keys are usable.
        :raises InvalidInput: it is no JWKS document or holds more than 64 keys; the keys stay as they were.
        """
        entries = document.get("keys") if isinstance(document, Mapping) else None
        if not isinstance(entries, list):
            raise InvalidInput("jwks", 'must be an object with a list "keys" (RFC 7517 section 5)')
        if len(entries) > MAX_JWKS_KEYS:
            raise InvalidInput("jwks", f"has {len(entries)} keys, at most {MAX_JWKS_KEYS} are allowed")
        keys: list[_Key] = []
        skipped: list[str] = []
        for number, entry in enumerate(entries):
            try:
                keys.append(_from_jwk(entry if isinstance(entry, dict) else {}, self._allowed))
            except (ValueError, JoseError) as error:
                skipped.append(f"keys[{number}]: {error}")
        self.jwks_skipped = tuple(skipped)
        self._ring = _Ring.of((*self._static, *keys), self._allowed)
        return len(keys)

    def verify(self, token: str, now: float, *, auth_method: str = "bearer") -> Identity:
        """Return who the token says, if all of it is good at ``now`` (Unix seconds).

        :raises UnknownKey: its ``kid`` matches no key and no unnamed key fits.
        :raises CredentialExpired: all of it is good but its time.
        :raises CredentialInvalid: anything else.
        """
        try:
            return self._identity(self._claims(token), now, auth_method)
        except CredentialInvalid as error:
            error.auth_method = auth_method
            raise

    def _claims(self, token: str) -> dict[str, Any]:
        """Check the signature and return what was signed."""
        if not token.isascii():
            raise CredentialInvalid("is not ASCII")
        if len(token) > self._max_length:
            raise CredentialInvalid(f"has {len(token)} characters, at most {self._max_length} are allowed")
        head, dot, signature = token.rpartition(".")
        segments = head.split(".")
        if not dot or len(segments) != 2:
            raise CredentialInvalid("is not three segments")
        header = _object(_decoded(segments[0], "header"), "header")
        self._check_signature(header, head.encode("ascii"), _decoded(signature, "signature"))
        return _object(_decoded(segments[1], "payload"), "payload")

    def _check_signature(self, header: dict[str, Any], message: bytes, signature: bytes) -> None:
        alg, kid, typ = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
        if not isinstance(alg, str) or alg not in self._allowed:
            raise CredentialInvalid(f"alg {alg!r:.40} is not allowed", kind="algorithm")
        if "crit" in header or "b64" in header:
            raise CredentialInvalid("crit and b64 are not supported", kind="algorithm")
        if not isinstance(typ, str) or typ.lower() not in _TYPES:
            raise CredentialInvalid(f"typ {typ!r:.40} is neither JWT nor at+jwt", kind="algorithm")
        if kid is not None and not isinstance(kid, str):
            raise CredentialInvalid("kid is not a string")
        ring = self._ring
        keys = ring.by_algorithm.get(alg, ())
        if kid is not None:
            keys = tuple(key for key in keys if key.kid == kid) or tuple(key for key in keys if not key.named)
        model = JWSRegistry.algorithms[alg]
        if any(model.verify(message, signature, key.key) for key in keys):
            return
        if kid is not None and kid not in ring.kids and alg not in _HMAC:
            raise UnknownKey(f"no key {kid!r:.80} for {alg}", kind="key")
        if not keys:
            raise CredentialInvalid(f"there is no key for {alg}", kind="key")
        raise CredentialInvalid("the signature is wrong", kind="signature")

    def _identity(self, claims: dict[str, Any], now: float, auth_method: str) -> Identity:
        """Check the claims; the end comes last, so that "expired" says all else is good."""
        exp, nbf, iat = (_seconds(claims, name) for name in ("exp", "nbf", "iat"))
        if exp is None:
            raise CredentialInvalid("exp is missing")
        if exp + self._leeway > MAX_TIME or min(exp, iat or 0.0) < 0:
            raise CredentialInvalid("exp or iat is no time")
        if nbf is not None and nbf > now + self._leeway:
            raise CredentialInvalid("nbf is in the future", kind="claims")
        if iat is not None and iat > now + self._leeway:
            raise CredentialInvalid("iat is in the future", kind="claims")
        issuer = _text(claims, "iss")
        if self._issuer is not None and issuer != self._issuer:
            raise CredentialInvalid("iss is not the issuer expected", kind="claims")
        self._check_audience(claims)
        subject = _subject(claims, self._subject_claim)
        grants = _grants(claims, self._grants_claim)
        jti = _text(claims, "jti")
        if now >= exp + self._leeway:
            raise CredentialExpired("exp is over")
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

    def _check_audience(self, claims: dict[str, Any]) -> None:
        if self._audience is None:
            if "aud" in claims:
                raise CredentialInvalid("aud is present and no audience is configured", kind="claims")
            return
        value = claims.get("aud")
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise CredentialInvalid("aud is missing or neither a string nor a list of strings", kind="claims")
        if self._audience.isdisjoint(names):
            raise CredentialInvalid("aud does not name this audience", kind="claims")


def sign(claims: Mapping[str, Any], secret: str, *, kid: str | None = None, algorithm: str = "HS256") -> str:
    """Return a token with these claims, signed with an HMAC secret.

    :param kid: id of the key to put into the header.
    :param algorithm: HS256, HS384 or HS512.
    :raises InvalidInput: the secret is too short, the algorithm is another one, the claims are no JSON.
    """
    if algorithm not in _HMAC:
        raise InvalidInput("algorithm", f"must be one of {', '.join(_HMAC)}, not {algorithm!r}")
    try:
        payload = json.dumps(dict(claims), separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInput("claims", f"cannot be written as JSON: {error}") from None
    header = {"typ": "JWT", "alg": algorithm}
    if kid is not None:
        header["kid"] = kid
    return serialize_compact(header, payload, _from_secret(secret).key, [algorithm])


def _checked_algorithms(names: Sequence[str]) -> tuple[str, ...]:
    checked = _texts("algorithms", names)
    for name in checked:
        if name not in ALGORITHMS:
            raise InvalidInput("algorithms", f"{name!r} is not one of {', '.join(ALGORITHMS)}")
    if not checked:
        raise InvalidInput("algorithms", "must name at least one; leave it out to allow those that have keys")
    return checked


def _texts(name: str, values: Sequence[str]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise InvalidInput(name, "must be a list of strings, not one string")
    for value in values:
        if not isinstance(value, str) or not value:
            raise InvalidInput(name, f"must be strings that are not empty, not {type(value).__name__}")
    return tuple(values)


def _from_secret(text: str) -> _Key:
    if "-----BEGIN " in text or text.startswith(("ssh-", "ecdsa-sha2-")):
        raise InvalidInput("secrets", "is a PEM or SSH key; public keys belong into public_keys")
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) < MIN_SECRET:
        raise InvalidInput(
            "secrets",
            f"has {len(raw)} bytes, at least {MIN_SECRET} are needed; "
            "`python3 -c 'import secrets; print(secrets.token_urlsafe(32))'` makes a good one",
        )
    key = OctKey.import_key(raw)
    return _Key(key, _HMAC, key.thumbprint())


def _from_pem(text: str) -> _Key:
    if "-----BEGIN " not in text:
        raise InvalidInput("public_keys", "is not PEM text, which starts with -----BEGIN PUBLIC KEY-----")
    if "PRIVATE KEY-----" in text:
        raise InvalidInput("public_keys", "is a private key; give its public half: openssl pkey -in FILE -pubout")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # the size is checked below, and refused
            key = _imported_pem(text)
        return _Key(key, _algorithms_of(key), key.thumbprint())
    except (ValueError, TypeError, JoseError) as error:
        raise InvalidInput("public_keys", f"cannot be used: {error}") from None


def _imported_pem(text: str) -> _Public:
    for kind in (RSAKey, ECKey):
        try:
            return kind.import_key(text)
        except JoseError:  # not a key of that type
            continue
    return OKPKey.import_key(text)


def _from_jwk(entry: dict[str, Any], allowed: Sequence[str]) -> _Key:
    kty, kid, alg, ops = (entry.get(name) for name in ("kty", "kid", "alg", "key_ops"))
    if not isinstance(kty, str) or kty not in _KINDS:
        raise ValueError("a symmetric key in a public document" if kty == "oct" else f"unknown kty {kty!r:.40}")
    importer, members = _KINDS[kty]
    if entry.get("use", "sig") != "sig" or not (ops is None or (isinstance(ops, list) and "verify" in ops)):
        raise ValueError("is not for verifying signatures")
    if kid is not None and not isinstance(kid, str):
        raise ValueError("kid is not a string")
    public = {name: entry[name] for name in members if name in entry}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        try:
            key = importer(public)
        except KeyError:
            raise ValueError(f"unknown crv {public.get('crv')!r:.40}") from None
    usable = tuple(name for name in _algorithms_of(key) if name in allowed and alg in (None, name))
    if not usable:
        raise ValueError("no algorithm that is allowed may use it")
    return _Key(key, usable, key.thumbprint() if kid is None else kid, named=kid is not None)


def _algorithms_of(key: _Public) -> tuple[str, ...]:
    """Return what a key may be used with, from nothing but the key itself."""
    if isinstance(key, RSAKey):
        if key.raw_value.key_size not in _RSA_BITS:
            raise ValueError(f"an RSA key of {key.raw_value.key_size} bits; 2048 to 8192 are allowed")
        return _RSA
    known = _CURVES if isinstance(key, ECKey) else _EDWARDS
    try:
        return known[key.curve_name]
    except KeyError as error:
        raise ValueError(f"curve {error} is not supported") from None


def _decoded(segment: str, name: str) -> bytes:
    try:
        return urlsafe_b64decode(segment.encode("ascii"))
    except ValueError:  # what binascii.Error is
        raise CredentialInvalid(f"the {name} is not base64url") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_json: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _object(raw: bytes, name: str) -> dict[str, Any]:
    try:
        value = _json.decode(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CredentialInvalid(f"the {name} is not JSON: {error!s:.80}") from None
    if not isinstance(value, dict):
        raise CredentialInvalid(f"the {name} is not a JSON object")
    return value


def _seconds(claims: dict[str, Any], name: str) -> float | None:
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


def _text(claims: dict[str, Any], name: str) -> str | None:
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


def _subject(claims: dict[str, Any], name: str) -> str:
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


def _grants(claims: dict[str, Any], name: str) -> Grants:
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
