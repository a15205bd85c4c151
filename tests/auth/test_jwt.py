"""Tokens: every algorithm, every classic attack, every claim."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwk
from joserfc.jws import JWSRegistry

from sseal.auth.claims import MAX_GRANTS
from sseal.auth.identity import Grants
from sseal.auth.jwt import MAX_JWKS_KEYS, JwtVerifier, UnknownKey, sign
from sseal.auth.keys import ALGORITHMS
from sseal.errors import CredentialExpired, CredentialInvalid, InvalidInput

NOW = 1_700_000_000.0
SECRET = "a secret of more than thirty-two bytes"
CLAIMS: dict[str, Any] = {"sub": "alice", "exp": NOW + 60}
_CURVE = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


@cache
def key_for(alg: str) -> jwk.Key:
    """Return a private key that fits an algorithm, always the same one."""
    if alg.startswith("HS"):
        return jwk.OctKey.import_key(SECRET)
    if alg[:2] in ("RS", "PS"):
        return rsa_key()
    if alg in _CURVE:
        return jwk.ECKey.generate_key(_CURVE[alg])
    return jwk.OKPKey.generate_key("Ed25519")


@cache
def rsa_key(number: int = 0) -> jwk.RSAKey:
    return jwk.RSAKey.generate_key(2048)


def pem(key: jwk.Key) -> str:
    assert not isinstance(key, jwk.OctKey)
    return key.as_pem(private=False).decode()


def segment(content: bytes | Mapping[str, Any] | str) -> str:
    if isinstance(content, Mapping):
        content = json.dumps(content)
    if isinstance(content, str):
        content = content.encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def forge(
    header: Mapping[str, Any] | str,
    claims: Mapping[str, Any] | str | bytes = CLAIMS,
    key: jwk.Key | None = None,
    *,
    alg: str | None = None,
) -> str:
    """Write a token with any header and payload; signed as ``alg`` says if there is a key."""
    head = f"{segment(header)}.{segment(claims)}"
    if key is None:
        return f"{head}."
    assert alg is not None or isinstance(header, Mapping)
    model = JWSRegistry.algorithms[alg or header["alg"]]  # type: ignore[index]
    return f"{head}.{segment(model.sign(head.encode(), key))}"


def hs256(claims: Mapping[str, Any] | str | bytes = CLAIMS, **header: Any) -> str:
    """Write a token whose signature is right, whatever else is not."""
    return forge({"alg": "HS256", **header}, claims, key_for("HS256"))


def public_jwk(kind: str, **members: Any) -> dict[str, Any]:
    return {**key_for(kind).as_dict(private=False), **members}


VERIFIER = JwtVerifier(secrets=[SECRET])


def refuses(token: str, verifier: JwtVerifier = VERIFIER, now: float = NOW) -> str:
    """Return the reason for which a token is refused as invalid, which is not the same as expired."""
    with pytest.raises(CredentialInvalid) as caught:
        verifier.verify(token, now, auth_method="cookie")
    assert not isinstance(caught.value, CredentialExpired)
    assert caught.value.auth_method == "cookie"
    assert caught.value.detail == "the credential was refused"
    return caught.value.reason


# --- every algorithm ---


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_every_algorithm_verifies_what_it_signed(alg: str) -> None:
    """A token of each algorithm is good with the configured key and no longer when one byte of it changes."""
    key = key_for(alg)
    options: dict[str, Any] = {"secrets": [SECRET]} if alg.startswith("HS") else {"public_keys": [pem(key)]}
    verifier = JwtVerifier(**options)
    token = forge({"alg": alg, "typ": "JWT"}, CLAIMS, key)
    assert verifier.verify(token, NOW).subject == "alice"
    head, payload, signature = token.split(".")
    assert "signature" in refuses(f"{head}.{segment({**CLAIMS, 'sub': 'admin'})}.{signature}", verifier)
    assert "signature" in refuses(f"{head}.{payload}.", verifier)
    raw = base64.urlsafe_b64decode(signature + "==")
    assert "signature" in refuses(f"{head}.{payload}.{segment(raw[:-1])}", verifier)
    assert "signature" in refuses(f"{head}.{payload}.{segment(bytes(len(raw)))}", verifier)
    assert "signature" in refuses(f"{head}.{payload}.{segment(raw + b'0')}", verifier)


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_sign_writes_what_verify_reads(alg: str) -> None:
    """`sign` makes a token that the verifier with the same secret accepts, with and without a key id."""
    for kid in (None, "any name"):
        assert VERIFIER.verify(sign(CLAIMS, SECRET, kid=kid, algorithm=alg), NOW).subject == "alice"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"secret": "short"}, "secrets"),
        ({"algorithm": "none"}, "algorithm"),
        ({"algorithm": "RS256"}, "algorithm"),
        ({"claims": {"exp": float("nan")}}, "claims"),
        ({"claims": {"exp": object()}}, "claims"),
    ],
)
def test_sign_refuses_what_nobody_could_verify(arguments: dict[str, Any], field: str) -> None:
    """A weak secret, a foreign algorithm or claims that are no JSON are named, not signed."""
    with pytest.raises(InvalidInput) as caught:
        sign(**{"claims": CLAIMS, "secret": SECRET, **arguments})
    assert caught.value.field == field


# --- attacks on the header ---


@pytest.mark.parametrize("alg", ["none", "NONE", "None", "nOnE", "", "hs256", "HS256 ", "ES256K", "Ed448", "dir"])
def test_an_algorithm_that_is_not_ours_is_refused(alg: str) -> None:
    """`none` in any spelling and every name outside the list is refused, signed or not."""
    assert "not allowed" in refuses(forge({"alg": alg}))
    assert "not allowed" in refuses(forge({"alg": alg}, CLAIMS, key_for("HS256"), alg="HS256"))


@pytest.mark.parametrize("alg", [None, 1, ["HS256"], {"HS256": 1}, True])
def test_an_algorithm_that_is_no_string_is_refused(alg: object) -> None:
    """An `alg` of another JSON type is refused like an unknown one."""
    assert "not allowed" in refuses(forge({"alg": alg}, CLAIMS, key_for("HS256"), alg="HS256"))
    assert "not allowed" in refuses(forge({}, CLAIMS, key_for("HS256"), alg="HS256"))


def test_a_public_key_is_never_a_secret() -> None:
    """A token signed by HMAC with the published PEM text as secret is refused: the key knows only its own kind."""
    text = pem(rsa_key())
    verifier = JwtVerifier(public_keys=[text])
    for material in (text, text.strip()):
        secret = jwk.OctKey(material.encode(), material.encode())
        assert "no key for HS256" in refuses(forge({"alg": "HS256"}, CLAIMS, secret), verifier)
        thumb = {"alg": "HS256", "kid": rsa_key().thumbprint()}
        assert "no key for HS256" in refuses(forge(thumb, CLAIMS, secret), verifier)
        both = JwtVerifier(public_keys=[text], secrets=[SECRET])
        assert "signature" in refuses(forge({"alg": "HS256"}, CLAIMS, secret), both)


def test_a_secret_is_never_a_public_key() -> None:
    """A verifier that has only a secret has no key for an asymmetric algorithm."""
    assert "no key for RS256" in refuses(forge({"alg": "RS256"}, CLAIMS, rsa_key()))


def test_a_curve_decides_the_algorithm() -> None:
    """A key on P-384 is not used for ES256, whatever the header says."""
    key = key_for("ES384")
    verifier = JwtVerifier(public_keys=[pem(key)])
    head = f"{segment({'alg': 'ES256'})}.{segment(CLAIMS)}"
    wrong = segment(JWSRegistry.algorithms["ES384"].sign(head.encode(), key))
    assert "no key for ES256" in refuses(f"{head}.{wrong}", verifier)


@pytest.mark.parametrize(
    "kid", ["../../dev/null", "/dev/null", "' OR 1=1 --", "' UNION SELECT 'x' --", "| id", "\0", ""]
)
def test_a_key_id_is_only_a_string(kid: str) -> None:
    """A key id that is a path, SQL or a command opens nothing: the empty key and guesses do not verify."""
    for material in (b"\0", b"x", b"\0" * 32):
        forged = forge({"alg": "HS256", "kid": kid}, CLAIMS, jwk.OctKey(material, material))
        assert "signature" in refuses(forged)
    assert VERIFIER.verify(hs256(kid=kid), NOW).subject == "alice"


@pytest.mark.parametrize("kid", [1, None, ["a"], {"a": 1}, True])
def test_a_key_id_of_another_type_is_refused(kid: object) -> None:
    """A `kid` is a string; JSON null counts as absent."""
    if kid is None:
        assert VERIFIER.verify(hs256(kid=kid), NOW).subject == "alice"
    else:
        assert "kid" in refuses(hs256(kid=kid))


def test_keys_in_the_header_are_not_read() -> None:
    """`jwk`, `jku`, `x5u` and `x5c` change nothing: the attacker's key does not verify, ours still does."""
    mine = jwk.RSAKey.generate_key(2048)
    carried: dict[str, Any] = {
        "jwk": mine.as_dict(private=False),
        "jku": "https://attacker.example/jwks.json",
        "x5u": "https://attacker.example/chain.pem",
        "x5c": ["MIIB"],
    }
    verifier = JwtVerifier(public_keys=[pem(rsa_key())])
    for name, value in carried.items():
        assert "signature" in refuses(forge({"alg": "RS256", name: value}, CLAIMS, mine), verifier)
        assert verifier.verify(forge({"alg": "RS256", name: value}, CLAIMS, rsa_key()), NOW).subject == "alice"


