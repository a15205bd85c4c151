"""Drives an ASGI app in process, endless streams included, with the client's side in the test's hand.

The usual in-process transports wait for the end of a response, which a stream does not have.

    async with open_stream(app, "/events?topic=news", headers={"Authorization": "Bearer ..."}) as stream:
        assert stream.status == 200
        assert (await stream.next()).type == "auth"
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from ..wire import Decoder, Event

__all__ = ["AsgiStream", "Response", "StreamEnded", "open_stream", "request"]

App = Callable[[Any, Any, Any], Awaitable[None]]
Headers = Mapping[str, str] | Iterable[tuple[str, str]]

TIMEOUT: Final = 5.0
"""Seconds to wait for anything; far more than an app in the same process needs."""
GRACE_TIMEOUT: Final = 1.0
"""Seconds an app has to return after its client has gone, before it is cancelled."""


class StreamEnded(Exception):  # noqa: N818 - an end, not a fault
    """The app ended the response, and everything it sent has been read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A complete response.

    :param headers: names in lower case; a name that stands several times has its values joined by ``", "``.
    :param raw_headers: as the app sent them.
    """

    status: int
    headers: dict[str, str]
    raw_headers: list[tuple[bytes, bytes]]
    body: bytes

    def json(self) -> Any:
        """Return the body, decoded.

        :raises ValueError: it is not JSON.
        """
        return msgspec.json.decode(self.body)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class AsgiStream:
    """One request to an app, and what has come back so far. Made by `open_stream`.

    :ivar status: the status, once the context is entered.
    :ivar headers: as in `Response`.
    :ivar received: all bytes that were read so far.
    """

    def __init__(self, app: App, scope: MutableMapping[str, Any], body: bytes = b"") -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.received = bytearray()
        self._app = app
        self._scope = scope
        self._body: bytes | None = body
        self._chunks: deque[bytes] = deque()
        self._events: deque[Event] = deque()
        self._decoder = Decoder()
        self._changed = asyncio.Event()  # something was sent, or the app has ended
        self._reading = asyncio.Event()  # the client takes what is sent
        self._reading.set()
        self._gone = asyncio.Event()
        self._complete = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether the app has ended the response or returned; what it sent before may still be unread."""
        return self._complete.is_set()

    async def next(self, timeout: float = TIMEOUT) -> Event:  # noqa: ASYNC109 - a test reads best this way
        """Return the next event, control events included.

        :param timeout: seconds to wait for it.
        :raises TimeoutError: it did not come.
        :raises StreamEnded: the app ended the stream before.
        """
        async with asyncio.timeout(timeout):
            while not self._events:
                self._feed(await self._chunk())
        return self._events.popleft()

    async def until(self, type: str, timeout: float = TIMEOUT) -> Event:  # noqa: A002, ASYNC109
        """Return the next event of a type and drop those before it; errors as in `next`."""
        async with asyncio.timeout(timeout):
            while (event := await self.next(timeout)).type != type:
                pass
        return event

    async def raw(self, timeout: float = TIMEOUT) -> bytes:  # noqa: ASYNC109
        """Return the bytes of the next ``send``; the events in them still come from `next`. Errors as there."""
        async with asyncio.timeout(timeout):
            chunk = await self._chunk()
        self._feed(chunk)
        return chunk

    async def wait_closed(self, timeout: float = TIMEOUT) -> None:  # noqa: ASYNC109
        """Wait until the app has ended the response.

        :raises TimeoutError: it did not.
        """
        async with asyncio.timeout(timeout):
            await self._complete.wait()

    def pause(self) -> None:
        """Stop reading: the app's next ``send`` waits, as with a client whose buffers are full."""
        self._reading.clear()

    def resume(self) -> None:
        """Read again."""
        self._reading.set()

    async def disconnect(self) -> None:
        """Leave, as a client does: the app receives ``http.disconnect`` and what it sends goes nowhere."""
        self._gone.set()
        await asyncio.sleep(0)

    async def start(self, timeout: float = TIMEOUT) -> None:  # noqa: ASYNC109
        """Send the request and wait for the head of the response; `open_stream` does it.

        :raises RuntimeError: the app returned without a response. What the app raises is raised here too.
        """
        self._task = asyncio.create_task(self._run(), name="asgi app")
        async with asyncio.timeout(timeout):
            while not self.status:
                if self._complete.is_set():
                    self._raise_fault()
                    raise RuntimeError("the app returned without starting a response")
                await self._change()

    async def stop(self) -> None:
        """Leave and wait for the app to return, cancelling it after a second; `open_stream` does it.

        What the app raised, if nobody has seen it yet, is raised here.
        """
        self._gone.set()
        if self._task is None:
            return
        _, running = await asyncio.wait([self._task], timeout=GRACE_TIMEOUT)
        if running:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._raise_fault()

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._receive, self._send)
        finally:
            self._complete.set()
            self._changed.set()

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._body is not None and not self._gone.is_set():
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await _first(self._gone, self._complete)
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        await asyncio.sleep(0)  # as a server does; an app that only sends must not hold the loop
        if not self._reading.is_set():
            await _first(self._reading, self._gone)
        if self._gone.is_set():
            return  # uvicorn drops it as quietly
        if message["type"] == "http.response.start":
            if self.status:
                raise RuntimeError("the app started the response twice")
            self.status = message["status"]
            self.raw_headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            self.headers = _joined(self.raw_headers)
        elif message["type"] == "http.response.body":
            if not self.status or self._complete.is_set():
                raise RuntimeError("the app sent a body before the start or after the end of the response")
            if body := bytes(message.get("body", b"")):
                self._chunks.append(body)
            if not message.get("more_body", False):
                self._complete.set()
        else:
            raise RuntimeError(f"the app sent {message['type']!r}")
        self._changed.set()

    async def _chunk(self) -> bytes:
        while not self._chunks:
            if self._complete.is_set() or self._gone.is_set():
                self._raise_fault()
                raise StreamEnded
            await self._change()
        return self._chunks.popleft()

    async def _change(self) -> None:
        self._changed.clear()
        await _first(self._changed, self._gone)

    def _feed(self, chunk: bytes) -> None:
        self.received += chunk
        self._events += self._decoder.feed(chunk)

    def _raise_fault(self) -> None:
        """Raise what the app raised, once."""
        task = self._task
        if task is not None and task.done() and not task.cancelled() and (fault := task.exception()) is not None:
            self._task = None
            raise fault


