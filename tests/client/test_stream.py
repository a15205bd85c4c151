"""The client against a real server on loopback that does exactly what each test tells it to."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import httpx2
import pytest

from sseal import client, errors, wire
from sseal.client import Backoff, StreamClosed
from sseal.client.calls import fault_of, retry_after
from sseal.wire import Event

FAST = b"retry: 1\n\n"
SECRET = "s3cr3t-bearer-token"
RESUME = "a" * 26


@dataclass
class Seen:
    """A request as the server got it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


Writer = asyncio.StreamWriter
Step = bytes | Callable[[Writer, "Server"], Awaitable[None]]


@dataclass
class Server:
    """Answers the n-th request with the n-th step; bytes are sent as they are, then the connection is closed."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.rstrip().split("\r\n")
            method, target, _ = first.split(" ")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            count = len(self.seen)
            step = self.steps[count] if count < len(self.steps) else END  # one too many must not go on for ever
            self.seen.append(Seen(method, target, headers, body))
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            else:
                await step(writer, self)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.gone.set()


@asynccontextmanager
async def serving(*steps: Step) -> AsyncIterator[Server]:
    """Run the server for the length of a test; every step must have been used."""
    script = Server(steps=list(steps))
    running: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: Writer) -> None:
        task = asyncio.get_running_loop().create_task(script.serve(reader, writer))
        running.add(task)

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield script
    finally:
        listener.close()
        for task in running:
            task.cancel()
        results = await asyncio.gather(*running, return_exceptions=True)
    assert not [result for result in results if isinstance(result, Exception)], results
    assert len(script.seen) == len(script.steps)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def answer(status: int, body: object = None, headers: Sequence[str] = (), kind: str = "application/json") -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Word", *headers, f"Content-Type: {kind}", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + content


def problem(status: int, code: str, detail: str = "because", *headers: str, **more: object) -> bytes:
    body = {"type": "about:blank", "title": "T", "status": status, "code": code, "detail": detail, **more}
    return answer(status, body, headers, "application/problem+json")


def auth(session: wire.ReaderSession = "valid", id: str | None = "k3v9x0aa-1") -> bytes:
    return wire.auth_event(
        session=session, connection="n1-c7", subject="alice", topics=["user/alice"], expires_at=None, id=id
    )


def event(data: str, id: str | None = None) -> bytes:
    return wire.encode(Event(data=data, id=id))


BYE = wire.bye_event(reason="revoked", reconnect=False)
END = HEAD + FAST + BYE


async def held(writer: Writer, server: Server) -> None:
    """Open a stream and keep it until the client leaves."""
    writer.write(HEAD + FAST + auth() + event("first", "k3v9x0aa-2"))
    await writer.drain()
    await server.go.wait()


def fast() -> Backoff:
    return Backoff(minimum=0, base=0.001, maximum=0.001)


async def read(stream: client.EventStream) -> tuple[list[str], StreamClosed]:
    """Read until the hub ends the stream for good."""
    data: list[str] = []
    with pytest.raises(StreamClosed) as caught:
        async for item in stream:
            data.append(item.data)
    return data, caught.value


# Reading


async def test_events_arrive_whole_however_slowly_the_bytes_come() -> None:
    """A BOM, a CRLF and a character of three bytes, one byte at a time."""

    async def dribble(writer: Writer, _: Server) -> None:
        writer.write(HEAD)
        for byte in b"\xef\xbb\xbfid: 1\r\ndata: \xe2\x82\xac\r\n\r\n" + BYE:
            writer.write(bytes([byte]))
            await writer.drain()

    async with serving(dribble) as server, client.connect(server.url) as stream:
        data, closed = await read(stream)
    assert data == ["€"]
    assert (closed.reason, closed.reconnect) == ("revoked", False)


async def test_topics_and_headers_reach_the_hub() -> None:
    """Topics are query fields of /events below the base address, with nothing lost to escaping."""
    topics = ["a&b=c", "ü/%2F", "x y"]
    async with serving(END) as server:
        async with client.connect(
            server.url + "/sse/", topics=topics, token=SECRET, headers={"X-Thing": "1"}, origin="https://app.example"
        ) as stream:
            await read(stream)
        seen = server.seen[0]
    assert seen.target.startswith("/sse/events?")
    assert httpx2.URL(seen.target).params.get_list("topic") == topics
    assert seen.headers["authorization"] == f"Bearer {SECRET}"
    assert seen.headers["accept"] == "text/event-stream, application/problem+json"
    assert (seen.headers["x-thing"], seen.headers["origin"]) == ("1", "https://app.example")
    assert "last-event-id" not in seen.headers


async def test_a_cut_stream_is_resumed_after_the_last_event() -> None:
    """The reader sees neither the cut nor an event twice, and who it is stays known."""
    cut = HEAD + FAST + auth() + event("a", "k3v9x0aa-2") + b"id: k3v9x0aa-3\ndata: half"
    rest = HEAD + FAST + auth(id="k3v9x0aa-2") + event("b", "k3v9x0aa-3") + BYE
    async with serving(cut, rest) as server, client.connect(server.url, token=SECRET) as stream:
        data, _ = await read(stream)
    assert data == ["a", "b"]
    assert server.seen[1].headers["last-event-id"] == "k3v9x0aa-2"
    assert stream.last_event_id == "k3v9x0aa-3"
    assert stream.identity is not None
    assert (stream.identity.subject, stream.identity.topics) == ("alice", ("user/alice",))


async def test_a_given_position_is_where_it_starts() -> None:
    """``last_event_id`` of the caller is sent with the first request."""
    async with serving(END) as server, client.connect(server.url, last_event_id="k3v9x0aa-7") as stream:
        await read(stream)
    assert server.seen[0].headers["last-event-id"] == "k3v9x0aa-7"


async def test_the_attribute_moves_with_what_was_handed_out() -> None:
    """A reader that stores the position after each event never stores one it has not seen."""
    both = HEAD + FAST + event("a", "k3v9x0aa-2") + event("b", "k3v9x0aa-3") + BYE
    async with serving(both) as server, client.connect(server.url) as stream:
        positions = []
        with pytest.raises(StreamClosed):
            async for item in stream:
                positions.append((item.data, stream.last_event_id))
    assert positions == [("a", "k3v9x0aa-2"), ("b", "k3v9x0aa-3")]


async def test_a_gap_is_told_before_the_events_after_it() -> None:
    """The callback, plain or async, comes in order; the gaps are also kept."""
    gap = wire.gap_event(from_="k3v9x0aa-1", to="k3v9x0aa-5", reason="trimmed", id="k3v9x0aa-5")
    order: list[str] = []

    async def on_gap(told: client.Gap) -> None:
        await asyncio.sleep(0)
        order.append(f"gap to {told.end}")

    body = HEAD + FAST + auth() + event("a") + gap + event("b") + BYE
    async with serving(body) as server, client.connect(server.url, on_gap=on_gap) as stream:
        with pytest.raises(StreamClosed):
            async for item in stream:
                order.append(item.data)
    assert order == ["a", "gap to k3v9x0aa-5", "b"]
    assert [told.reason for told in stream.gaps] == ["trimmed"]


async def test_silence_is_answered_by_a_new_connection(time_unit: float) -> None:
    """A peer that died without a word is noticed by the idle timeout."""
    async with (
        serving(held, END) as server,
        client.connect(server.url, idle_timeout=10 * time_unit) as stream,
    ):
        data, _ = await read(stream)
    assert data == ["first"]
    assert server.seen[1].headers["last-event-id"] == "k3v9x0aa-2"


async def test_a_hub_that_never_answers_is_asked_again(time_unit: float) -> None:
    """The idle timeout also bounds the wait for the head."""

    async def mute(_: Writer, server: Server) -> None:
        await server.go.wait()

    options: dict[str, Any] = {"idle_timeout": 10 * time_unit, "backoff": fast()}
    async with serving(mute, END) as server, client.connect(server.url, **options) as stream:
        assert (await read(stream))[0] == []


async def test_cancelling_the_wait_for_an_event_costs_nothing(time_unit: float) -> None:
    """After a timeout around the next event the same connection goes on, and nothing is lost."""

    async def later(writer: Writer, server: Server) -> None:
        writer.write(HEAD + FAST)
        await writer.drain()
        await server.go.wait()
        writer.write(event("late") + BYE)
        await writer.drain()

    async with serving(later) as server, client.connect(server.url) as stream:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), time_unit / 2)
        server.go.set()
        assert (await anext(stream)).data == "late"


async def test_a_stream_is_entered_once() -> None:
    """It may be left twice, but a second connection of the same object would be a second reader."""
    async with serving(END) as server:
        stream = client.connect(server.url)
        async with stream:
            pass
        with pytest.raises(RuntimeError, match="once"):
            await stream.__aenter__()
        await stream.aclose()


async def test_two_tasks_cannot_read_one_stream() -> None:
    """Each event would reach only one of them, at random."""
    async with serving(held) as server, client.connect(server.url) as stream:
        await anext(stream)
        waiting = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one stream"):
            await anext(stream)
        waiting.cancel()
        server.go.set()


async def test_leaving_ends_the_connection_and_reading_afterwards_says_so() -> None:
    """The server sees the client go, and a client that was given stays open."""

    async def watched(writer: Writer, server: Server) -> None:
        writer.write(HEAD + FAST + event("first"))
        await writer.drain()
        while not writer.is_closing():
            writer.write(wire.HEARTBEAT)
            await writer.drain()
            await asyncio.sleep(0.01)

    async with httpx2.AsyncClient() as http, serving(watched) as server:
        async with client.connect(server.url, http=http) as stream:
            await anext(stream)
        async with asyncio.timeout(5):
            await server.gone.wait()
        assert not http.is_closed
        with pytest.raises(StreamClosed, match="closed"):
            await anext(stream)


async def test_an_event_over_the_bound_ends_the_stream() -> None:
    """It would come again after every reconnect."""
    body = HEAD + FAST + event("fine") + event("x" * 100)
    async with serving(body) as server, client.connect(server.url, max_event=50) as stream:
        assert (await anext(stream)).data == "fine"
        with pytest.raises(errors.WireError, match="50 bytes"):
            await anext(stream)
        with pytest.raises(errors.WireError):
            await anext(stream)


# Refusals


async def test_a_refusal_for_now_is_waited_out() -> None:
    """503 with Retry-After is obeyed, and so is a connection that breaks before its head."""
    busy = problem(503, "draining", "later", "Retry-After: 1")
    start = time.monotonic()
    async with serving(busy, b"", END) as server, client.connect(server.url, backoff=fast()) as stream:
        waited = time.monotonic() - start
        await read(stream)
    assert waited >= 1.0


async def test_a_fresh_token_is_asked_for_after_a_401() -> None:
    """The callable is awaited at first and after the refusal, and the fresh token is the one sent."""
    tokens = iter(["old", "new"])

    async def token() -> str:
        return next(tokens)

    async with (
        serving(problem(401, "credential_expired"), END) as server,
        client.connect(server.url, token=token) as stream,
    ):
        await read(stream)
    assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer old", "Bearer new"]


async def test_an_expired_identity_returns_with_a_fresh_token() -> None:
    """After ``auth: expired`` the old token is not tried again, and the stream goes on where it was."""
    tokens = iter(["old", "new"])

    async def token() -> str:
        return next(tokens)

    ended = HEAD + FAST + auth() + event("a", "k3v9x0aa-2") + auth("expired", id=None)
    async with serving(ended, END) as server, client.connect(server.url, token=token) as stream:
        await read(stream)
    assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer old", "Bearer new"]
    assert server.seen[1].headers["last-event-id"] == "k3v9x0aa-2"


async def test_what_the_token_callable_raises_is_raised() -> None:
    """Whoever cannot get a token learns why, and not that a network failed."""

    async def token() -> str:
        raise LookupError("no login")

    async with serving() as server:
        with pytest.raises(LookupError, match="no login"):
            async with client.connect(server.url, token=token):
                pass


@pytest.mark.parametrize(
    ("code", "kind"),
    [("credential_expired", errors.CredentialExpired), ("credential_invalid", errors.CredentialInvalid)],
)
async def test_a_fixed_token_that_is_refused_is_raised(code: str, kind: type[errors.SsealError]) -> None:
    """There is nothing else to try, and the code of the problem document names the error."""
    async with serving(problem(401, code)) as server:
        with pytest.raises(kind) as caught:
            async with client.connect(server.url, token=SECRET):
                pass
    assert caught.value.code == code
    assert SECRET not in str(caught.value)


async def test_three_refusals_in_a_row_are_the_end() -> None:
    """A callable whose tokens are all refused does not go on for ever."""

    async def token() -> str:
        return SECRET

    async with serving(*[problem(401, "credential_invalid")] * 3) as server:
        with pytest.raises(errors.CredentialInvalid):
            async with client.connect(server.url, token=token, backoff=fast()):
                pass


async def test_forbidden_carries_the_words_of_the_hub() -> None:
    """What exactly is not yours stands in the exception."""
    async with serving(problem(403, "topic_refused", "not yours: b", refused=["b"])) as server:
        with pytest.raises(errors.Forbidden, match="not yours: b") as caught:
            async with client.connect(server.url, topics=["a", "b"], token=SECRET):
                pass
    assert (caught.value.refused, caught.value.code) == (("b",), "topic_refused")


async def test_a_redirect_is_not_followed() -> None:
    """The credential goes nowhere else, and the error says what is wrong."""
    async with serving() as elsewhere:
        moved = answer(307, None, [f"Location: {elsewhere.url}/events"])
        async with serving(moved) as server, httpx2.AsyncClient(follow_redirects=True) as http:
            with pytest.raises(StreamClosed, match="redirects") as caught:
                async with client.connect(server.url, token=SECRET, http=http):
                    pass
    assert caught.value.reason == "redirected"


async def test_a_page_is_not_a_stream() -> None:
    """A 200 of another type names the type."""
    async with serving(answer(200, {}, kind="text/html")) as server:
        with pytest.raises(StreamClosed, match="text/html"):
            async with client.connect(server.url):
                pass


async def test_a_body_that_is_too_long_is_no_problem_document() -> None:
    """A refusal is understood by its status even when its body is a flood."""
    async with serving(answer(404, {"detail": "x" * 200_000})) as server:
        with pytest.raises(errors.NotFound, match="status 404"):
            async with client.connect(server.url):
                pass


async def test_an_id_no_header_can_carry_ends_the_stream() -> None:
    """A foreign server's id with a control character cannot be resumed after, and is not tried for ever."""
    async with serving(HEAD + FAST + b"id: a\x0cb\ndata: x\n\n") as server, client.connect(server.url) as stream:
        assert (await anext(stream)).data == "x"
        with pytest.raises(errors.InvalidInput, match="header"):
            await anext(stream)


