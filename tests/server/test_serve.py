"""`sseal serve` as a process: its start, its log, its end."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from running import SECRET, Running, bearer, call, eventually, serving
from sseal.auth.jwt import sign
from sseal.clock import SystemClock
from sseal.errors import InvalidInput
from sseal.server.serve import listen, raise_descriptor_limit

READERS = 900
STALLED = 100
NO_LIMITS = {
    "limits__streams_per_subject": "0",
    "limits__streams_per_address": "0",
    "limits__connects_per_minute_per_subject": "0",
    "limits__connects_per_minute_per_address": "0",
}


def issue(subject: str = "alice", *, admin: bool = False) -> str:
    """Return a token that may read and publish everything."""
    now = int(SystemClock().wall())
    grants = {"subscribe": ["**"], "publish": ["**"], "admin": admin}
    return sign({"sub": subject, "iat": now, "exp": now + 600, "sseal": grants}, SECRET)


def request(server: Running, path: str, *headers: str) -> bytes:
    """Return the bytes of a request for a stream."""
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{server.port}", "Accept: text/event-stream", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def streams(server: Running) -> dict[str, int]:
    """Return how many streams there are in each state, from the metrics."""
    text = call(f"{server.url}/metrics")[2].decode()
    return {
        state: int(float(n)) for state, n in re.findall(r'^sseal_streams\{state="(\w+)"\} (\S+)$', text, re.MULTILINE)
    }


def stall(server: Running, headers: str) -> socket.socket:
    """Open a stream and never read from it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    client.sendall(request(server, "/events?topic=big", headers))
    return client


@pytest.fixture
def server(tmp_path: Path, time_unit: float) -> Iterator[Running]:
    """A hub whose log is complete and that lets in any number of streams."""
    with serving(
        tmp_path, time_unit, "--log-level", "debug", credentials="bearer,ticket,resume,query", **NO_LIMITS
    ) as hub:
        yield hub


