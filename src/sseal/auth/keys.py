"""The keys that verify tokens, and what each may be used for (RFC 7517, RFC 7518, RFC 8725). No I/O and no clock.

Each key knows its algorithms from its own type, curve and size: an RSA key is never an HMAC secret, a P-384 key never
checks ES256. The id of a configured secret or PEM key is its RFC 7638 thumbprint; the id of a JWKS key is its ``kid``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from ..errors import InvalidInput

__all__ = [
    "ALGORITHMS",
    "HMAC",
    "MIN_SECRET",
    "KeyRing",
    "VerificationKey",
    "check_algorithms",
    "check_texts",
    "from_jwk",
    "from_pem",
    "from_secret",
]

MIN_SECRET: Final = 32
"""Bytes of an HMAC secret: those of the SHA-256 digest (RFC 7518 section 3.2)."""
_RSA_BITS: Final = range(2048, 8193)
"""RFC 7518 section 3.3 sets the lower end; beyond the upper one a verification takes milliseconds."""

HMAC: Final = ("HS256", "HS384", "HS512")
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"P-256": ("ES256",), "P-384": ("ES384",), "P-521": ("ES512",)}
_EDWARDS: Final = {"Ed25519": ("EdDSA", "Ed25519")}
ALGORITHMS: Final = (*HMAC, *_RSA, "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
"""Every algorithm sseal can verify; ``none`` is not among them."""

_Public = RSAKey | ECKey | OKPKey
_KINDS: Final[Mapping[str, tuple[Callable[[dict[str, Any]], _Public], tuple[str, ...]]]] = {
    "RSA": (RSAKey.import_key, ("kty", "n", "e")),
    "EC": (ECKey.import_key, ("kty", "crv", "x", "y")),
    "OKP": (OKPKey.import_key, ("kty", "crv", "x")),
}
"""How a public JWK of each type is read, and the members that make it up."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key, the algorithms it may be used with, and its id; ``named`` if its issuer gave it that id."""

    key: Key
    algorithms: tuple[str, ...]
    kid: str
    named: bool = False


@dataclass(frozen=True, slots=True)
class KeyRing:
    """All keys of one moment, ready to be looked up."""

    kids: frozenset[str] = frozenset()
    by_algorithm: Mapping[str, tuple[VerificationKey, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, keys: Iterable[VerificationKey], allowed: Sequence[str]) -> KeyRing:
        """Sort keys by the algorithms they verify, among those that are allowed."""
        keys = tuple(keys)
        table = {name: tuple(key for key in keys if name in key.algorithms) for name in allowed}
        return cls(frozenset(key.kid for key in keys), {name: found for name, found in table.items() if found})

    def find(self, algorithm: str, kid: str | None) -> tuple[VerificationKey, ...]:
        """Return the keys that may verify a token, newest first: the named one, else all that no issuer has named."""
        keys = self.by_algorithm.get(algorithm, ())
        if kid is None:
            return keys
        return tuple(key for key in keys if key.kid == kid) or tuple(key for key in keys if not key.named)


def check_algorithms(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names; refuse those that are no algorithms of ours."""
    checked = check_texts("algorithms", names)
    for name in checked:
        if name not in ALGORITHMS:
            raise InvalidInput("algorithms", f"{name!r} is not one of {', '.join(ALGORITHMS)}")
    if not checked:
        raise InvalidInput("algorithms", "must name at least one; leave it out to allow those that have keys")
    return checked


def check_texts(name: str, values: Sequence[str]) -> tuple[str, ...]:
    """Return texts as a tuple; refuse what is none, naming the option."""
    if isinstance(values, str):
        raise InvalidInput(name, "must be a list of strings, not one string")
    for value in values:
        if not isinstance(value, str) or not value:
            raise InvalidInput(name, f"must be strings that are not empty, not {type(value).__name__}")
    return tuple(values)


def from_secret(text: str) -> VerificationKey:
    """Return the key of an HMAC secret."""
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
    return VerificationKey(key, HMAC, key.thumbprint())


def from_pem(text: str) -> VerificationKey:
    """Return the key of a public key or certificate as PEM text."""
    if "-----BEGIN " not in text:
        raise InvalidInput("public_keys", "is not PEM text, which starts with -----BEGIN PUBLIC KEY-----")
    if "PRIVATE KEY-----" in text:
        raise InvalidInput("public_keys", "is a private key; give its public half: openssl pkey -in FILE -pubout")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # the size is checked below, and refused
            key = _imported_pem(text)
        return VerificationKey(key, _algorithms_of(key), key.thumbprint())
    except (ValueError, TypeError, JoseError) as error:
        raise InvalidInput("public_keys", f"cannot be used: {error}") from None


def _imported_pem(text: str) -> _Public:
    for kind in (RSAKey, ECKey):
        try:
            return kind.import_key(text)
        except JoseError:  # not a key of that type
            continue
    return OKPKey.import_key(text)


def from_jwk(entry: Mapping[str, object], allowed: Sequence[str]) -> VerificationKey:
    """Return the key of a public JWK that may verify signatures.

    :raises ValueError: it is none; says why.
    """
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
    return VerificationKey(key, usable, key.thumbprint() if kid is None else kid, named=kid is not None)


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