# Tickets


async def test_a_ticket_is_minted_and_renewed_when_it_and_its_resume_token_are_refused() -> None:
    """Mint, read, cut, come back as an EventSource does, be refused, mint again, go on after the last event."""
    cut = HEAD + FAST + auth(id=f"{RESUME}_k3v9x0aa-1") + event("a", f"{RESUME}_k3v9x0aa-2")
    steps = [
        answer(201, {"ticket": "t-one"}),
        cut,
        problem(401, "credential_invalid"),
        answer(201, {"ticket": "t-two"}),
        END,
    ]
    async with (
        serving(*steps) as server,
        client.connect(server.url, topics=["news"], token=SECRET, ticket=True) as stream,
    ):
        data, _ = await read(stream)
    assert data == ["a"]
    assert [seen.target for seen in server.seen] == [
        "/auth/sse",
        "/events?topic=news&ticket=t-one",
        "/events?topic=news&ticket=t-one",
        "/auth/sse",
        "/events?topic=news&ticket=t-two",
    ]
    assert server.seen[0].json() == {"topics": ["news"]}
    assert server.seen[0].headers["authorization"] == f"Bearer {SECRET}"
    assert "authorization" not in server.seen[1].headers
    assert server.seen[4].headers["last-event-id"] == f"{RESUME}_k3v9x0aa-2"


