"""One token, one spelling: the classic ways to write the same token twice, or two tokens as one."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwk

from auth.test_jwt import CLAIMS, NOW, SECRET, VERIFIER, forge, hs256, key_for, pem, public_jwk, refuses, rsa_key
from sseal.auth.jwt import JwtVerifier, UnknownKey
from sseal.errors import CredentialInvalid

GOOD = hs256()
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def signed(head: str, payload: str) -> str:
    """Write a token of two segments as they stand, rightly signed."""
    from joserfc.jws import JWSRegistry

    message = f"{head}.{payload}".encode()
    signature = JWSRegistry.algorithms["HS256"].sign(message, key_for("HS256"))
    return f"{head}.{payload}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def encoded(text: str) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


HEAD, PAYLOAD = encoded('{"alg":"HS256"}'), encoded(json.dumps(CLAIMS))


def test_the_helper_signs_what_is_good() -> None:
    """A token of plain segments is let in, so that what follows is refused for its spelling alone."""
    assert VERIFIER.verify(signed(HEAD, PAYLOAD), NOW).subject == "alice"


@pytest.mark.parametrize("space", [" ", "\n", "\r\n", "\t", "\x0b", "\0", "\u00a0", "\u200b", "\ufeff"])
def test_white_space_is_no_part_of_a_token(space: str) -> None:
    """In front, behind, around a dot or inside a segment: refused, however it is signed."""
    head, payload, signature = GOOD.split(".")
    middle = len(payload) // 2
    for token in (
        space + GOOD,
        GOOD + space,
        f"{head}{space}.{payload}.{signature}",
        f"{head}.{space}{payload}.{signature}",
        f"{head}.{payload[:middle]}{space}{payload[middle:]}.{signature}",
    ):
        refuses(token)
    refuses(signed(f"{HEAD}{space}", PAYLOAD))
    refuses(signed(HEAD, f"{space}{PAYLOAD}"))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_base64_has_one_form(part: int) -> None:
    """Padding, the other alphabet, and bits that nobody reads are refused, even where the signature covers them."""
    token = signed(HEAD + "", PAYLOAD).split(".")
    for text in _spellings(token[part]):
        changed = [*token]
        changed[part] = text
        refuses(".".join(changed))
        if part < 2:
            refuses(signed(*changed[:2]))


def _spellings(segment: str) -> list[str]:
    """Return other texts that a lenient decoder takes for the same bytes."""
    padded = segment + "=" * (-len(segment) % 4)
    found = [f"{segment}=", f"{segment}==", f"={segment}", f"{segment}A", f"{segment}\n"]
    if padded != segment:
        found.append(padded)
        extend = 4 if len(segment) % 4 == 2 else 2
        last = _ALPHABET.index(segment[-1])
        found += [segment[:-1] + _ALPHABET[last ^ bit] for bit in range(1, 2**extend)]
    return found


@pytest.mark.parametrize(
    "header",
    [
        '{"alg":"none","alg":"HS256"}',
        '{"alg":"HS256","\\u0061lg":"HS256"}',
        '{"alg":"HS256","kid":"a","kid":"b"}',
        '{"alg":"HS256","x":{"a":1,"a":2}}',
        '{"alg":"HS256"}{}',
        '{"alg":"HS256"} x',
        '\ufeff{"alg":"HS256"}',
        '{"alg":"HS256",}',
        '{"alg":"HS256","x":NaN}',
        "{'alg':'HS256'}",
        '["HS256"]',
    ],
)
def test_a_header_that_can_be_read_in_two_ways_is_refused(header: str) -> None:
    """Keys that stand twice, however they are escaped, and what is not one JSON object: rightly signed, no good."""
    assert "header" in refuses(signed(encoded(header), PAYLOAD))


@pytest.mark.parametrize(
    "payload",
    [
        '{"sub":"alice","exp":1800000000,"\\u0073ub":"admin"}',
        '{"sub":"alice","exp":1800000000,"a":[{"b":1,"b":2}]}',
        '{"sub":"alice","exp":1800000000}{"sub":"admin"}',
        '\ufeff{"sub":"alice","exp":1800000000}',
    ],
)
def test_a_payload_that_can_be_read_in_two_ways_is_refused(payload: str) -> None:
    """As of a header: rightly signed, no good."""
    assert "payload" in refuses(signed(HEAD, encoded(payload)))


def test_a_token_inside_a_token_is_not_opened() -> None:
    """A nested JWT (RFC 7519 section 5.2) and an encrypted one are refused, not unwrapped."""
    for header in ({"alg": "HS256", "cty": "JWT"}, {"alg": "HS256"}):
        assert "payload" in refuses(forge(header, GOOD, key_for("HS256")))
    encrypted = ".".join([encoded('{"alg":"dir","enc":"A256GCM"}'), "", "AAAA", encoded(GOOD), "AAAA"])
    assert "three segments" in refuses(encrypted)
    # The same in JSON form (RFC 7515 section 7.2), which is no token of a header or cookie.
    head, payload, signature = GOOD.split(".")
    assert refuses(json.dumps({"protected": head, "payload": payload, "signature": signature}))


def test_no_form_of_a_public_key_is_a_secret() -> None:
    """HMAC keyed with the published key as PEM, DER, JWK or modulus is refused, with and without the key's name."""
    key = rsa_key()
    der = key.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    public = public_jwk("RS256")
    number = base64.urlsafe_b64decode(str(public["n"]) + "==")
    forms = [pem(key).encode(), der, json.dumps(public).encode(), str(public["n"]).encode(), number]
    jwks = JwtVerifier()
    jwks.replace_jwks({"keys": [{**public, "kid": "mine"}]})
    for verifier, kid in ((JwtVerifier(public_keys=[pem(key)]), key.thumbprint()), (jwks, "mine")):
        for material in forms:
            secret = jwk.OctKey(material, material)
            for header in ({"alg": "HS256"}, {"alg": "HS256", "kid": kid}, {"alg": "HS512", "kid": kid}):
                refuses(forge(header, CLAIMS, secret), verifier)


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "url", "epk", "apu", "zip", "cty"])
@pytest.mark.parametrize("value", [None, 1, "https://attacker.example", {"kty": "oct", "k": "AAAA"}, ["MIIB"], {}])
def test_no_member_of_the_header_brings_a_key(name: str, value: Any) -> None:
    """Whatever stands in the members that elsewhere carry or name keys, only ours verifies, and nobody is asked."""
    assert VERIFIER.verify(hs256(**{name: value}), NOW).subject == "alice"
    for material in (b"\0" * 32, b"\0\0\0", b"AAAA"):
        forged = forge({"alg": "HS256", name: value}, CLAIMS, jwk.OctKey(material, material))
        assert "signature" in refuses(forged)


