"""Verification keys from the issuer's JWKS address: fetched, bounded, cached, refreshed before anybody waits.

The address comes from the configuration and from nowhere else; no claim or header of a token can move it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from typing import Final

import httpx2

from ..audit import Audit
from ..auth.jwt import JwtVerifier
from ..clock import Clock
from ..errors import InvalidInput, SsealError, Unavailable

__all__ = ["MAX_DOCUMENT", "JwksSource"]

MAX_DOCUMENT: Final = 256 * 1024
"""Bytes of a JWKS document: 64 RSA keys with their certificate chains fit."""

logger = logging.getLogger("sseal.jwks")


class JwksSource:
    """Keeps the JWKS keys of a verifier fresh.

    :param url: https address of the document; http only on a loopback host.
    :param verifier: whose `JwtVerifier.replace_jwks` gets the document.
    :param clock: its monotonic time throttles `refresh`.
    :param refresh_every: seconds between two reads in the background. Keys that were read once are kept until a
        later document replaces them: an issuer that is down for an hour signs nobody out.
    :param min_refresh: seconds between two reads that tokens with an unknown key may cause, and between two
        attempts in the background after one failed.
    :param timeout: seconds for one read, all of it.
    :param max_bytes: size of the document, as sent.
    :param client: HTTP client to use instead of one of its own; it is not closed here.
    :param audit: takes the reads that failed.
    :raises InvalidInput: the address is not https or a number makes no sense.
    """

    def __init__(
        self,
        url: str,
        verifier: JwtVerifier,
        clock: Clock,
        *,
        refresh_every: float = 300.0,
        min_refresh: float = 10.0,
        timeout: float = 5.0,
        max_bytes: int = MAX_DOCUMENT,
        client: httpx2.AsyncClient | None = None,
        audit: Audit | None = None,
    ) -> None:
        for name, number in (("refresh_every", refresh_every), ("min_refresh", min_refresh), ("timeout", timeout)):
            if not number > 0:
                raise InvalidInput(name, f"must be a number of seconds above 0, not {number!r}")
        self._url = _checked(url)
        self._verifier = verifier
        self._clock = clock
        self._refresh_every = refresh_every
        self._min_refresh = min_refresh
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._client = client
        self._audit = audit or Audit()
        self._own_client = client is None  # whether it is ours to close
        self._reading: asyncio.Task[bool] | None = None  # the read under way, which all who ask meanwhile share
        self._refresher: asyncio.Task[None] | None = None  # reads in the background
        self._asked_at: float | None = None  # when a token last caused a read (monotonic)
        self._loaded = False  # whether a document was ever read
        self._closed = False

    @property
    def loaded(self) -> bool:
        """Whether a document was ever read."""
        return self._loaded

    async def start(self) -> None:
        """Read the document now and again in the background; returns at once, may be called again."""
        if self._refresher is None and not self._closed:
            self._refresher = asyncio.create_task(self._refresh_forever(), name="sseal-jwks")

    async def close(self) -> None:
        """Stop reading; idempotent."""
        self._closed = True
        for task in (self._refresher, self._reading):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        self._refresher = self._reading = None
        if self._own_client and self._client is not None:
            await self._client.aclose()
            self._client = None

    async def load(self) -> None:
        """Make sure that a document was read, and that it is kept fresh from now on.

        :raises Unavailable: none could be read so far; ``retry_after`` says when the next attempt may be.
        """
        await self.start()
        if not self._loaded and not await self.refresh() and not self._loaded:
            raise Unavailable(
                "the keys to check tokens with are not there yet",
                code="keys_unavailable",
                retry_after=self._min_refresh,
            )

    async def refresh(self, *, force: bool = False) -> bool:
        """Read the document again, together with whoever asks at the same time; tell whether that succeeded.

        Without ``force`` nothing is read, and False returned, when a call read it within ``min_refresh`` seconds:
        a flood of tokens with invented key ids costs the issuer one request in that time.
        """
        if self._closed:
            return False
        if self._reading is None:
            now = self._clock.monotonic()
            if not force and self._asked_at is not None and now - self._asked_at < self._min_refresh:
                return False
            if not force:
                self._asked_at = now
            self._reading = asyncio.create_task(self._read(), name="sseal-jwks-read")
            self._reading.add_done_callback(self._on_read)
        reading = self._reading
        # Not awaited itself: the read goes on when one of those who wait for it is cancelled.
        await asyncio.wait([reading])
        return not reading.cancelled() and reading.result()

    def _on_read(self, _: asyncio.Task[bool]) -> None:
        self._reading = None

    async def _refresh_forever(self) -> None:
        while True:
            succeeded = await self.refresh(force=True)
            await asyncio.sleep(self._refresh_every if succeeded else min(self._min_refresh, self._refresh_every))

    async def _read(self) -> bool:
        """Read the document once and hand it on. A failure is a warning and leaves the keys as they are."""
        try:
            async with asyncio.timeout(self._timeout):
                body = await self._fetch()
            usable = self._verifier.replace_jwks(json.loads(body))
        except TimeoutError:
            problem = f"no complete answer within {self._timeout:g} s"
        except (httpx2.HTTPError, SsealError, ValueError, RecursionError, OSError) as error:
            problem = str(error) or type(error).__name__
        else:
            self._loaded = True
            for reason in self._verifier.jwks_skipped:
                logger.info("a key of %s is not used: %s", self._url, reason)
            if not usable:
                logger.warning("%s holds no key that can be used: no token it should verify is good", self._url)
            return True
        kept = "the keys read before stay in use" if self._loaded else "there are no keys yet"
        logger.warning("the keys at %s could not be read (%s); %s", self._url, problem, kept)
        self._audit.emit("keyset_failed", url=str(self._url), detail=problem)
        return False

    async def _fetch(self) -> bytes:
        if self._client is None:
            # A proxy from the environment would look for its own loopback, not for ours.
            self._client = httpx2.AsyncClient(timeout=self._timeout, trust_env=self._url.scheme == "https")
        # Unpacked, a small answer could be huge; so it must come as it is.
        headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
        async with self._client.stream("GET", self._url, headers=headers, follow_redirects=False) as response:
            if response.status_code != httpx2.codes.OK:
                location = response.headers.get("location")
                raise _refused(
                    f"answered {response.status_code}"
                    + (
                        f", and a redirect (to {location!r:.200}) is never followed: set that address"
                        if location
                        else ""
                    )
                )
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise _refused("answered compressed, which was not asked for")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > self._max_bytes:
                    raise _refused(f"the document is larger than {self._max_bytes} bytes")
            return bytes(body)


def _refused(problem: str) -> SsealError:
    return SsealError(problem, code="jwks")


def _checked(text: str) -> httpx2.URL:
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, TypeError) as error:
        raise InvalidInput("jwks_url", f"{text!r} is not a URL: {error}") from None
    if not url.host or url.scheme not in ("https", "http"):
        raise InvalidInput("jwks_url", f"{text!r} is not an https URL")
    if url.userinfo:
        raise InvalidInput("jwks_url", "must not hold a name or password: it is public, and it is logged")
    if url.scheme == "http" and not _loopback(url.host):
        raise InvalidInput("jwks_url", f"{text!r} must be https: whoever answers it decides who gets in")
    return url


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
