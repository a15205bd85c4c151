"""Single requests to a hub: its addresses, the credential on them, and what must never be said of either."""

from __future__ import annotations

import email.utils
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import httpx2
import msgspec

from ..auth.origin import is_loopback
from ..clock import SystemClock
from ..errors import InvalidInput, SsealError, Unavailable
from .problem import Answer, error_of

__all__ = [
    "HubAddress",
    "Token",
    "answer_of",
    "bearer",
    "check_topics",
    "fault_of",
    "mint",
    "private",
    "publish",
    "read_body",
    "retry_after",
]

Token = str | Callable[[], Awaitable[str]]
"""A bearer token, or what is awaited whenever a fresh one is needed."""

MAX_BODY: Final = 64 * 1024
"""Bytes of an answer that are read; a problem document or the ids of a batch fit."""
MAX_DELTA: Final = 9
"""Digits of Retry-After that are believed: 31 years."""

_TOKEN = re.compile(r"[\x21-\x7e]+")
_TICKET = re.compile(r"(ticket=)[^&]*")
_BARE_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9._-]+)(:[0-9]+)?(/[a-zA-Z0-9._~/-]*)?")


class HubAddress:
    """The base address of a hub, checked once.

    :param url: such as ``https://example.com`` or ``https://example.com/sse``.
    :param secret: whether a credential will be sent there.
    :param insecure: allow that over plain http to another machine.
    :raises InvalidInput: no http(s) address, one with a user, query or fragment in it, or a secret in the clear.
    """

    def __init__(self, url: str, *, secret: bool, insecure: bool = False) -> None:
        if "://" not in url:
            raise InvalidInput("url", f"has no scheme; {_suggestion(url)}")
        try:
            parsed = httpx2.URL(url)
        except (httpx2.InvalidURL, ValueError):
            raise InvalidInput("url", "is not a valid address") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise InvalidInput("url", "must be an http or https address such as https://example.com")
        if parsed.userinfo:
            raise InvalidInput("url", "holds a user or password; a credential belongs in token=")
        if parsed.query or parsed.fragment:
            raise InvalidInput("url", "must end with the path; topics and token are arguments of their own")
        if secret and parsed.scheme == "http" and not insecure and not is_loopback(parsed.host):
            raise InvalidInput(
                "url",
                f"is plain http to {parsed.host}: everybody on the way could read the token. "
                "Use https, or insecure=True on a network you trust",
            )
        self._base = parsed
        self.name = parsed.netloc.decode()
        """Host and port, for the log."""

    def join(self, path: str, query: Sequence[tuple[str, str]] = ()) -> httpx2.URL:
        """Return the address of an endpoint.

        :param path: with a leading slash.
        """
        raw = self._base.raw_path.rstrip(b"/") + path.encode()
        url = self._base.copy_with(raw_path=raw)
        return url.copy_with(params=list(query)) if query else url


def _suggestion(url: str) -> str:
    """Return what to write in place of an address without a scheme; one that may hold a secret is not repeated."""
    bare = _BARE_ADDRESS.fullmatch(url)
    if bare is None:
        return "write it like https://example.com"
    return f"did you mean {'http' if is_loopback(bare[1]) else 'https'}://{url}?"


class _PrivateUrl(httpx2.URL):
    """An address that does not show its ticket: the HTTP library logs addresses."""

    def __str__(self) -> str:
        return _TICKET.sub(r"\1[redacted]", super().__str__())


def private(request: httpx2.Request) -> httpx2.Request:
    """Make a request keep its ticket out of logs and exceptions; what is sent stays the same."""
    request.url = _PrivateUrl(request.url)
    return request


def bearer(token: str) -> dict[str, str]:
    """Return the Authorization header of a token (RFC 6750 section 2.1).

    :raises InvalidInput: the token is empty or holds what a header cannot; the text does not show it.
    """
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise InvalidInput("token", "must be a string of visible ASCII characters without spaces")
    return {"Authorization": f"Bearer {token}"}


def retry_after(text: str | None, now: float) -> float | None:
    """Return the seconds a Retry-After header asks for (RFC 9110 section 10.2.3); None without a valid one.

    :param now: Unix seconds.
    """
    text = (text or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text) if len(text) <= MAX_DELTA else None
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


async def read_body(response: httpx2.Response) -> bytes:
    """Read a body up to `MAX_BODY` and close the response; a longer one counts as empty."""
    body = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_BODY:
                return b""
    finally:
        await response.aclose()
    return bytes(body)


def answer_of(response: httpx2.Response, body: bytes = b"") -> Answer:
    """Describe a response and, if its body is one, the problem document in it."""
    return Answer(
        status=response.status_code,
        content_type=response.headers.get("content-type", ""),
        retry_after=retry_after(response.headers.get("retry-after"), SystemClock().wall()),
        problem=_object(body),
    )