async def test_a_fixed_token_that_mints_no_ticket_is_raised() -> None:
    """The refusal of POST /auth/sse is the refusal of the stream."""
    async with serving(problem(401, "credential_expired")) as server:
        with pytest.raises(errors.CredentialExpired):
            async with client.connect(server.url, token=SECRET, ticket=True):
                pass


async def test_a_server_that_mints_nothing_is_no_hub() -> None:
    """A success without a ticket is not tried again."""
    async with serving(answer(200, {})) as server:
        with pytest.raises(errors.SsealError, match="is this a hub"):
            async with client.connect(server.url, token=SECRET, ticket=True):
                pass


# Secrets


async def test_no_secret_stands_in_any_log(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the token nor the ticket, whoever logs, at any level, over a failure and an end."""
    caplog.set_level(logging.DEBUG)
    steps = [answer(201, {"ticket": "t-secret"}), problem(503, "draining"), END]
    async with (
        serving(*steps) as server,
        client.connect(server.url, token=SECRET, ticket=True, backoff=fast()) as stream,
    ):
        await read(stream)
    assert "[redacted]" in caplog.text
    assert SECRET not in caplog.text
    assert "t-secret" not in caplog.text


@pytest.mark.parametrize("url", ["http://hub.example", "http://127.0.0.1.example:8000", "http://10.0.0.1"])
def test_a_token_does_not_travel_in_the_clear(url: str) -> None:
    """Plain http to another machine is refused, with the way out in the text."""
    for options in ({"token": SECRET}, {"headers": {"authorization": f"Bearer {SECRET}"}}):
        with pytest.raises(errors.InvalidInput, match="insecure=True") as caught:
            client.connect(url, **options)  # type: ignore[arg-type]
        assert SECRET not in str(caught.value)
    client.connect(url, token=SECRET, insecure=True)
    client.connect(url)


@pytest.mark.parametrize("url", ["https://hub.example", "http://localhost:8000", "http://[::1]:1", "http://127.9.9.9"])
def test_tls_and_loopback_may_carry_a_token(url: str) -> None:
    """Nobody else is on that way."""
    client.connect(url, token=SECRET)


@pytest.mark.parametrize(
    "url",
    ["hub.example", "ftp://hub.example", "http://", "https://u:p@hub.example", "https://h/?topic=a", "https://h:x/"],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """The constructor names the field; a password in the address is not repeated."""
    with pytest.raises(errors.InvalidInput, match="url"):
        client.connect(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:8000", "did you mean http://localhost:8000?"),
        ("127.0.0.1/sse", "did you mean http://127.0.0.1/sse?"),
        ("[::1]:8000", "did you mean http://[::1]:8000?"),
        ("hub.example", "did you mean https://hub.example?"),
        ("user:hunter2@hub.example", "write it like https://example.com"),
        ("hub.example?token=hunter2", "write it like https://example.com"),
        ("", "write it like https://example.com"),
    ],
)
def test_an_address_without_a_scheme_is_answered_with_one(url: str, words: str) -> None:
    """This machine's own by http, others by https; what may hold a secret is not repeated."""
    with pytest.raises(errors.InvalidInput) as caught:
        client.connect(url)
    assert str(caught.value) == f"url: has no scheme; {words}"


@pytest.mark.parametrize("token", ["", "with space", "line\r\nX-Evil: 1", "tökén"])
def test_a_token_no_header_can_carry_is_refused_without_being_shown(token: str) -> None:
    """It cannot forge a header, and the text of the error does not quote it."""
    with pytest.raises(errors.InvalidInput, match="token") as caught:
        client.connect("https://hub.example", token=token)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"topics": "news"}, {"ticket": True}, {"idle_timeout": 0}, {"max_event": 0}, {"last_event_id": "a\n"}]
)
def test_arguments_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    """What is wrong is said before anything is sent."""
    with pytest.raises(errors.InvalidInput):
        client.connect("https://hub.example", **options)