@pytest.mark.parametrize("extra", [{"crit": ["exp"]}, {"crit": []}, {"b64": False}, {"b64": True}])
def test_critical_extensions_are_refused(extra: dict[str, Any]) -> None:
    """A token that demands an extension is refused, for there is none (RFC 7515 section 4.1.11)."""
    assert "crit" in refuses(hs256(**extra))


@pytest.mark.parametrize(("typ", "good"), [("JWT", True), ("jwt", True), ("AT+JWT", True), ("logout+jwt", False)])
def test_a_token_of_another_kind_is_refused(typ: str, good: bool) -> None:
    """Only `JWT` and `at+jwt`, in any case, say who somebody is."""
    if good:
        assert VERIFIER.verify(hs256(typ=typ), NOW).subject == "alice"
    else:
        assert "typ" in refuses(hs256(typ=typ))
    assert "typ" in refuses(hs256(typ=7))


def test_an_algorithm_outside_the_allow_list_is_refused() -> None:
    """The allow-list narrows what a key may do."""
    verifier = JwtVerifier(secrets=[SECRET], algorithms=["HS512"])
    assert "not allowed" in refuses(hs256(), verifier)
    assert verifier.verify(sign(CLAIMS, SECRET, algorithm="HS512"), NOW).subject == "alice"