async def mint(
    http: httpx2.AsyncClient, address: HubAddress, headers: Mapping[str, str], topics: Sequence[str]
) -> str | Answer:
    """Ask for a one-time ticket (``POST /auth/sse``); return it, or the answer that was none.

    :raises httpx2.RequestError: the network failed.
    :raises SsealError: code ``not_a_hub``: a success without a ticket.
    """
    body = {"topics": list(topics)} if topics else {}
    request = http.build_request("POST", address.join("/auth/sse"), json=body, headers=dict(headers))
    response = await http.send(request, stream=True, follow_redirects=False)
    content = await read_body(response)
    answer = answer_of(response, content)
    ticket = answer.problem.get("ticket")
    if answer.status == 201 and isinstance(ticket, str) and _TOKEN.fullmatch(ticket):
        return ticket
    if 200 <= answer.status <= 299:
        raise SsealError(f"{address.name} answered {answer.status} without a ticket; is this a hub?", code="not_a_hub")
    return answer


async def publish(
    url: str,
    token: Token | None,
    topic: str | Sequence[str],
    data: object,
    *,
    event: str | None = None,
    ttl: float | None = None,
    key: str | None = None,
    http: httpx2.AsyncClient | None = None,
    timeout: float = 10.0,  # noqa: ASYNC109 - the bound of one request, not of a task
    insecure: bool = False,
) -> list[str]:
    """Publish one event (``POST /events``) and return the ids it was given.

    :param url: base address of the hub; ``/events`` is appended.
    :param token: bearer token, or an async callable that returns one; None to go by the cookies of ``http``.
    :param topic: one topic, or several for one event under all of them.
    :param data: text, or anything that JSON can say.
    :param event: the event type; None for ``message``.
    :param ttl: seconds until it is no longer worth reading.
    :param key: idempotency key: repeating the call with the same one publishes once.
    :param http: the client to use; without one, a client for this call.
    :param timeout: seconds for each step of the request.
    :param insecure: allow a token over plain http to another machine.
    :raises InvalidInput: an argument the hub refuses, or a token that would travel in the clear.
    :raises SsealError: the one that matches the ``code`` and status of the refusal.
    :raises Unavailable: the hub could not be reached, or did not answer; repeat with the same ``key``.
    """
    address = HubAddress(url, secret=token is not None, insecure=insecure)
    body: dict[str, Any] = {"topic": topic} if isinstance(topic, str) else {"topics": list(topic)}
    body["data"] = data
    body |= {name: value for name, value in (("event", event), ("ttl", ttl), ("key", key)) if value is not None}
    try:
        content = msgspec.json.encode(body)
    except (TypeError, ValueError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidInput("data", f"cannot be sent as JSON: {error}") from None
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if token is not None:
        headers |= bearer(token if isinstance(token, str) else await token())
    async with AsyncExitStack() as stack:
        if http is None:
            http = await stack.enter_async_context(httpx2.AsyncClient())
        request = http.build_request("POST", address.join("/events"), content=content, headers=headers, timeout=timeout)
        try:
            response = await http.send(request, stream=True, follow_redirects=False)
            text = await read_body(response)
        except httpx2.RequestError as error:
            raise _unreachable(address, error) from None
    answer = answer_of(response, text)
    if answer.status == 201 and (ids := answer.problem.get("ids")) and isinstance(ids, list):
        return [str(position) for position in ids]
    if 200 <= answer.status <= 399:
        raise SsealError(f"{address.name} answered {answer.status} without ids; is this a hub?", code="not_a_hub")
    raise error_of(answer)


def fault_of(error: httpx2.RequestError) -> str:
    """Say in a few words what is wrong with the network, without the library's text: it may quote headers."""
    for cause in _causes(error):
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused; is `sseal serve` running there?"
        if isinstance(cause, socket.gaierror):
            return "the name of the host is not known"
    return type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and all it came from, of several attempts each."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for each in error.exceptions:
                yield from _causes(each)
        error = error.__cause__ or error.__context__


def _unreachable(address: HubAddress, error: httpx2.RequestError) -> Unavailable:
    """Say what is known after a failure of the network."""
    fault = fault_of(error)
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout):
        return Unavailable(f"{address.name} could not be reached: {fault}", code="unreachable")
    return Unavailable(
        f"no answer from {address.name} ({fault}): the outcome is unknown, repeat with the same key",
        code="outcome_unknown",
    )


def _object(body: bytes) -> dict[str, object]:
    try:
        members = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return {}
    return members if isinstance(members, dict) else {}


def check_topics(topics: Iterable[str]) -> tuple[str, ...]:
    """Return topics as a tuple.

    :raises InvalidInput: one string instead of several, of which each character would be a topic.
    """
    if isinstance(topics, str):
        raise InvalidInput("topics", f"must be a sequence of topics; write [{topics!r}]")
    return tuple(topics)