@pytest.mark.parametrize("kid", ["x" * 5000, "\ud800", "../../../proc/self/environ", "%00", "${jndi:ldap://a}", "*"])
def test_an_odd_key_id_finds_no_key(kid: str) -> None:
    """A key id is compared and nothing else: none opens a file, runs into an error, or matches as a pattern."""
    mine = jwk.RSAKey.generate_key(2048)
    verifier = JwtVerifier(secrets=[SECRET])
    verifier.replace_jwks({"keys": [{**public_jwk("RS256"), "kid": "mine"}]})
    with pytest.raises(UnknownKey):
        verifier.verify(forge({"alg": "RS256", "kid": kid}, CLAIMS, mine), NOW)


def test_an_elliptic_signature_has_one_form() -> None:
    """Zeros, the order of the curve, DER instead of two numbers, and a missing half are refused."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    key = key_for("ES256")
    verifier = JwtVerifier(public_keys=[pem(key)])
    head, payload, signature = forge({"alg": "ES256"}, CLAIMS, key).split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    halves = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    for forged in (
        bytes(64),
        order.to_bytes(32, "big") * 2,
        bytes(32) + raw[32:],
        raw[:32] + bytes(32),
        encode_dss_signature(*halves),
        raw[:32],
        b"\0" + raw,
        raw + raw,
    ):
        text = base64.urlsafe_b64encode(forged).rstrip(b"=").decode()
        assert "signature" in refuses(f"{head}.{payload}.{text}", verifier)


@given(st.integers(0, len(GOOD) - 1), st.characters())
def test_law_no_other_character_makes_a_good_token(at: int, char: str) -> None:
    """A token in which one character is another is refused: nothing of it goes unread."""
    changed = GOOD[:at] + char + GOOD[at + 1 :]
    if changed != GOOD:
        with pytest.raises(CredentialInvalid):
            VERIFIER.verify(changed, NOW)


@given(st.integers(0, len(GOOD)), st.text(min_size=1, max_size=3))
def test_law_nothing_can_be_put_into_a_good_token(at: int, text: str) -> None:
    """A token with something more in it, anywhere, is refused."""
    with pytest.raises(CredentialInvalid):
        VERIFIER.verify(GOOD[:at] + text + GOOD[at:], NOW)
