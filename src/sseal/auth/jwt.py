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
from collections.abc import Mapping, Sequence
from typing import Final

from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry, serialize_compact
from joserfc.util import urlsafe_b64decode

from ..errors import CredentialInvalid, InvalidInput
from .claims import ClaimRules, json_object
from .identity import Identity
from .keys import (
    ALGORITHMS,
    HMAC,
    KeyRing,
    VerificationKey,
    check_algorithms,
    check_texts,
    from_jwk,
    from_pem,
    from_secret,
)

__all__ = ["MAX_JWKS_KEYS", "JwtVerifier", "UnknownKey", "sign"]

MAX_JWKS_KEYS: Final = 64
"""Keys of a JWKS document: issuers publish two to five; more would only make a token without ``kid`` expensive."""
_TYPES: Final = ("jwt", "at+jwt")


class UnknownKey(CredentialInvalid):
    """The token names a key nobody here knows; a caller with a JWKS source may refresh it and try once more."""


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
        self._allowed = ALGORITHMS if algorithms is None else check_algorithms(algorithms)
        self._static = (  # the configured keys, which stay when those of a JWKS document change
            *(from_secret(text) for text in check_texts("secrets", secrets)),
            *(from_pem(text) for text in check_texts("public_keys", public_keys)),
        )
        self._ring = KeyRing.of(self._static, self._allowed)  # those and the ones of the last JWKS document
        if not (isinstance(leeway, int | float) and 0 <= leeway < math.inf):
            raise InvalidInput("leeway", f"must be a number of seconds of at least 0, not {leeway!r}")
        audiences = [audience] if isinstance(audience, str) else audience
        accepted = None if audiences is None else frozenset(check_texts("audience", audiences))
        if accepted is not None and not accepted:
            raise InvalidInput("audience", "must name at least one audience; leave it out to have none")
        self._rules = ClaimRules(
            issuer=None if issuer is None else check_texts("issuer", [issuer])[0],
            audience=accepted,
            leeway=float(leeway),
            subject_claim=subject_claim,
            grants_claim=grants_claim,
        )
        self._max_length = max_length
        self.jwks_skipped: tuple[str, ...] = ()  # keys of the last JWKS document that are not used, and why

    @property
    def usable_keys(self) -> int:
        """How many keys can verify something now."""
        return len({id(key) for keys in self._ring.by_algorithm.values() for key in keys})

    def replace_jwks(self, document: Mapping[str, object]) -> int:
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
        keys: list[VerificationKey] = []
        skipped: list[str] = []
        for number, entry in enumerate(entries):
            try:
                keys.append(from_jwk(entry if isinstance(entry, dict) else {}, self._allowed))
            except (ValueError, JoseError) as error:
                skipped.append(f"keys[{number}]: {error}")
        self.jwks_skipped = tuple(skipped)
        self._ring = KeyRing.of((*self._static, *keys), self._allowed)
        return len(keys)

    def verify(self, token: str, now: float, *, auth_method: str = "bearer") -> Identity:
        """Return who the token says, if all of it is good at ``now`` (Unix seconds).

        :raises UnknownKey: its ``kid`` matches no key and no unnamed key fits.
        :raises CredentialExpired: all of it is good but its time.
        :raises CredentialInvalid: anything else.
        """
        try:
            return self._rules.identity(self._claims(token), now, auth_method)
        except CredentialInvalid as error:
            error.auth_method = auth_method
            raise

    def _claims(self, token: str) -> dict[str, object]:
        """Check the signature and return what was signed."""
        if not token.isascii():
            raise CredentialInvalid("is not ASCII")
        if len(token) > self._max_length:
            raise CredentialInvalid(f"has {len(token)} characters, at most {self._max_length} are allowed")
        head, dot, signature = token.rpartition(".")
        segments = head.split(".")
        if not dot or len(segments) != 2:
            raise CredentialInvalid("is not three segments")
        header = json_object(_decoded(segments[0], "header"), "header")
        self._check_signature(header, head.encode("ascii"), _decoded(signature, "signature"))
        return json_object(_decoded(segments[1], "payload"), "payload")

    def _check_signature(self, header: dict[str, object], message: bytes, signature: bytes) -> None:
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
        keys = ring.find(alg, kid)
        model = JWSRegistry.algorithms[alg]
        if any(model.verify(message, signature, key.key) for key in keys):
            return
        if kid is not None and kid not in ring.kids and alg not in HMAC:
            raise UnknownKey(f"no key {kid!r:.80} for {alg}", kind="key")
        if not keys:
            raise CredentialInvalid(f"there is no key for {alg}", kind="key")
        raise CredentialInvalid("the signature is wrong", kind="signature")


def sign(claims: Mapping[str, object], secret: str, *, kid: str | None = None, algorithm: str = "HS256") -> str:
    """Return a token with these claims, signed with an HMAC secret.

    :param kid: id of the key to put into the header.
    :param algorithm: HS256, HS384 or HS512.
    :raises InvalidInput: the secret is too short, the algorithm is another one, the claims are no JSON.
    """
    if algorithm not in HMAC:
        raise InvalidInput("algorithm", f"must be one of {', '.join(HMAC)}, not {algorithm!r}")
    try:
        payload = json.dumps(dict(claims), separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInput("claims", f"cannot be written as JSON: {error}") from None
    header = {"typ": "JWT", "alg": algorithm}
    if kid is not None:
        header["kid"] = kid
    return serialize_compact(header, payload, from_secret(secret).key, [algorithm])


def _decoded(segment: str, name: str) -> bytes:
    try:
        return urlsafe_b64decode(segment.encode("ascii"))
    except ValueError:  # what binascii.Error is
        raise CredentialInvalid(f"the {name} is not base64url") from None
