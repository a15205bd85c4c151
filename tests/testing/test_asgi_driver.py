"""The in-process driver, against tiny apps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sseal.clock import Clock
from sseal.errors import InvalidInput
from sseal.testing import ManualClock, StreamEnded, open_stream, request

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Scope = dict[str, Any]

HEAD = {"type": "http.response.start", "status": 200, "headers": [(b"Content-Type", b"text/event-stream")]}


def body(data: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def endless(scope: Scope, receive: Receive, send: Send) -> None:
    """Three events, then nothing until the client leaves."""
    await send(HEAD)
    await send(body(b"event: auth\ndata: {}\n\ndata: a\n\n"))
    await send(body(b"data: b\n\n"))
    assert (await receive())["type"] == "http.request"
    assert (await receive())["type"] == "http.disconnect"


async def test_an_endless_stream_is_read_as_it_comes() -> None:
    """Head and events are there while the app still runs."""
    async with open_stream(endless, "/events") as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream"
        assert [(await stream.next()).type, (await stream.next()).data] == ["auth", "a"]
        assert (await stream.next()).data == "b"
        assert not stream.closed
    assert stream.closed


async def test_until_skips_what_comes_before() -> None:
    """The first event of the type is returned."""
    async with open_stream(endless, "/events") as stream:
        assert (await stream.until("message")).data == "a"


async def test_raw_shows_the_bytes_of_each_send() -> None:
    """The events in them are not lost to next."""
    async with open_stream(endless, "/events") as stream:
        assert await stream.raw() == b"event: auth\ndata: {}\n\ndata: a\n\n"
        assert await stream.raw() == b"data: b\n\n"
        assert (await stream.next()).type == "auth"
        assert stream.received.endswith(b"data: b\n\n")


async def test_an_event_that_does_not_come_is_a_timeout(time_unit: float) -> None:
    """And the stream is still good afterwards."""
    async with open_stream(endless, "/events") as stream:
        await stream.until("message")
        await stream.next()
        with pytest.raises(TimeoutError):
            await stream.next(timeout=time_unit / 10)
        assert not stream.closed


async def test_the_end_of_a_stream_is_told() -> None:
    """What was sent before is read first."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await send(body(b"data: last\n\n", more=False))

    async with open_stream(app, "/") as stream:
        await stream.wait_closed()
        assert stream.closed
        assert (await stream.next()).data == "last"
        with pytest.raises(StreamEnded):
            await stream.next()


async def test_a_stalled_reader_holds_the_sender() -> None:
    """While paused a send does not return; after resume nothing is missing."""
    sent: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(HEAD)
        for number in range(10):
            await send(body(b"data: %d\n\n" % number))
            sent.append(number)

    async with open_stream(app, "/") as stream:
        stream.pause()
        await stream.next()
        for _ in range(100):
            await asyncio.sleep(0)
        held = len(sent)
        assert held < 10
        stream.resume()
        assert [(await stream.next()).data for _ in range(9)] == [str(number) for number in range(1, 10)]
        await stream.wait_closed()


async def test_disconnect_reaches_the_app_and_frees_a_stalled_sender() -> None:
    """What is sent afterwards goes nowhere, as with a real server."""
    told = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(HEAD)
        await send(body(b"data: 1\n\n"))
        await send(body(b"data: 2\n\n"))
        assert (await receive())["type"] == "http.disconnect"
        told.set()

    async with open_stream(app, "/") as stream:
        await stream.next()
        stream.pause()
        await stream.disconnect()
        await asyncio.wait_for(told.wait(), 5)
        await stream.wait_closed()


async def test_an_app_that_never_returns_is_cancelled() -> None:
    """Leaving cleans up the task even of an app that listens to nobody."""
    cancelled = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(HEAD)
        try:
            while True:
                await send(body(b":\n"))
        finally:
            cancelled.set()

    async with open_stream(app, "/"):
        pass
    assert cancelled.is_set()