# --- attacks on the form ---


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "three segments"),
        ("a", "three segments"),
        ("a.b", "three segments"),
        ("a.b.c.d", "three segments"),
        ("a.b.c.d.e", "three segments"),
        ("..", "header is not JSON"),
        ("a.b.c", "header is not base64url"),
        ("e30=.e30.", "header is not base64url"),
        ("e3+/.e30.", "header is not base64url"),
        ("e3 0.e30.", "header is not base64url"),
        ("\u0435yJ.e30.", "not ASCII"),
        (f"{segment('[]')}.e30.", "header is not a JSON object"),
        (f"{segment(b'{' + bytes([0xFF]) + b'}')}.e30.", "header is not JSON"),
        (segment('{"alg":"HS256","alg":"none"}') + ".e30.", "header is not JSON"),
        (f"{segment({'alg': 'HS256'})}.e30.A", "signature is not base64url"),
        (f"{segment({'alg': 'HS256'})}.e30.AAB", "signature is not base64url"),
    ],
)
def test_a_token_of_another_form_is_refused(token: str, reason: str) -> None:
    """Segments, base64url and JSON are read strictly, for a token has exactly one spelling."""
    assert reason in refuses(token)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("[]", "not a JSON object"),
        ('"alice"', "not a JSON object"),
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"sub":"alice","sub":"admin","exp":1800000000}', "not JSON"),
        ('{"sub":"alice","exp":1800000000,"sseal":{"admin":false,"admin":true}}', "not JSON"),
        ('{"sub":"alice","exp":NaN}', "not JSON"),
        ('{"sub":"alice","exp":Infinity}', "not JSON"),
        ('{"sub":"alice","exp":-Infinity}', "not JSON"),
        ('{"sub":"alice","exp":1e999}', "finite"),
        ('{"sub":"alice","exp":1' + "0" * 400 + "}", "finite"),
        ('{"sub":"alice","exp":1' + "0" * 5000 + "}", "not JSON"),
        ('{"a":' + "[" * 5000, "not JSON"),
        (b"\xff{}", "not JSON"),
    ],
)
def test_a_payload_that_is_no_plain_json_object_is_refused(payload: str | bytes, reason: str) -> None:
    """A rightly signed payload is still read strictly: no duplicate keys, no NaN, no endless numbers or nesting."""
    assert reason in refuses(hs256(payload))


def test_a_payload_that_is_no_base64url_is_refused() -> None:
    """Even signed, a payload has one spelling."""
    head = f"{segment({'alg': 'HS256'})}.e30="
    signature = segment(JWSRegistry.algorithms["HS256"].sign(head.encode(), key_for("HS256")))
    assert "payload is not base64url" in refuses(f"{head}.{signature}")


