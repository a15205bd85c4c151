"""Keys from a JWKS address: read over real sockets, bounded, cached and kept."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from joserfc import jwk, jwt

from jwks_server import JwksServer
from sseal.auth.jwt import JwtVerifier, UnknownKey
from sseal.errors import InvalidInput, Unavailable
from sseal.identity_sources.jwks import MAX_DOCUMENT, JwksSource
from sseal.testing import ManualClock

NOW = 1_700_000_000.0
KEYS = [jwk.OKPKey.generate_key("Ed25519") for _ in range(2)]


def document(*numbers: int) -> dict[str, Any]:
    return {"keys": [{**KEYS[number].as_dict(private=False), "kid": str(number)} for number in numbers]}


def token(number: int) -> str:
    claims = {"sub": "alice", "exp": NOW + 60}
    return jwt.encode({"alg": "Ed25519", "kid": str(number)}, claims, KEYS[number], ["Ed25519"])


def knows(verifier: JwtVerifier, number: int) -> bool:
    try:
        return verifier.verify(token(number), NOW).subject == "alice"
    except UnknownKey:
        return False


async def until(condition: Callable[[], bool], time_unit: float) -> None:
    async with asyncio.timeout(100 * time_unit):
        while not condition():
            await asyncio.sleep(time_unit / 100)


@pytest.fixture
async def server() -> AsyncIterator[JwksServer]:
    async with JwksServer() as running:
        yield running


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(wall=NOW)


@pytest.fixture
def verifier() -> JwtVerifier:
    return JwtVerifier()


@pytest.fixture
async def source(server: JwksServer, verifier: JwtVerifier, clock: ManualClock) -> AsyncIterator[JwksSource]:
    running = JwksSource(server.url, verifier, clock)
    yield running
    await running.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example/jwks.json",
        "http://127.0.0.1.id.example/",
        "http://localhost.id.example/",
        "http://10.0.0.1/jwks.json",
        "http://0.0.0.0/jwks.json",
        "https://name:password@id.example/jwks.json",
        "ftp://localhost/jwks.json",
        "file:///etc/passwd",
        "localhost/jwks.json",
        "https:///jwks.json",
        "https://id.example:port/",
        "https://id.example/\0",
        "",
    ],
)
def test_an_address_that_is_not_https_is_refused(url: str, verifier: JwtVerifier, clock: ManualClock) -> None:
    """Whoever can answer a plain http request in the issuer's place could sign for anybody."""
    with pytest.raises(InvalidInput) as caught:
        JwksSource(url, verifier, clock)
    assert caught.value.field == "jwks_url"


@pytest.mark.parametrize(
    "url", ["https://id.example/jwks.json", "http://localhost:8080/", "http://127.9.9.9/", "http://[::1]/"]
)
def test_https_and_loopback_are_fine(url: str, verifier: JwtVerifier, clock: ManualClock) -> None:
    """Plain http is allowed where no packet leaves the machine."""
    assert not JwksSource(url, verifier, clock).loaded


@pytest.mark.parametrize("name", ["refresh_every", "min_refresh", "timeout"])
def test_a_time_that_is_not_positive_is_refused(name: str, verifier: JwtVerifier, clock: ManualClock) -> None:
    """A period of zero would read without end."""
    for number in (0.0, -1.0, float("nan")):
        option: dict[str, Any] = {name: number}
        with pytest.raises(InvalidInput) as caught:
            JwksSource("https://id.example/", verifier, clock, **option)
        assert caught.value.field == name


async def test_load_reads_the_keys_once(server: JwksServer, source: JwksSource, verifier: JwtVerifier) -> None:
    """The first use reads the document, unpacked and without a cookie; later ones find it there."""
    server.serve(document(0))
    await source.load()
    await source.load()
    assert source.loaded
    assert knows(verifier, 0)
    (request,) = server.requests
    assert request.startswith("GET /jwks.json HTTP/1.1\r\n")
    assert "accept-encoding: identity" in request.lower()


async def test_everybody_waits_for_the_same_read(server: JwksServer, source: JwksSource, time_unit: float) -> None:
    """A hundred callers at once are one request; one who gives up does not take it from the others."""
    server.serve(document(0))
    server.hold.clear()
    callers = [asyncio.create_task(source.load()) for _ in range(100)]
    await until(lambda: bool(server.requests), time_unit)
    callers[0].cancel()
    server.hold.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [None] * 99
    assert len(server.requests) == 1


async def test_a_flood_of_unknown_keys_is_one_request(
    server: JwksServer, source: JwksSource, verifier: JwtVerifier, clock: ManualClock
) -> None:
    """Reads asked for by tokens are throttled, and after the pause a rotated key is found."""
    server.serve(document(0))
    await source.load()
    server.serve(document(1))
    clock.advance(9.9)
    assert [await source.refresh() for _ in range(50)] == [False] * 50
    assert len(server.requests) == 1
    clock.advance(0.1)
    assert await source.refresh()
    assert len(server.requests) == 2
    assert (knows(verifier, 0), knows(verifier, 1)) == (False, True)
    assert not await source.refresh()
    assert await source.refresh(force=True)


async def test_keys_are_read_again_in_the_background(
    server: JwksServer, verifier: JwtVerifier, clock: ManualClock, time_unit: float
) -> None:
    """A rotation is seen although nobody asks, and `start` called twice reads no more than once."""
    server.serve(document(0))
    source = JwksSource(server.url, verifier, clock, refresh_every=time_unit / 5)
    await source.start()
    await source.start()
    try:
        await until(lambda: knows(verifier, 0), time_unit)
        server.serve(document(0, 1))
        await until(lambda: knows(verifier, 1), time_unit)
    finally:
        await source.close()
    seen = len(server.requests)
    await asyncio.sleep(time_unit)
    assert len(server.requests) == seen