async def test_sigterm_ends_a_thousand_streams_in_time(server: Running, time_unit: float) -> None:
    """Every reader gets `bye`, clients that do not read are dropped, and the process exits with 0 within 5 s."""
    credential = f"Authorization: Bearer {issue()}"
    stalled = [stall(server, credential) for _ in range(STALLED)]
    readers = []
    for _ in range(READERS):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request(server, "/events?topic=small", credential))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        readers.append((reader, writer))

    async def reached(state: str, number: int) -> None:
        async with asyncio.timeout(300 * time_unit):
            while (await asyncio.to_thread(streams, server))[state] != number:
                pass

    await reached("live", READERS + STALLED)
    big = {"topic": "big", "data": "x" * 200_000}
    for _ in range(8):
        await asyncio.to_thread(call, f"{server.url}/events", big, headers=bearer(issue()))
    await reached("catching_up", STALLED)

    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    heard = await asyncio.gather(*(reader.read() for reader, _ in readers))
    code = await asyncio.to_thread(server.process.wait, 30)
    took = time.monotonic() - begun
    for _, writer in readers:
        writer.close()
    for client in stalled:
        client.close()
    assert [b"event: bye" in text and b'"reason":"draining"' in text for text in heard] == [True] * READERS
    assert code == 0
    assert took < 5.0
    log = server.records()
    assert sum(record["message"] == "stream closed" for record in log) == READERS + STALLED
    assert log[-1]["message"] == "stopped"
    assert not [record for record in log if record["level"] in ("error", "critical")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_an_ordinary_end(tmp_path: Path, time_unit: float, number: int) -> None:
    """Both signals end a hub without streams at once, with exit code 0 and no traceback."""
    with serving(tmp_path, time_unit) as hub:
        assert hub.end(number) == 0
        assert "Traceback" not in hub.output()
        assert hub.records()[-1]["message"] == "stopped"


def test_the_start_says_what_an_operator_asks_first(server: Running) -> None:
    """One record has address, version, ways in, broker and the name of the cookie; warnings follow."""
    record = next(record for record in server.records() if record["message"] == "listening")
    assert record["address"] == server.url
    assert record["auth_methods"] == "bearer, ticket, resume, query"
    assert record["broker"] == "sqlite:///sseal.db"
    assert record["workers"] == 1
    assert record["cookie"] == "__Host-sseal"
    assert record["version"]
    server.wait_for("tokens in the query are accepted")


def test_requests_are_logged_by_path_status_and_time(server: Running) -> None:
    """A request is one record without its query; what monitors ask is left to level debug."""
    token = issue()
    assert call(f"{server.url}/events?x=1", {"topic": "a", "data": 1}, headers=bearer(token))[0] == 201
    assert call(f"{server.url}/events?topic=a")[0] == 401
    assert call(f"{server.url}/healthz")[0] == 200
    server.wait_for_record(message="request", path="/healthz")
    found = {
        (record["method"], record["path"], record["status"], record["level"])
        for record in server.records()
        if record["message"] == "request" and record["ms"] >= 0 and record["client"] == "127.0.0.1"
    }
    assert found >= {
        ("POST", "/events", 201, "info"),
        ("GET", "/events", 401, "info"),
        ("GET", "/healthz", 200, "debug"),
    }


def test_a_stream_is_logged_once_at_its_end(server: Running) -> None:
    """Its record says who, which way, how long, how much and why; there is none for the request."""
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(request(server, f"/events?topic=a&token={issue('bob')}"))
        assert client.recv(16).startswith(b"HTTP/1.1 200")
    record = server.wait_for_record(message="stream closed")
    assert [each for each in server.records() if each["logger"] == "sseal.access" and "subject" in each] == [record]
    assert (record["auth_method"], record["subject"], record["reason"]) == ("query", "bob", "client_gone")
    assert record["connection"]
    assert record["seconds"] >= 0
    assert record["delivered"] == 0
    assert not any(record.get("path") == "/events" for record in server.records())


def test_no_credential_gets_into_the_log(server: Running) -> None:
    """Tokens in the query, tickets in path and query, resume tokens and bearer tokens never appear, good or bad."""
    token = issue()
    minted = [
        json.loads(call(f"{server.url}/auth/sse", {"topics": ["a"]}, headers=bearer(token))[2])["ticket"]
        for _ in range(3)
    ]
    bad = token[:-4] + "AAAA"
    resume = "abcdefghijklmnopqrstuvwxyz"
    asks = [
        request(server, f"/events?topic=a&token={token}"),
        request(server, f"/events?topic=a&token={bad}"),
        request(server, f"/events/{minted[0]}"),
        request(server, f"/events/{minted[0]}"),
        request(server, f"/events/{minted[1]}/more"),
        request(server, f"/events?ticket={minted[1]}"),
        request(server, f"/events?ticket={minted[1]}"),
        request(server, "/events?topic=a", f"Last-Event-ID: {resume}_abcd1234-5"),
        request(server, "/events?topic=a", f"Authorization: Bearer {bad}"),
        request(server, f"/nothing?token={token}&ticket={minted[2]}"),
        request(server, f"/events/{minted[2]}").replace(b"GET", b"POST"),
        request(server, f"/events?token={token}").replace(b"HTTP/1.1", b"NONSENSE"),
    ]
    for ask in asks:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.sendall(ask)
            assert client.recv(16).startswith(b"HTTP/1.1 ")
    assert server.end() == 0
    shown = server.output()
    assert shown.count("stream closed") >= 3
    assert "credential_refused" in shown
    secrets = [*minted, resume, *token.split(".")[1:], bad.split(".")[2], SECRET]
    assert [secret for secret in secrets if secret in shown] == []


def test_metrics_can_be_switched_off(tmp_path: Path, time_unit: float) -> None:
    """--no-metrics answers /metrics as if there were none, and everything else as before."""
    with serving(tmp_path, time_unit, "--no-metrics") as hub:
        assert call(f"{hub.url}/metrics")[0] == 404
        assert call(f"{hub.url}/readyz")[0] == 200


def test_cors_is_answered_for_the_origins_allowed(tmp_path: Path, time_unit: float) -> None:
    """A hub on its own answers preflights of the sites it was told of, and of no others."""
    with serving(tmp_path, time_unit, allowed_origins="https://app.example,https://b.example") as hub:
        for origin, allowed in (("https://app.example", True), ("https://evil.example", False)):
            asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            headers = call(f"{hub.url}/auth/sse", method="OPTIONS", headers=asked)[1]
            assert (headers.get("access-control-allow-origin") == origin) is allowed


@pytest.mark.parametrize(
    ("names", "status"),
    [
        ("hx-current-url,hx-request,hx-target,hx-trigger,hx-trigger-name", 200),  # htmx 2
        ("hx-current-url,hx-request,hx-request-type,hx-source,last-event-id", 200),  # htmx 4
        ("content-type,datastar-request", 200),
        ("authorization,cache-control,content-type,last-event-id", 200),
        ("x-requested-with", 400),
    ],
)
def test_pages_of_htmx_and_datastar_may_ask(tmp_path: Path, time_unit: float, names: str, status: int) -> None:
    """The preflights their requests from another origin cause are answered; other headers are for the operator."""
    asked = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": names,
    }
    with serving(tmp_path, time_unit, allowed_origins="https://app.example") as hub:
        found, headers, _ = call(f"{hub.url}/events", method="OPTIONS", headers=asked)
        assert found == status
        allowed = {name.strip().lower() for name in headers["access-control-allow-headers"].split(",")}
        assert allowed.issuperset(names.split(",")) is (status == 200)
        assert (
            call(f"{hub.url}/events", method="OPTIONS", headers={**asked, "Origin": "https://evil.example"})[0] == 400
        )