def test_an_oversized_token_is_refused_unread() -> None:
    """A token of one character too many is refused, one of exactly the length is read."""
    token = hs256({**CLAIMS, "padding": "x" * 100})
    JwtVerifier(secrets=[SECRET], max_length=len(token)).verify(token, NOW)
    assert "characters" in refuses(token, JwtVerifier(secrets=[SECRET], max_length=len(token) - 1))
    assert "characters" in refuses("a" * 8193)


# --- claims ---


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ["1e9", "1800000000", True, False, None, [1], {}])
def test_a_time_that_is_no_number_is_refused(name: str, value: object) -> None:
    """Times are JSON numbers (RFC 7519 section 2); a boolean is not one."""
    assert f"{name} is not a number" in refuses(hs256({**CLAIMS, name: value}))


def test_a_token_without_an_end_is_refused() -> None:
    """`exp` is mandatory: what never ends can only be revoked."""
    assert refuses(hs256({"sub": "alice"})) == "exp is missing"


def test_the_leeway_ends_where_it_says() -> None:
    """At `exp + leeway` a token is over and just before it is not; the identity ends at the same moment."""
    verifier = JwtVerifier(secrets=[SECRET], leeway=5)
    token = hs256({"sub": "alice", "exp": NOW})
    identity = verifier.verify(token, NOW + 4.999)
    assert identity.expires_at == NOW + 5
    assert not identity.expired(NOW + 4.999)
    assert identity.expired(NOW + 5)
    with pytest.raises(CredentialExpired) as caught:
        verifier.verify(token, NOW + 5, auth_method="query")
    assert caught.value.auth_method == "query"


@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_a_token_from_the_future_is_refused(name: str) -> None:
    """`nbf` and `iat` may lie in the future by the leeway and no further."""
    assert VERIFIER.verify(hs256({**CLAIMS, name: NOW + 10}), NOW).subject == "alice"
    assert f"{name} is in the future" in refuses(hs256({**CLAIMS, name: NOW + 10.001}))


def test_expired_is_said_only_of_what_was_good() -> None:
    """An expired token with a bad signature, another audience or a broken claim is invalid, not expired."""
    over = {"sub": "alice", "exp": NOW - 60}
    with pytest.raises(CredentialExpired):
        VERIFIER.verify(hs256(over), NOW)
    assert "signature" in refuses(hs256(over)[:-4] + "AAAA")
    assert "aud" in refuses(hs256({**over, "aud": "else"}))
    assert "sub" in refuses(hs256({"exp": NOW - 60}))


def test_the_issuer_must_be_the_one_configured() -> None:
    """With an issuer configured another, a longer or no `iss` is refused; it becomes the identity's issuer."""
    verifier = JwtVerifier(secrets=[SECRET], issuer="https://id.example")
    assert verifier.verify(hs256({**CLAIMS, "iss": "https://id.example"}), NOW).issuer == "https://id.example"
    for iss in ("https://id.example/", "https://ID.example", "x"):
        assert "iss" in refuses(hs256({**CLAIMS, "iss": iss}), verifier)
    assert "iss" in refuses(hs256(), verifier)


def test_without_a_configured_issuer_any_name_is_kept() -> None:
    """`iss` is told apart even if none is demanded; it must be text all the same."""
    assert VERIFIER.verify(hs256({**CLAIMS, "iss": "app"}), NOW).issuer == "app"
    assert VERIFIER.verify(hs256(), NOW).issuer == ""
    for iss in (1, None, "", ["app"]):
        assert "iss is not a string" in refuses(hs256({**CLAIMS, "iss": iss}))
    assert "surrogate" in refuses(hs256('{"sub":"a","exp":1800000000,"iss":"\\ud800"}'))


@pytest.mark.parametrize("aud", ["sse", ["sse"], ["other", "sse"], ["other", "events"]])
def test_one_audience_of_ours_is_enough(aud: object) -> None:
    """`aud` may be a string or a list and must name one of the configured audiences."""
    verifier = JwtVerifier(secrets=[SECRET], audience=["sse", "events"])
    assert verifier.verify(hs256({**CLAIMS, "aud": aud}), NOW).subject == "alice"


@pytest.mark.parametrize("aud", ["ss", "sse ", [], ["other"], [1, "sse"], {"sse": 1}, None, True, 7])
def test_a_token_for_somebody_else_is_refused(aud: object) -> None:
    """Another audience, no audience and an audience of another type are refused."""
    verifier = JwtVerifier(secrets=[SECRET], audience="sse")
    assert "aud" in refuses(hs256({**CLAIMS, "aud": aud}), verifier)
    assert "aud" in refuses(hs256(), verifier)