async def test_what_the_app_raises_is_raised() -> None:
    """Before the head at once, later at the next read or on leaving, and only once."""

    async def early(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("early")

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await send(HEAD)
        raise LookupError("late")

    with pytest.raises(LookupError, match="early"):
        async with open_stream(early, "/"):
            pass
    with pytest.raises(LookupError, match="late"):
        async with open_stream(late, "/"):
            pass
    async with open_stream(late, "/") as stream:
        with pytest.raises(LookupError, match="late"):
            await stream.next()


async def test_the_fault_of_the_test_comes_before_that_of_the_app() -> None:
    """A failing assertion is not hidden by what follows from it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await receive()
        await receive()
        raise LookupError("app")

    with pytest.raises(AssertionError, match="test"):
        async with open_stream(app, "/"):
            raise AssertionError("test")


@pytest.mark.parametrize("messages", [[], [body(b"x")], [HEAD, HEAD], [HEAD, {"type": "websocket.send"}]])
async def test_an_app_that_breaks_the_protocol_is_told(messages: list[dict[str, Any]]) -> None:
    """No head, no start before the body, two starts, a message of another protocol."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    with pytest.raises(RuntimeError, match="the app"):
        async with open_stream(app, "/"):
            pass


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what came."""
    message = await receive()
    lines = [
        scope["method"],
        scope["scheme"],
        scope["path"],
        scope["raw_path"].decode(),
        scope["query_string"].decode(),
        str(scope["client"]),
        *sorted(f"{name.decode()}={value.decode()}" for name, value in scope["headers"]),
        message["body"].decode(),
    ]
    headers = [(b"x-a", b"1"), (b"X-A", b"2")]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send(body("\n".join(lines).encode(), more=False))


async def test_a_request_arrives_as_a_server_would_pass_it_on() -> None:
    """Path decoded, raw path and query not, names in lower case, body and its headers."""
    response = await request(echo, "post", "/a%2Fb?x=%20", headers={"X-B": "b"}, json={"n": 1})
    assert response.status == 201
    assert response.headers == {"x-a": "1, 2"}
    assert response.text.split("\n") == [
        "POST",
        "http",
        "/a/b",
        "/a%2Fb",
        "x=%20",
        "('127.0.0.1', 50000)",
        "content-length=7",
        "content-type=application/json",
        "host=testserver",
        "x-b=b",
        '{"n":1}',
    ]


async def test_host_scheme_and_address_can_be_chosen() -> None:
    """A Host among the headers wins; headers may stand twice."""
    first = await request(echo, "GET", "/", host="h:81", scheme="https", client=("10.0.0.9", 1))
    assert "host=h:81" in first.text
    assert "https" in first.text
    assert "('10.0.0.9', 1)" in first.text
    second = await request(echo, "GET", "/", headers=[("Host", "x"), ("A", "1"), ("A", "2")])
    assert "testserver" not in second.text
    assert "a=1\na=2\nhost=x" in second.text


async def test_a_json_body_is_decoded() -> None:
    """Response.json gives what the app encoded."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send(body(b'{"a":'))
        await send(body(b"[1]}", more=False))

    assert (await request(app, "GET", "/")).json() == {"a": [1]}


async def test_a_request_whose_response_does_not_end_is_a_timeout(time_unit: float) -> None:
    """An endless stream is for open_stream."""
    with pytest.raises(TimeoutError):
        await request(endless, "GET", "/", timeout=time_unit)


async def test_arguments_that_make_no_sense_are_refused() -> None:
    """Two bodies, a target that is an address."""
    with pytest.raises(ValueError, match="not both"):
        await request(echo, "POST", "/", json=1, body=b"1")
    with pytest.raises(ValueError, match="slash"):
        await request(echo, "GET", "http://x/")


def test_the_clock_moves_only_when_turned() -> None:
    """Both faces go forward together; a jump moves the wall clock alone."""
    clock: Clock = ManualClock(wall=100.0, monotonic=5.0)
    assert isinstance(clock, ManualClock)
    clock.advance(2.5)
    assert (clock.wall(), clock.monotonic()) == (102.5, 7.5)
    clock.jump(-50.0)
    assert (clock.wall(), clock.monotonic()) == (52.5, 7.5)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_the_clock_never_goes_back(seconds: float) -> None:
    """A monotonic clock that goes back would prove nothing."""
    with pytest.raises(InvalidInput, match="seconds"):
        ManualClock().advance(seconds)