def test_the_headers_pages_may_send_are_a_setting(tmp_path: Path, time_unit: float) -> None:
    """What is named replaces the default, beside the headers the hub itself reads."""
    origins = {"allowed_origins": "https://app.example", "allowed_headers": "X-Requested-With"}
    with serving(tmp_path, time_unit, **origins) as hub:
        for names, status in (("x-requested-with,authorization", 200), ("hx-request", 400)):
            asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": names}
            url, headers = f"{hub.url}/events", {"Origin": "https://app.example", **asked}
            assert call(url, method="OPTIONS", headers=headers)[0] == status


def test_https_is_served_with_a_certificate(tmp_path: Path, time_unit: float) -> None:
    """With certificate and key the address is https; a key that does not fit is one line."""
    for name in ("a", "b"):
        make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
        files = ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem")]
        subprocess.run([*make, *files], check=True, capture_output=True)
    with serving(tmp_path, time_unit, "--tls-cert-file", "a.pem", "--tls-key-file", "a.key") as hub:
        assert hub.url.startswith("https://127.0.0.1:")
    mismatch = serving(tmp_path, time_unit, "--tls-cert-file", "a.pem", "--tls-key-file", "b.key")
    mismatch = serving(tmp_path, time_unit, "--tls-cert-file", "a.pem", "--tls-key-file", "b.key")
    with pytest.raises(AssertionError, match="certificate or key cannot be used") as caught, mismatch:
        pass
    assert "Traceback" not in str(caught.value)


def test_web_concurrency_of_the_platform_is_no_reason_to_stop(
    tmp_path: Path, time_unit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A platform that sets WEB_CONCURRENCY for other servers does not keep this one from starting."""
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    with serving(tmp_path, time_unit) as hub:
        assert call(f"{hub.url}/readyz")[0] == 200


def test_a_port_that_is_taken_is_named() -> None:
    """Binding twice to the same port fails with an error that names it."""
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        first.listen()
        with pytest.raises(InvalidInput, match=f"port: cannot listen on 127.0.0.1:{port}"):
            listen("127.0.0.1", port)
    with pytest.raises(InvalidInput, match="host: "):
        listen("no such host.invalid", 0)


def test_more_streams_than_descriptors_is_a_warning_with_numbers() -> None:
    """The limit is raised as far as it goes; if that is not enough the warning says for how many it is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert raise_descriptor_limit(1) is None
        text = raise_descriptor_limit(10**9)
        raised = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert raised == hard
    if hard != resource.RLIM_INFINITY:
        assert text is not None
        assert f"enough for {hard - 256} streams" in text
        assert "1000000000" in text


def test_the_end_comes_also_when_a_request_hangs(server: Running, time_unit: float) -> None:
    """A request whose body never comes does not keep the process from ending."""
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        head = ["POST /events HTTP/1.1", "Host: x", "Content-Type: application/json", "Content-Length: 10"]
        client.sendall("\r\n".join([*head, f"Authorization: Bearer {issue()}", "", "{"]).encode())
        eventually(lambda: call(f"{server.url}/healthz")[0] == 200, 100 * time_unit, "healthz")
        begun = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - begun < 10.0


def test_a_hub_that_is_ending_lets_nobody_in_any_more(tmp_path: Path, time_unit: float) -> None:
    """A proxy goes to the next hub at once, while this one still says `bye` to its streams."""
    with serving(tmp_path, time_unit, "--set", "drain_window=3", **NO_LIMITS) as server:
        token = issue(admin=True)
        headers = {**bearer(token), "Accept": "text/event-stream"}
        streams = [_open(server, headers) for _ in range(150)]
        server.process.terminate()

        def refused() -> bool:
            try:
                socket.create_connection(("127.0.0.1", server.port), 1.0).close()
            except ConnectionRefusedError:
                return True
            return False

        eventually(refused, 10.0, "a closed door")
        assert server.process.poll() is None
        for stream in streams:
            stream.settimeout(10.0)
            text = b""
            while piece := stream.recv(65536):
                text += piece
            assert b"event: bye" in text
            stream.close()
        assert server.process.wait(10.0) == 0


def _open(server: Running, headers: dict[str, str]) -> socket.socket:
    """Open a stream on a socket of its own and read its head and first event."""
    stream = socket.create_connection(("127.0.0.1", server.port), 10.0)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    stream.sendall(f"GET /events?topic=a HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
    text = b""
    while b"event: auth" not in text:
        text += stream.recv(65536)
    return stream