def test_an_audience_nobody_configured_is_refused() -> None:
    """A token that names an audience is not for a verifier that has none (RFC 7519 section 4.1.3)."""
    assert "no audience is configured" in refuses(hs256({**CLAIMS, "aud": "sse"}))


@pytest.mark.parametrize("sub", [None, "", [], {}, True, 1.5, "\0" * 100, "x" * 300])
def test_a_subject_that_cannot_be_one_is_refused(sub: object) -> None:
    """The subject is a string that is not empty and fits into its topic, or an integer."""
    assert "sub" in refuses(hs256({**CLAIMS, "sub": sub}))


def test_a_subject_with_a_lone_surrogate_is_refused() -> None:
    """What is no character cannot be written into a topic."""
    assert "surrogate" in refuses(hs256('{"exp":1800000000,"sub":"\\ud800"}'))


@pytest.mark.parametrize(("value", "subject"), [(42, "42"), (-1, "-1"), ("42", "42"), ("*", "*"), ("a/b", "a/b")])
def test_the_subject_claim_can_be_named(value: object, subject: str) -> None:
    """Apps that put a numeric `id` or `userId` into their tokens are understood; its text is the subject (W44)."""
    verifier = JwtVerifier(secrets=[SECRET], subject_claim="userId")
    token = hs256({"userId": value, "sub": "not this", "exp": NOW + 60})
    assert verifier.verify(token, NOW).subject == subject


def test_the_identity_holds_what_the_token_says() -> None:
    """Issue time less the leeway, end, token id, grants and way arrive in the identity."""
    grants = {"subscribe": ["news/**", "user/{sub}"], "publish": ["chat/*"], "admin": True, "later": 1}
    claims = {**CLAIMS, "iat": NOW - 5, "jti": "7f", "iss": "app", "sseal": grants}
    identity = VERIFIER.verify(hs256(claims), NOW, auth_method="cookie")
    assert identity.grants == Grants(subscribe=("news/**", "user/{sub}"), publish=("chat/*",), admin=True)
    assert (identity.issued_at, identity.expires_at, identity.token_id) == (NOW - 15, NOW + 70, "jti:7f")
    assert (identity.issuer, identity.auth_method, identity.parent_ids) == ("app", "cookie", ())


def test_without_claims_there_are_no_grants() -> None:
    """A bare token names its subject, may nothing more, and counts as issued before every revocation."""
    identity = VERIFIER.verify(hs256(), NOW)
    assert (identity.grants, identity.issued_at, identity.token_id) == (Grants(), 0.0, None)


def test_the_grants_claim_can_be_named() -> None:
    """Issuers that must use a URL as claim name may."""
    verifier = JwtVerifier(secrets=[SECRET], grants_claim="https://app.example/sseal")
    claims = {**CLAIMS, "https://app.example/sseal": {"admin": True}, "sseal": 1}
    assert verifier.verify(hs256(claims), NOW).grants.admin


@pytest.mark.parametrize(
    "grants",
    [
        None,
        [],
        "news",
        True,
        {"subscribe": "news"},
        {"subscribe": {"news": 1}},
        {"subscribe": [1]},
        {"subscribe": [None]},
        {"publish": ["a//b"]},
        {"publish": ["**/a"]},
        {"publish": ["a\n"]},
        {"publish": None},
        {"subscribe": ["a"] * (MAX_GRANTS + 1)},
        {"admin": 1},
        {"admin": "true"},
        {"admin": None},
    ],
)
def test_grants_of_another_form_are_refused(grants: object) -> None:
    """A grants claim that cannot be understood is refused as a whole, not read as far as it goes."""
    assert "sseal" in refuses(hs256({**CLAIMS, "sseal": grants}))


@pytest.mark.parametrize("jti", [None, "", 7, ["7f"]])
def test_a_token_id_of_another_type_is_refused(jti: object) -> None:
    """A token whose id could not be revoked is refused."""
    assert "jti" in refuses(hs256({**CLAIMS, "jti": jti}))


# --- keys ---


def test_every_secret_of_the_list_verifies() -> None:
    """While a secret is changed, tokens of the old and the new one are good; of a third one they are not."""
    old, new = "o" * 32, "n" * 32
    verifier = JwtVerifier(secrets=[new, old])
    assert verifier.usable_keys == 2
    for secret in (old, new):
        assert verifier.verify(sign(CLAIMS, secret), NOW).subject == "alice"
    assert "signature" in refuses(sign(CLAIMS, "t" * 32), verifier)