# Publishing


async def test_publishing_returns_the_ids() -> None:
    """The body holds what was given and nothing else."""
    async with serving(answer(201, {"ids": ["k3v9x0aa-9"]}), answer(201, {"ids": ["k3v9x0aa-10"]})) as server:
        ids = await client.publish(server.url, SECRET, "user/42", {"n": 1}, event="note", ttl=5, key="k")
        assert ids == ["k3v9x0aa-9"]
        assert await client.publish(server.url, None, ["a", "b"], "text") == ["k3v9x0aa-10"]
    first, second = server.seen
    assert (first.method, first.target) == ("POST", "/events")
    assert first.headers["content-type"] == "application/json"
    assert first.headers["authorization"] == f"Bearer {SECRET}"
    assert first.json() == {"topic": "user/42", "data": {"n": 1}, "event": "note", "ttl": 5, "key": "k"}
    assert second.json() == {"topics": ["a", "b"], "data": "text"}
    assert "authorization" not in second.headers


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_request", errors.InvalidInput),
        (401, "credential_missing", errors.CredentialMissing),
        (403, "forbidden", errors.Forbidden),
        (409, "idempotency_conflict", errors.Conflict),
        (413, "too_large", errors.TooLarge),
        (415, "unsupported_media_type", errors.UnsupportedMediaType),
        (429, "overload", errors.TooManyRequests),
        (503, "outcome_unknown", errors.Unavailable),
        (500, "internal", errors.SsealError),
    ],
)
async def test_a_refused_publish_raises_its_error(status: int, code: str, kind: type[errors.SsealError]) -> None:
    """Status and code say which, and Retry-After comes along."""
    async with serving(problem(status, code, "because", "Retry-After: 3")) as server:
        with pytest.raises(kind, match="because") as caught:
            await client.publish(server.url, SECRET, "a", 1)
    assert (caught.value.status, caught.value.code) == (status, code)
    if isinstance(caught.value, errors.TooManyRequests | errors.Unavailable):
        assert caught.value.retry_after == 3