@asynccontextmanager
async def open_stream(
    app: App,
    target: str,
    *,
    headers: Headers | None = None,
    method: str = "GET",
    body: bytes = b"",
    host: str = "testserver",
    scheme: str = "http",
    client: tuple[str, int] | None = ("127.0.0.1", 50000),
    http_version: str = "1.1",
    extensions: Mapping[str, Any] | None = None,
    timeout: float = TIMEOUT,  # noqa: ASYNC109
) -> AsyncIterator[AsgiStream]:
    """Send a request and yield its response as it comes; at the end the client disconnects.

    :param app: any ASGI 3 app. Its lifespan is not run.
    :param target: path and query, percent-encoded, as in a request line.
    :param headers: a mapping, or pairs if a name stands several times.
    :param host: the Host header, unless ``headers`` has one.
    :param client: address and port the request seems to come from.
    :param extensions: of the ASGI scope.
    :param timeout: seconds to wait for the head of the response.
    :raises TimeoutError: no head came. What the app raises is raised, at the latest on leaving.
    """
    scope = _scope(method, target, headers, host, scheme, client, http_version, extensions)
    stream = AsgiStream(app, scope, body)
    try:
        await stream.start(timeout)
        yield stream
    except BaseException:
        with contextlib.suppress(Exception):  # the first fault is the one to tell
            await stream.stop()
        raise
    await stream.stop()


async def request(
    app: App,
    method: str,
    target: str,
    *,
    headers: Headers | None = None,
    json: Any = None,
    body: bytes | None = None,
    host: str = "testserver",
    scheme: str = "http",
    client: tuple[str, int] | None = ("127.0.0.1", 50000),
    http_version: str = "1.1",
    timeout: float = TIMEOUT,  # noqa: ASYNC109
) -> Response:
    """Send a request and return its complete response. Arguments as in `open_stream`.

    :param json: sent as the body, with ``Content-Type: application/json`` unless ``headers`` has one.
    :param body: sent as it is.
    :param timeout: seconds for the whole of it.
    :raises ValueError: both ``json`` and ``body`` are given.
    :raises TimeoutError: the response did not end; an endless one is for `open_stream`.
    """
    if json is not None and body is not None:
        raise ValueError("give json or body, not both")
    pairs = _pairs(headers)
    content = body or b""
    if json is not None:
        content = msgspec.json.encode(json)
        if not any(name.lower() == "content-type" for name, _ in pairs):
            pairs.append(("content-type", "application/json"))
    if content and not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in pairs):
        pairs.append(("content-length", str(len(content))))
    opened = open_stream(
        app,
        target,
        headers=pairs,
        method=method,
        body=content,
        host=host,
        scheme=scheme,
        client=client,
        http_version=http_version,
    )
    whole = bytearray()
    async with asyncio.timeout(timeout), opened as stream:
        with contextlib.suppress(StreamEnded):
            while True:
                whole += await stream._chunk()  # noqa: SLF001 - the body may be no event stream
        return Response(status=stream.status, headers=stream.headers, raw_headers=stream.raw_headers, body=bytes(whole))


def _scope(
    method: str,
    target: str,
    headers: Headers | None,
    host: str,
    scheme: str,
    client: tuple[str, int] | None,
    http_version: str,
    extensions: Mapping[str, Any] | None,
) -> MutableMapping[str, Any]:
    """Build an HTTP connection scope (ASGI 3, HTTP version 2.3)."""
    path, _, query = target.partition("?")
    if not path.startswith("/"):
        raise ValueError(f"a target begins with a slash, {target!r} does not")
    pairs = _pairs(headers)
    if not any(name.lower() == "host" for name, _ in pairs):
        pairs.insert(0, ("host", host))
    name, _, port = host.partition(":")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": http_version,
        "method": method.upper(),
        "scheme": scheme,
        "path": unquote(path),
        "raw_path": path.encode("ascii"),
        "query_string": query.encode("ascii"),
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs],
        "client": client,
        "server": (name, int(port) if port.isdecimal() else 443 if scheme == "https" else 80),
        "extensions": dict(extensions or {}),
        "state": {},
    }


def _pairs(headers: Headers | None) -> list[tuple[str, str]]:
    if headers is None:
        return []
    return list(headers.items() if isinstance(headers, Mapping) else headers)


def _joined(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name_bytes, value_bytes in raw:
        name, value = name_bytes.decode("latin-1").lower(), value_bytes.decode("latin-1")
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


async def _first(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