def test_a_thumbprint_as_key_id_decides_alone() -> None:
    """A `kid` that is the thumbprint of a configured key selects it and no other."""
    old, new = "o" * 32, "n" * 32
    verifier = JwtVerifier(secrets=[new, old])
    thumbprint = jwk.OctKey.import_key(old).thumbprint()
    assert verifier.verify(sign(CLAIMS, old, kid=thumbprint), NOW).subject == "alice"
    assert "signature" in refuses(sign(CLAIMS, new, kid=thumbprint), verifier)


def certificate() -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "id.example")])
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    native = rsa_key().private_key
    assert native is not None
    builder = x509.CertificateBuilder(name, name, native.public_key(), 1, start, start + datetime.timedelta(1))
    return builder.sign(native, SHA256()).public_bytes(Encoding.PEM).decode()


def test_a_certificate_is_as_good_as_its_key() -> None:
    """The key of a PEM certificate verifies."""
    verifier = JwtVerifier(public_keys=[certificate()])
    assert verifier.verify(forge({"alg": "PS256"}, CLAIMS, rsa_key()), NOW).subject == "alice"


def native_pem(key: Any) -> str:
    text: bytes = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


WEAK_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()  # noqa: S505 - weak on purpose


@pytest.mark.parametrize(
    ("options", "field", "problem"),
    [
        ({"secrets": ["short"]}, "secrets", "at least 32"),
        ({"secrets": ["ä" * 15]}, "secrets", "has 30 bytes"),
        ({"secrets": [""]}, "secrets", "empty"),
        ({"secrets": SECRET}, "secrets", "list of strings"),
        ({"secrets": [SECRET.encode()]}, "secrets", "bytes"),
        ({"secrets": [pem(rsa_key())]}, "secrets", "public_keys"),
        ({"secrets": ["ssh-ed25519 " + "A" * 40]}, "secrets", "public_keys"),
        ({"public_keys": [SECRET]}, "public_keys", "PEM"),
        ({"public_keys": ["-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]}, "public_keys", "used"),
        ({"public_keys": [rsa_key().as_pem(private=True).decode()]}, "public_keys", "-pubout"),
        ({"public_keys": [native_pem(WEAK_RSA)]}, "public_keys", "1024 bits"),
        (
            {"public_keys": [native_pem(ec.generate_private_key(ec.SECP256K1()).public_key())]},
            "public_keys",
            "secp256k1",
        ),
        ({"public_keys": [native_pem(ed448.Ed448PrivateKey.generate().public_key())]}, "public_keys", "Ed448"),
        ({"public_keys": [native_pem(dsa.generate_private_key(2048).public_key())]}, "public_keys", "cannot be used"),
        ({"algorithms": []}, "algorithms", "at least one"),
        ({"algorithms": ["none"]}, "algorithms", "'none'"),
        ({"algorithms": "HS256"}, "algorithms", "list of strings"),
        ({"issuer": ""}, "issuer", "empty"),
        ({"audience": ""}, "audience", "empty"),
        ({"audience": []}, "audience", "at least one"),
        ({"leeway": -1}, "leeway", "at least 0"),
        ({"leeway": float("nan")}, "leeway", "at least 0"),
        ({"leeway": "10"}, "leeway", "at least 0"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any], field: str, problem: str) -> None:
    """The error names the option and what is wrong with it, and no part of a secret."""
    with pytest.raises(InvalidInput) as caught:
        JwtVerifier(**options)
    assert caught.value.field == field
    assert problem in str(caught.value)
    assert SECRET not in str(caught.value)


# --- JWKS ---


def test_a_jwks_key_is_found_by_its_id() -> None:
    """Each key of the document verifies tokens with its id, and with none; another's signature is refused."""
    verifier = JwtVerifier()
    assert verifier.replace_jwks({"keys": [public_jwk("RS256", kid="r"), public_jwk("ES256", kid="e")]}) == 2
    assert verifier.usable_keys == 2
    for alg, kid in (("RS256", "r"), ("PS512", "r"), ("ES256", "e")):
        assert verifier.verify(forge({"alg": alg, "kid": kid}, CLAIMS, key_for(alg)), NOW).subject == "alice"
        assert verifier.verify(forge({"alg": alg}, CLAIMS, key_for(alg)), NOW).subject == "alice"
        assert "signature" in refuses(forge({"alg": alg, "kid": kid}, CLAIMS, key_for(alg))[:-4] + "AAAA", verifier)


def test_an_unknown_key_id_says_so() -> None:
    """A `kid` no key has raises `UnknownKey`, so that the keys can be read again, even for a new kind of key."""
    verifier = JwtVerifier()
    verifier.replace_jwks({"keys": [public_jwk("RS256", kid="old")]})
    for alg in ("RS256", "ES256"):
        with pytest.raises(UnknownKey) as caught:
            verifier.verify(forge({"alg": alg, "kid": "new"}, CLAIMS, key_for(alg)), NOW, auth_method="cookie")
        assert (caught.value.status, caught.value.code, caught.value.auth_method) == (
            401,
            "credential_invalid",
            "cookie",
        )


def test_no_document_could_bring_a_secret() -> None:
    """An unknown `kid` of an HMAC token, or of a key of another kind, is no reason to read the keys again."""
    verifier = JwtVerifier()
    verifier.replace_jwks({"keys": [public_jwk("RS256", kid="r")]})
    for header in ({"alg": "HS256", "kid": "new"}, {"alg": "ES256", "kid": "r"}):
        with pytest.raises(CredentialInvalid) as caught:
            verifier.verify(forge(header, CLAIMS, key_for(header["alg"])), NOW)
        assert not isinstance(caught.value, UnknownKey)


def test_a_named_key_is_not_tried_under_another_name() -> None:
    """A key its issuer named verifies no token that asks for another; one without a name does."""
    token = forge({"alg": "RS256", "kid": "new"}, CLAIMS, rsa_key())
    named, unnamed = JwtVerifier(), JwtVerifier()
    named.replace_jwks({"keys": [public_jwk("RS256", kid="old")]})
    unnamed.replace_jwks({"keys": [public_jwk("RS256")]})
    with pytest.raises(UnknownKey):
        named.verify(token, NOW)
    assert unnamed.verify(token, NOW).subject == "alice"
    assert unnamed.verify(forge({"alg": "RS256", "kid": rsa_key().thumbprint()}, CLAIMS, rsa_key()), NOW)


def test_a_new_document_replaces_the_old_one() -> None:
    """After a rotation tokens of the old key are unknown, of the new one good; configured keys stay."""
    verifier = JwtVerifier(secrets=[SECRET])
    old = forge({"alg": "RS256", "kid": "1"}, CLAIMS, rsa_key(1))
    new = forge({"alg": "RS256", "kid": "2"}, CLAIMS, rsa_key(2))
    verifier.replace_jwks({"keys": [{**rsa_key(1).as_dict(private=False), "kid": "1"}]})
    assert verifier.verify(old, NOW).subject == "alice"
    verifier.replace_jwks({"keys": [{**rsa_key(2).as_dict(private=False), "kid": "2"}]})
    assert verifier.verify(new, NOW).subject == "alice"
    with pytest.raises(UnknownKey):
        verifier.verify(old, NOW)
    assert verifier.replace_jwks({"keys": []}) == 0
    with pytest.raises(UnknownKey):
        verifier.verify(new, NOW)
    assert verifier.verify(hs256(), NOW).subject == "alice"


def _weak() -> dict[str, Any]:
    number = WEAK_RSA.public_numbers().n
    return {"kty": "RSA", "n": segment(number.to_bytes(128, "big")), "e": "AQAB"}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: {"kty": "oct", "k": segment(SECRET)}, "symmetric"),
        (_weak, "1024 bits"),
        (lambda: public_jwk("RS256", use="enc"), "verifying"),
        (lambda: public_jwk("RS256", use=None), "verifying"),
        (lambda: public_jwk("RS256", key_ops=["sign"]), "verifying"),
        (lambda: public_jwk("RS256", key_ops="verify"), "verifying"),
        (lambda: public_jwk("RS256", kid=7), "kid"),
        (lambda: public_jwk("RS256", alg="RSA-OAEP"), "no algorithm"),
        (lambda: public_jwk("RS256", alg="HS256"), "no algorithm"),
        (lambda: {"kty": "AKP", "pub": "AA"}, "unknown kty"),
        (lambda: {"kty": ["RSA"]}, "unknown kty"),
        (dict, "unknown kty"),
        (lambda: 7, "unknown kty"),
        (lambda: {"kty": "RSA", "n": 7, "e": "AQAB"}, "keys[0]"),
        (lambda: {"kty": "RSA", "e": "AQAB"}, "keys[0]"),
        (lambda: {"kty": "RSA", "n": "!", "e": "AQAB"}, "keys[0]"),
        (lambda: public_jwk("ES256", crv="P-999"), "unknown crv"),
        (lambda: public_jwk("ES256", x="AAAA"), "keys[0]"),
        (lambda: jwk.OKPKey.generate_key("X25519").as_dict(private=False), "X25519"),
        (lambda: jwk.OKPKey.generate_key("Ed448").as_dict(private=False), "Ed448"),
    ],
)
def test_a_jwks_key_that_must_not_verify_is_skipped(make: Callable[[], Any], reason: str) -> None:
    """Symmetric, weak, foreign and broken keys are left out with a reason; the good one beside them works."""
    verifier = JwtVerifier()
    assert verifier.replace_jwks({"keys": [make(), public_jwk("Ed25519", use="sig", key_ops=["verify"], kid="g")]}) == 1
    (skipped,) = verifier.jwks_skipped
    assert reason in skipped
    assert verifier.verify(forge({"alg": "EdDSA", "kid": "g"}, CLAIMS, key_for("Ed25519")), NOW).subject == "alice"


def test_a_symmetric_jwks_key_verifies_nothing() -> None:
    """A secret somebody published signs no tokens."""
    verifier = JwtVerifier()
    verifier.replace_jwks({"keys": [{"kty": "oct", "k": segment(SECRET), "kid": "k"}]})
    assert "no key for HS256" in refuses(hs256(kid="k"), verifier)


def test_a_jwks_key_does_only_what_its_alg_says() -> None:
    """The `alg` of a key narrows it, and so does the allow-list."""
    verifier = JwtVerifier()
    verifier.replace_jwks({"keys": [public_jwk("RS256", alg="RS256")]})
    assert "no key" in refuses(forge({"alg": "RS512"}, CLAIMS, rsa_key()), verifier)
    narrow = JwtVerifier(algorithms=["ES256"])
    assert narrow.replace_jwks({"keys": [public_jwk("RS256")]}) == 0


def test_private_members_of_a_jwks_are_not_read() -> None:
    """A document that leaks its private key still yields only the public one."""
    verifier = JwtVerifier()
    assert verifier.replace_jwks({"keys": [{**rsa_key().as_dict(private=True), "x5c": 7}]}) == 1
    assert verifier.verify(forge({"alg": "RS256"}, CLAIMS, rsa_key()), NOW).subject == "alice"


@pytest.mark.parametrize("document", [None, [], {}, {"keys": None}, {"keys": {}}, {"keys": [{}] * (MAX_JWKS_KEYS + 1)}])
def test_what_is_no_jwks_document_leaves_the_keys_alone(document: Any) -> None:
    """An error page in the place of the document, or an endless one, is refused and changes nothing."""
    verifier = JwtVerifier()
    verifier.replace_jwks({"keys": [public_jwk("Ed25519", kid="1")]})
    with pytest.raises(InvalidInput):
        verifier.replace_jwks(document)
    assert verifier.verify(forge({"alg": "Ed25519", "kid": "1"}, CLAIMS, key_for("Ed25519")), NOW).subject == "alice"


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner)
)
some_key = st.fixed_dictionaries(
    {"kty": st.sampled_from(["RSA", "EC", "OKP"])},
    optional={
        **{name: st.text("AQgw_-09", max_size=80) | anything for name in ("n", "e", "x", "y")},
        "crv": st.sampled_from(["P-256", "P-521", "secp256k1", "Ed25519", "X25519", ""]) | anything,
        **dict.fromkeys(("kid", "use", "key_ops", "alg"), anything),
    },
)


@given(st.lists(some_key | anything, max_size=4))
def test_no_jwks_key_breaks_the_verifier(keys: list[Any]) -> None:
    """Whatever stands in the list, keys are counted or skipped and nothing is raised."""
    verifier = JwtVerifier()
    assert verifier.replace_jwks({"keys": keys}) + len(verifier.jwks_skipped) == len(keys)


@given(st.dictionaries(st.sampled_from(["sub", "exp", "nbf", "iat", "iss", "aud", "jti", "sseal"]), anything))
def test_no_signed_claims_break_the_verifier(claims: dict[str, Any]) -> None:
    """Whatever was signed, the answer is an identity or a refusal."""
    with suppress(CredentialInvalid):
        VERIFIER.verify(hs256({**CLAIMS, **claims}), NOW)


@given(st.text(max_size=60) | st.text("abc.=_-", max_size=30))
def test_no_text_breaks_the_verifier(token: str) -> None:
    """Whatever stands in the place of a token is refused."""
    refuses(token)
    refuses(f"{segment({'alg': 'HS256'})}.{token}")