async def test_the_background_tries_again_soon_after_a_failure(
    server: JwksServer, verifier: JwtVerifier, clock: ManualClock, time_unit: float
) -> None:
    """A hub that starts before its issuer gets the keys as soon as they are there."""
    server.serve({}, status="503 Service Unavailable")
    source = JwksSource(server.url, verifier, clock, refresh_every=1e6, min_refresh=time_unit / 5)
    await source.start()
    try:
        await until(lambda: len(server.requests) > 1, time_unit)
        server.serve(document(0))
        await until(lambda: knows(verifier, 0), time_unit)
    finally:
        await source.close()


BAD_ANSWERS: dict[str, tuple[dict[str, Any], str]] = {
    "redirect": (
        {"document": b"", "status": "302 Found", "headers": {"Location": "http://127.0.0.1:1/x"}},
        "never followed",
    ),
    "moved": ({"document": b"", "status": "308 Permanent Redirect", "headers": {"Location": "/new"}}, "never followed"),
    "error": ({"document": document(1), "status": "500 Internal Server Error"}, "answered 500"),
    "oversized": ({"document": {**document(1), "padding": "x" * MAX_DOCUMENT}}, "larger than"),
    "compressed": (
        {"document": gzip.compress(json.dumps(document(1)).encode()), "headers": {"Content-Encoding": "gzip"}},
        "compressed",
    ),
    "no JSON": ({"document": b"<html>"}, "Expecting value"),
    "not UTF-8": ({"document": b'{"keys": ["\xff"]}'}, "decode"),
    "nested": ({"document": b"[" * 100_000}, "recursion"),
    "no JWKS": ({"document": {"error": "x"}}, "keys"),
    "too many keys": ({"document": {"keys": document(1)["keys"] * 65}}, "65"),
    "cut short": ({"document": document(1), "headers": {"Content-Length": "99999"}}, ""),
}


@pytest.mark.parametrize("kind", BAD_ANSWERS)
async def test_a_bad_answer_changes_nothing(
    kind: str, server: JwksServer, source: JwksSource, verifier: JwtVerifier, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys that were read stay good when a later answer is not, and a warning says why."""
    options, reason = BAD_ANSWERS[kind]
    server.serve(document(0))
    await source.load()
    server.serve(**options)
    assert not await source.refresh(force=True)
    assert (knows(verifier, 0), knows(verifier, 1)) == (True, False)
    assert len(server.requests) == 2
    (record,) = [record for record in caplog.records if record.name == "sseal.jwks"]
    assert record.levelno == logging.WARNING
    assert reason in record.getMessage()
    assert "stay in use" in record.getMessage()


@pytest.mark.parametrize("kind", BAD_ANSWERS)
async def test_without_keys_the_answer_is_not_now(
    kind: str, server: JwksServer, source: JwksSource, caplog: pytest.LogCaptureFixture
) -> None:
    """While keys could never be read, `load` raises a 503 that says when to come back."""
    server.serve(**BAD_ANSWERS[kind][0])
    with pytest.raises(Unavailable) as caught:
        await source.load()
    assert (caught.value.code, caught.value.retry_after) == ("keys_unavailable", 10.0)
    assert "there are no keys yet" in caplog.text
    assert not source.loaded


async def test_a_slow_answer_ends_in_time(
    server: JwksServer, verifier: JwtVerifier, clock: ManualClock, time_unit: float, caplog: pytest.LogCaptureFixture
) -> None:
    """The time limit holds for the whole answer, and nobody who listens refuses as clearly as one who is silent."""
    server.hold.clear()
    # The client's own limits are off: what is measured is ours.
    async with httpx2.AsyncClient(timeout=None, trust_env=False) as client:
        source = JwksSource(server.url, verifier, clock, timeout=time_unit, client=client)
        assert not await source.refresh()
        assert "no complete answer" in caplog.text
        await source.close()
        assert not client.is_closed


async def test_nobody_listening_is_a_failure_like_any_other(verifier: JwtVerifier, clock: ManualClock) -> None:
    """A refused connection is a warning and False."""
    async with JwksServer() as gone:
        url = gone.url
    source = JwksSource(url, verifier, clock)
    assert not await source.refresh()
    await source.close()


async def test_a_document_without_usable_keys_is_obeyed(
    server: JwksServer, source: JwksSource, verifier: JwtVerifier, caplog: pytest.LogCaptureFixture
) -> None:
    """An issuer that withdraws its keys is believed, and a symmetric key in public is no key; the log says so."""
    caplog.set_level(logging.INFO)
    server.serve(document(0))
    await source.load()
    server.serve({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "0"}]})
    assert await source.refresh(force=True)
    assert not knows(verifier, 0)
    assert "symmetric" in caplog.text
    assert "no key that can be used" in caplog.text


async def test_close_ends_a_read_under_way(server: JwksServer, source: JwksSource, time_unit: float) -> None:
    """`close` does not wait for an issuer that is silent, may be called twice, and nothing is read after it."""
    server.hold.clear()
    await source.start()
    await until(lambda: bool(server.requests), time_unit)
    waiting = asyncio.create_task(source.refresh())
    await asyncio.sleep(0)
    await source.close()
    await source.close()
    assert not await waiting
    await source.start()
    assert not await source.refresh(force=True)
    assert len(server.requests) == 1
