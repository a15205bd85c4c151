"""Bearer tokens: configured keys, keys from an address, and the way from one to the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from joserfc import jwk, jwt

from jwks_server import JwksServer
from sseal.auth.jwt import JwtVerifier, UnknownKey, sign
from sseal.errors import CredentialExpired, CredentialInvalid, InvalidInput, Unavailable
from sseal.identity_sources.bearer import Bearer
from sseal.identity_sources.jwks import JwksSource
from sseal.testing import ManualClock

NOW = 1_700_000_000.0
SECRET = "a secret of more than thirty-two bytes"
CLAIMS = {"sub": "alice", "exp": NOW + 60}
KEYS = [jwk.OKPKey.generate_key("Ed25519") for _ in range(3)]


def document(number: int) -> dict[str, Any]:
    return {"keys": [{**KEYS[number].as_dict(private=False), "kid": str(number)}]}


def token(number: int, **claims: Any) -> str:
    header = {"alg": "Ed25519", "kid": str(number)}
    return jwt.encode(header, {**CLAIMS, **claims}, KEYS[number], ["Ed25519"])


@pytest.fixture
async def server() -> AsyncIterator[JwksServer]:
    async with JwksServer() as running:
        running.serve(document(0))
        yield running


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(wall=NOW)


@pytest.fixture
async def bearer(server: JwksServer, clock: ManualClock) -> AsyncIterator[Bearer]:
    verifier = JwtVerifier(secrets=[SECRET])
    source = JwksSource(server.url, verifier, clock)
    yield Bearer(verifier, source)
    await source.close()


def test_a_bearer_way_without_any_key_is_refused() -> None:
    """Nobody could ever come in, so the missing setting is named at once."""
    with pytest.raises(InvalidInput, match="JWKS URL"):
        Bearer(JwtVerifier())


async def test_configured_keys_need_no_address() -> None:
    """With configured keys alone tokens are good, expired or bad, and an unknown key is just bad."""
    bearer = Bearer(JwtVerifier(secrets=[SECRET], public_keys=[KEYS[0].as_pem(private=False).decode()]))
    identity = await bearer.verify(sign(CLAIMS, SECRET), NOW, auth_method="cookie")
    assert (identity.subject, identity.auth_method) == ("alice", "cookie")
    with pytest.raises(CredentialExpired):
        await bearer.verify(sign({**CLAIMS, "exp": NOW - 60}, SECRET), NOW)
    with pytest.raises(UnknownKey) as caught:
        await bearer.verify(token(1), NOW)
    assert caught.value.auth_method == "bearer"


async def test_the_first_token_loads_the_keys(server: JwksServer, bearer: Bearer) -> None:
    """Nobody has to start anything: the first token that needs the keys has them read."""
    assert (await bearer.verify(token(0), NOW, auth_method="query")).auth_method == "query"
    assert (await bearer.verify(token(0), NOW)).auth_method == "bearer"
    assert len(server.requests) == 1


async def test_a_token_of_a_configured_key_does_not_wait(server: JwksServer, bearer: Bearer) -> None:
    """What the configured keys verify, or find expired, is decided while the address is silent."""
    server.hold.clear()
    assert (await bearer.verify(sign(CLAIMS, SECRET), NOW)).subject == "alice"
    with pytest.raises(CredentialExpired):
        await bearer.verify(sign({**CLAIMS, "exp": NOW - 60}, SECRET), NOW)
    assert server.requests == []


async def test_a_rotated_key_is_found(server: JwksServer, bearer: Bearer, clock: ManualClock) -> None:
    """A token of a key that is newer than the document has it read again and is good."""
    await bearer.verify(token(0), NOW)
    server.serve(document(1))
    clock.advance(10)
    assert (await bearer.verify(token(1), NOW, auth_method="cookie")).auth_method == "cookie"
    assert len(server.requests) == 2


async def test_invented_key_ids_cost_one_request(server: JwksServer, bearer: Bearer, clock: ManualClock) -> None:
    """Within the pause unknown keys are refused without a request, after it one is made."""
    await bearer.verify(token(0), NOW)
    for requests in (1, 2):
        for _ in range(20):
            with pytest.raises(UnknownKey):
                await bearer.verify(token(2), NOW)
        assert len(server.requests) == requests
        clock.advance(10)


async def test_a_bad_signature_is_no_reason_to_ask(server: JwksServer, bearer: Bearer, clock: ManualClock) -> None:
    """Only an unknown key has the document read; expired, forged and malformed tokens do not."""
    await bearer.verify(token(0), NOW)
    clock.advance(10)
    forged = jwt.encode({"alg": "Ed25519", "kid": "0"}, CLAIMS, KEYS[1], ["Ed25519"])
    for bad in (forged, token(0, exp=NOW - 60), "x", sign(CLAIMS, "z" * 32, kid="new")):
        with pytest.raises(CredentialInvalid):
            await bearer.verify(bad, NOW)
    assert len(server.requests) == 1


async def test_missing_keys_are_never_401(server: JwksServer, bearer: Bearer, clock: ManualClock) -> None:
    """Until the keys could be read a token is neither good nor bad; then it is one of both."""
    server.serve({}, status="503 Service Unavailable")
    for _ in range(3):
        with pytest.raises(Unavailable):
            await bearer.verify(token(0), NOW)
    server.serve(document(0))
    clock.advance(10)
    assert (await bearer.verify(token(0), NOW)).subject == "alice"
    with pytest.raises(CredentialInvalid):
        await bearer.verify("x", NOW)


async def test_a_failing_address_keeps_those_who_are_in(server: JwksServer, bearer: Bearer, clock: ManualClock) -> None:
    """Once keys were read, an issuer that is down refuses new keys and nobody else."""
    await bearer.verify(token(0), NOW)
    server.serve({}, status="500 Internal Server Error")
    clock.advance(10)
    with pytest.raises(UnknownKey):
        await bearer.verify(token(1), NOW)
    assert (await bearer.verify(token(0), NOW)).subject == "alice"
