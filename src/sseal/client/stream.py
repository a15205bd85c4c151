"""The shell around `ReaderSession`: connections by httpx2, waiting, and an iterator of events.

All of it happens in one task at a time, started by whoever iterates and left running when that is cancelled. So
``asyncio.timeout`` around the next event costs no connection and loses nothing.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Final, Self

import httpx2

from ..errors import InvalidInput
from ..wire import DEFAULT_MAX_EVENT, Event
from . import calls
from .backoff import Backoff
from .calls import HubAddress, Token
from .problem import Answer
from .session import (
    IDLE_TIMEOUT,
    Action,
    Control,
    Deliver,
    Gap,
    GiveUp,
    ReaderSession,
    Reconnect,
    State,
    StreamClosed,
    StreamIdentity,
)

__all__ = ["EventStream", "OnGap", "connect"]

OnGap = Callable[[Gap], Awaitable[None] | None]
"""Called with every gap, in order with the events around it; may be async."""

MAX_GAPS: Final = 100
"""Gaps that are remembered; who must act on each uses ``on_gap``."""
CONNECT_TIMEOUT: Final = 10.0
"""Seconds to reach a host; a connection that takes longer is better tried again."""

logger = logging.getLogger("sseal.client")


def connect(
    url: str,
    *,
    topics: Iterable[str] = (),
    token: Token | None = None,
    ticket: bool = False,
    headers: Mapping[str, str] | None = None,
    last_event_id: str | None = None,
    http: httpx2.AsyncClient | None = None,
    on_gap: OnGap | None = None,
    idle_timeout: float = IDLE_TIMEOUT,
    max_event: int = DEFAULT_MAX_EVENT,
    origin: str | None = None,
    backoff: Backoff | None = None,
    insecure: bool = False,
) -> EventStream:
    """Return the event stream of a hub, to be opened with ``async with`` and read with ``async for``.

    It reconnects and resumes by itself for as long as the hub lets it. Entering waits until the hub has accepted the
    stream, so what is published after that is not missed.

    :param url: base address of the hub, such as ``https://example.com/sse``; ``/events`` is appended.
    :param topics: what to read; none means the subject's own ``user/<sub>``.
    :param token: bearer token, or an async callable that returns one; called at first and whenever a credential was
        refused or has expired. What it raises ends the stream and is raised to the reader.
    :param ticket: exchange the token for a one-time ticket first, and read with that and with resume tokens.
    :param headers: further headers of every request.
    :param last_event_id: resume after this id; None for the head of the log.
    :param http: the client to use, which stays open; without one, a client of its own.
    :param on_gap: called with each `Gap` before the events after it.
    :param idle_timeout: seconds of silence after which the connection is given up and made anew; also the time a
        hub has to answer. At least three heartbeats of the hub.
    :param max_event: bytes in the data of one event.
    :param origin: value of the Origin header, for a hub that insists on one.
    :param backoff: the waits after failures.
    :param insecure: allow a token over plain http to another machine.
    :raises InvalidInput: an argument is malformed, or a token would travel in the clear.
    """
    fixed = httpx2.Headers(dict(headers or {}))
    if ticket and token is None:
        raise InvalidInput("ticket", "is minted with a token; give one")
    if not idle_timeout > 0:
        raise InvalidInput("idle_timeout", f"must be a positive number of seconds, is {idle_timeout!r}")
    if isinstance(token, str):
        calls.bearer(token)
    if origin is not None:
        fixed["Origin"] = origin
    secret = token is not None or "authorization" in fixed or "cookie" in fixed
    return EventStream(
        ReaderSession(last_event_id=last_event_id or "", max_event=max_event, backoff=backoff),
        _RequestBuilder(
            HubAddress(url, secret=secret, insecure=insecure), calls.check_topics(topics), token, ticket, dict(fixed)
        ),
        http=http,
        on_gap=on_gap,
        idle_timeout=idle_timeout,
    )


class _RequestBuilder:
    """Builds the requests for the stream: address, topics, and a credential that is renewed on demand."""

    def __init__(
        self, address: HubAddress, topics: tuple[str, ...], token: Token | None, ticket: bool, headers: dict[str, str]
    ) -> None:
        self.address = address
        self._topics = topics
        self._token = token
        self._by_ticket = ticket  # whether to get one for each connection
        self._headers = headers
        self._bearer: dict[str, str] | None = None  # the header of the token; None when a token is due
        self._ticket: str | None = None  # that was minted and not used; None when one is due

    async def prepare(self, *, renew: bool) -> None:
        """Get a bearer token, where one is due."""
        if renew:
            self._bearer = self._ticket = None
        if self._token is not None and self._bearer is None:
            token = self._token if isinstance(self._token, str) else await self._token()
            self._bearer = calls.bearer(token)

    async def mint(self, http: httpx2.AsyncClient) -> Answer | None:
        """Get a ticket, where one is due; return the answer if the hub gave none."""
        if not self._by_ticket or self._ticket is not None:
            return None
        minted = await calls.mint(http, self.address, {**self._headers, **(self._bearer or {})}, self._topics)
        if isinstance(minted, Answer):
            return minted
        self._ticket = minted
        return None

    def request(self, http: httpx2.AsyncClient, headers: tuple[tuple[bytes, bytes], ...]) -> httpx2.Request:
        """Build the request for the stream."""
        query = [("topic", topic) for topic in self._topics]
        fields = httpx2.Headers(self._headers)
        fields["Accept-Encoding"] = "identity"  # compression holds events back
        if self._by_ticket:
            query.append(("ticket", self._ticket or ""))
        else:
            fields.update(self._bearer or {})
        fields.update(httpx2.Headers(list(headers)))
        timeout = httpx2.Timeout(CONNECT_TIMEOUT, read=None)  # silence is the session's affair
        url = self.address.join("/events", query)
        return calls.private(http.build_request("GET", url, headers=fields, timeout=timeout))

    def renewable(self, *, minting: bool) -> bool:
        """Tell whether there is another credential to try after a 401."""
        return callable(self._token) or (self._by_ticket and not minting)


class EventStream:
    """The events of a hub, over as many connections as it takes. Made by `connect`.

    :ivar identity: what the last ``auth`` said; None before the first, which is read with the first event.
    :ivar last_event_id: the id to resume after, as far as events were handed out; on ticket streams it holds a
        resume token, which is a credential.
    :ivar gaps: the last hundred gaps, oldest first.
    """

    def __init__(
        self,
        session: ReaderSession,
        requests: _RequestBuilder,
        *,
        http: httpx2.AsyncClient | None,
        on_gap: OnGap | None,
        idle_timeout: float,
    ) -> None:
        self.identity: StreamIdentity | None = None
        self.last_event_id = session.last_event_id
        self.gaps: deque[Gap] = deque(maxlen=MAX_GAPS)
        self._session = session
        self._requests = requests
        self._own = http is None  # the client is ours to close
        self._http = http
        self._on_gap = on_gap
        self._idle_timeout = idle_timeout
        self._pending: deque[Action] = deque()  # what the session has asked for and nobody has taken
        self._response: httpx2.Response | None = None  # of the stream that is open
        self._chunks: AsyncGenerator[bytes, None] | None = None  # its body; None while there is none
        self._next = session.first()  # how to connect the next time
        self._due = 0.0  # and when, in the loop's time
        self._task: asyncio.Task[None] | None = None  # the step that goes on although its reader was cancelled
        self._error: Exception | None = None  # what it has ended with
        self._reading = False  # a task is in `__anext__`
        self._entered = False

    async def __aenter__(self) -> Self:
        """Connect.

        :raises SsealError: the hub refuses for good: `CredentialInvalid`, `Forbidden` and so on, or `StreamClosed`.
        """
        if self._entered:
            raise RuntimeError("a stream is entered once")
        self._entered = True
        if self._http is None:
            self._http = httpx2.AsyncClient()
        try:
            while self._session.state in (State.WAITING, State.CONNECTING):
                await self._progress()
            self._raise_end()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.aclose()

    async def aclose(self) -> None:
        """End the stream and release what it holds; may be called twice."""
        self._session.close()
        if self._error is None:
            self._error = StreamClosed("closed")
        self._pending.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.exception()  # seen, so that asyncio does not complain
            self._task = None
        await self._hang_up()
        if self._own and self._http is not None:
            await self._http.aclose()

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> Event:
        """Return the next event of the application.

        :raises SsealError: the hub refuses for good, or an event is over ``max_event``.
        :raises StreamClosed: the hub ended the stream and does not want its reader back, or it was closed here.
        """
        if self._reading:
            raise RuntimeError("two tasks read one stream; open one each")
        self._reading = True
        try:
            while True:
                while self._pending:
                    event = await self._take(self._pending.popleft())
                    if event is not None:
                        return event
                if self._error is not None:
                    raise self._error
                await self._progress()
        finally:
            self._reading = False

    async def _take(self, action: Action) -> Event | None:
        """Do one action the session asked for; return the event if it is one."""
        match action:
            case Deliver(event):
                self.last_event_id = event.last_event_id
                return event
            case Control(told, last_event_id):
                self.last_event_id = last_event_id
                if isinstance(told, StreamIdentity):
                    self.identity = told
                elif isinstance(told, Gap):
                    self.gaps.append(told)
                    await self._report(told)
            case GiveUp(error):
                self._error = error
            case Reconnect():
                pass  # done as soon as it was asked for
        return None

    async def _report(self, gap: Gap) -> None:
        if self._on_gap is not None:
            result = self._on_gap(gap)
            if inspect.isawaitable(result):
                await result

    def _raise_end(self) -> None:
        """Raise what the session ended with before there was any stream."""
        for action in self._pending:
            if isinstance(action, GiveUp):
                self._error = action.error
                raise action.error

    async def _progress(self) -> None:
        """Wait for one step; being cancelled here does not cancel the step."""
        if self._task is None:
            self._task = asyncio.create_task(self._step(), name="sseal stream")
        await asyncio.wait([self._task])
        task, self._task = self._task, None
        try:
            task.result()
        except Exception as error:
            self._session.close()
            self._error = error
            raise

    async def _step(self) -> None:
        """Read one piece of the stream, or wait and connect."""
        if self._chunks is not None:
            actions = await self._read(self._chunks)
        else:
            await asyncio.sleep(self._due - asyncio.get_running_loop().time())
            await self._requests.prepare(renew=self._next.renew)
            actions = await self._connect()
        if self._session.state is not State.OPEN:
            await self._hang_up()
        for action in actions:
            if isinstance(action, Reconnect):
                self._next = action
                self._due = asyncio.get_running_loop().time() + action.after
                logger.info("%s: %s (next try in %.1f s)", self._requests.address.name, action.why, action.after)
        self._pending.extend(actions)

    async def _read(self, chunks: AsyncGenerator[bytes, None]) -> list[Action]:
        try:
            async with asyncio.timeout(self._idle_timeout):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return self._session.lost("stream ended", _random())
        except TimeoutError:
            return self._session.lost("silence", _random())
        except httpx2.RequestError as error:
            return self._session.lost(calls.fault_of(error), _random())
        return self._session.receive(chunk, _random())

    async def _connect(self) -> list[Action]:
        self._session.connect()
        try:
            async with asyncio.timeout(self._idle_timeout):
                return await self._ask()
        except TimeoutError:
            return self._session.lost("no answer", _random())
        except (httpx2.LocalProtocolError, httpx2.UnsupportedProtocol):
            # Trying again changes nothing. The library's own text may quote the header, and so the token.
            raise InvalidInput("headers", "a header of the request, or the last id, cannot be sent") from None
        except httpx2.RequestError as error:
            return self._session.lost(calls.fault_of(error), _random())

    async def _ask(self) -> list[Action]:
        assert self._http is not None
        refused = await self._requests.mint(self._http)
        if refused is not None:
            return self._session.respond(refused, _random(), renewable=self._requests.renewable(minting=True))
        request = self._requests.request(self._http, self._next.headers)
        self._response = await self._http.send(request, stream=True, follow_redirects=False)
        answer = calls.answer_of(self._response)
        if answer.status != 200:
            answer = calls.answer_of(self._response, await calls.read_body(self._response))
        actions = self._session.respond(answer, _random(), renewable=self._requests.renewable(minting=False))
        if self._session.state is State.OPEN:
            self._chunks = self._response.aiter_bytes()
        return actions

    async def _hang_up(self) -> None:
        """Close the connection, if there is one."""
        chunks, self._chunks = self._chunks, None
        response, self._response = self._response, None
        if chunks is not None:
            await chunks.aclose()
        if response is not None:
            await response.aclose()


def _random() -> float:
    return random.random()  # noqa: S311 - spreads readers, keeps no secret