async def test_a_publish_without_an_answer_says_that_the_outcome_is_unknown() -> None:
    """The caller can repeat it safely only with the same key, and is told so."""
    async with serving(b"") as server:
        with pytest.raises(errors.Unavailable, match="same key") as caught:
            await client.publish(server.url, SECRET, "a", 1)
    assert caught.value.code == "outcome_unknown"


async def test_a_publish_to_nobody_says_so() -> None:
    """A connection that was never made has a known outcome."""
    async with serving() as server:
        pass
    with pytest.raises(errors.Unavailable) as caught:
        await client.publish(server.url, SECRET, "a", 1)
    name = server.url.removeprefix("http://")
    assert str(caught.value) == (f"{name} could not be reached: connection refused; is `sseal serve` running there?")
    assert caught.value.code == "unreachable"


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (ConnectionRefusedError(111, "refused"), "connection refused; is `sseal serve` running there?"),
        (
            ExceptionGroup("all attempts", [TimeoutError(), ConnectionRefusedError(111, "refused")]),
            "connection refused; is `sseal serve` running there?",
        ),
        (socket.gaierror(-2, "unknown"), "the name of the host is not known"),
        (OSError("the header was hunter2"), "ConnectError"),
    ],
)
def test_a_fault_of_the_network_is_said_without_the_text_of_a_library(cause: Exception, words: str) -> None:
    """Known ones in words, also when several addresses were tried; of others the name of the class."""
    error = httpx2.ConnectError("hunter2")
    error.__cause__ = cause
    assert fault_of(error) == words


async def test_a_publish_that_is_no_json_or_reaches_no_hub_says_so() -> None:
    """Neither is mistaken for success."""
    with pytest.raises(errors.InvalidInput, match="data"):
        await client.publish("https://hub.example", None, "a", object())
    async with serving(answer(200, {"fine": True})) as server:
        with pytest.raises(errors.SsealError, match="is this a hub"):
            await client.publish(server.url, None, "a", 1)


# Retry-After


def test_retry_after_is_read_in_both_its_forms() -> None:
    """Seconds and HTTP-date (RFC 9110 section 10.2.3); a date that has passed is now."""
    assert retry_after("7", 0.0) == 7.0
    assert retry_after(formatdate(1000, usegmt=True), 990.0) == 10.0
    assert retry_after(formatdate(1000, usegmt=True), 2000.0) == 0.0


@pytest.mark.parametrize("text", [None, "", "soon", "-1", "1.5", "9" * 400, "\u0663"])
def test_a_retry_after_that_is_none_is_ignored(text: str | None) -> None:
    """Nonsense neither breaks the reader nor sends it away for ever."""
    assert retry_after(text, 0.0) is None
