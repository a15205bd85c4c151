"""`sseal demo` as a process: what the page finds when it asks."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from http.client import IncompleteRead
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from ports import free_port
from running import Running, bearer, call, running, sseal
from sseal.wire import Decoder, Event

PAGE = Path(__file__).parents[2] / "src/sseal/cli/demo/page"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, time_unit: float) -> Iterator[Running]:
    """A demo that goes on for all tests of this file."""
    with running(tmp_path_factory.mktemp("demo"), time_unit, "demo", "--port", str(free_port())) as process:
        process.url = process.wait_for(r"(http://localhost:\d+)/\n")[1]
        yield process


@pytest.fixture
def token(demo: Running) -> str:
    """Alice's token."""
    return str(get_token(demo, "alice", "wonderland-7")["token"])


def get_token(demo: Running, username: str, password: str) -> dict[str, Any]:
    """Log in the way the page does."""
    status, _, body = call(f"{demo.url}/demo/token", {"username": username, "password": password})
    assert status == 200
    answer = json.loads(body)
    assert isinstance(answer, dict)
    return answer


def read(url: str, enough: Callable[[Event], bool], **headers: str) -> list[Event]:
    """Read a stream until an event is the one waited for, or the server ends it."""
    request = Request(url, headers={"Accept": "text/event-stream", **headers})
    decoder, events = Decoder(), []
    with build_opener(ProxyHandler({})).open(request, timeout=30) as stream:
        assert stream.status == 200
        while chunk := stream.read1():
            for event in decoder.feed(chunk):
                events.append(event)
                if enough(event):
                    return events
    return events


def is_host(event: Event) -> bool:
    """Tell whether this is a reading of the machine."""
    return event.type == "host"


def test_it_prints_one_address_and_how_to_end_it(demo: Running) -> None:
    """A person sees where to go and what to press, and nothing else."""
    shown = demo.output()
    assert shown.count("http") == 1
    assert demo.url in shown
    assert "Ctrl-C" in shown


def test_the_page_is_served_and_may_load_nothing_from_elsewhere(demo: Running) -> None:
    """Every file of the page has its media type and headers under which only its own scripts run."""
    files = [path.name for path in PAGE.iterdir() if path.suffix in (".html", ".js", ".css")]
    for name in ["", *files]:
        status, headers, body = call(f"{demo.url}/{name}")
        assert status == 200
        assert body == (PAGE / (name or "index.html")).read_bytes()
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-cache"
        kind = {"html": "text/html", "js": "text/javascript", "css": "text/css"}[(name or "x.html").split(".")[-1]]
        assert headers["content-type"].startswith(kind)
    for missing in ("app.py", "../app.py", "%2e%2e/app.py", "page/index.html"):
        assert call(f"{demo.url}/{missing}")[0] == 404


def test_config_names_users_feed_and_the_other_loopback_name(demo: Running) -> None:
    """The page learns whom it can sign in, what to show, and where a second user can sit beside the first."""
    for name, twin in (("localhost", "127.0.0.1"), ("127.0.0.1", "localhost")):
        config = json.loads(call(f"http://{name}:{demo.port}/demo/config")[2])
        assert config == {
            "users": [
                {"name": "alice", "password": "wonderland-7"},
                {"name": "bob", "password": "builder-42"},
            ],
            "feed": "public/host",
            "retry_ms": 1000,
            "twin": f"http://{twin}:{demo.port}/",
        }


def test_a_token_is_given_for_the_password_only(demo: Running) -> None:
    """Name and password give a token of 15 minutes; anything else is a problem document."""
    answer = get_token(demo, "bob", "builder-42")
    assert answer["subject"] == "bob"
    assert answer["expires_at"] > 0
    for body, expected in (
        ({"username": "alice", "password": "wrong-password"}, 401),
        ({"username": "nobody", "password": "wonderland-7"}, 401),
        ({"username": "alice"}, 400),
        ({"username": "alice", "password": 7}, 400),
        (["alice"], 400),
    ):
        status, headers, raw = call(f"{demo.url}/demo/token", body)
        assert (status, headers["content-type"]) == (expected, "application/problem+json")
        assert json.loads(raw)["status"] == expected


def test_the_feed_says_how_busy_this_machine_is(demo: Running) -> None:
    """Each second there is a reading with increasing number and plausible values, for anybody who asks."""
    seen: list[Event] = []

    def three(event: Event) -> bool:
        seen.extend([event] if is_host(event) else [])
        return len(seen) == 3

    read(f"{demo.url}/events?topic=public/host&anonymous=1", three)
    readings = [json.loads(event.data) for event in seen]
    assert [reading["seq"] - readings[0]["seq"] for reading in readings] == [0, 1, 2]
    assert 0.5 < readings[2]["at"] - readings[0]["at"] < 10.0
    for reading in readings:
        assert set(reading) == {"seq", "at", "cpu", "memory", "disk", "disk_used", "network"}
        assert all(0 <= reading[name] <= 100 for name in ("cpu", "memory", "disk_used"))
        assert all(reading["disk"][name] >= 0 for name in ("read", "write"))
        assert all(reading["network"][name] >= 0 for name in ("received", "sent"))
    assert readings[2]["memory"] > 0


def test_all_five_ways_in_are_open(demo: Running, token: str) -> None:
    """Bearer, ticket, resume, cookie and query each open the feed."""
    feed = "topic=public/host"
    assert read(f"{demo.url}/events?{feed}", is_host, Authorization=f"Bearer {token}")
    assert read(f"{demo.url}/events?{feed}&token={quote(token)}", is_host)
    login = {"username": "alice", "password": "wonderland-7"}
    status, headers, _ = call(f"{demo.url}/auth/login", login, headers={"Origin": demo.url})
    assert status == 200
    cookie = headers["set-cookie"].partition(";")[0]
    assert cookie.startswith("sseal-dev=")
    assert read(f"{demo.url}/events?{feed}", is_host, Cookie=cookie, **{"Sec-Fetch-Site": "same-origin"})
    minted = json.loads(call(f"{demo.url}/auth/sse", {"topics": ["public/host"]}, headers=bearer(token))[2])
    events = read(f"{demo.url}{minted['url']}", is_host)
    again = read(f"{demo.url}{minted['url']}", is_host, **{"Last-Event-ID": events[-1].last_event_id})
    assert json.loads(again[-1].data)["seq"] == json.loads(events[-1].data)["seq"] + 1
    assert re.search(r"[a-z2-7]{26}_", demo.output()) is None
    assert token not in demo.output()


def test_alice_notifies_bob(demo: Running, token: str) -> None:
    """A notification sent with alice's token reaches bob's own topic, and nobody else may read that."""
    bob = get_token(demo, "bob", "builder-42")["token"]
    assert call(f"{demo.url}/events?topic=user/bob", headers=bearer(token))[0] == 403

    def opened(event: Event) -> bool:
        if event.type == "auth":
            body = {"targetUserId": "bob", "message": "<b>hello</b>"}
            assert call(f"{demo.url}/notifications", body, headers=bearer(token))[0] == 200
        return event.type == "notification"

    events = read(f"{demo.url}/events", opened, Authorization=f"Bearer {bob}")
    told = json.loads(events[-1].data)
    assert (told["sender"], told["message"]) == ("alice", "<b>hello</b>")


def test_cut_drops_a_stream_without_a_word(demo: Running, token: str) -> None:
    """The stream ends with no `bye`, as a lost network ends it; only the demo's own page may ask for that."""
    own = {"Origin": demo.url}

    def cut(event: Event) -> bool:
        if event.type == "auth":
            body = {"connection": json.loads(event.data)["connection"]}
            assert call(f"{demo.url}/demo/cut", body)[0] == 403
            assert call(f"{demo.url}/demo/cut", body, headers={"Origin": "http://evil.example"})[0] == 403
            assert call(f"{demo.url}/demo/cut", body, headers={"Sec-Fetch-Site": "same-site"})[0] == 403
            assert call(f"{demo.url}/demo/cut", body, headers=own)[0] == 204
            assert call(f"{demo.url}/demo/cut", body, headers=own)[0] == 404
        assert event.type != "bye"
        return False

    with pytest.raises((IncompleteRead, OSError)):  # what a lost connection is to its reader
        read(f"{demo.url}/events?topic=user/alice", cut, Authorization=f"Bearer {token}")
    assert call(f"{demo.url}/demo/cut", {"connection": "x"}, headers={"Sec-Fetch-Site": "same-origin"})[0] == 404
    form = {**own, "Content-Type": "text/plain"}
    assert call(f"{demo.url}/demo/cut", method="POST", headers=form)[0] == 415


def test_another_name_for_this_machine_is_refused(demo: Running) -> None:
    """A name of another site that leads to this address gets nothing (DNS rebinding)."""
    assert call(f"{demo.url}/demo/config", headers={"Host": "evil.example"})[0] == 400


def test_it_is_for_this_machine_only(tmp_path: Path) -> None:
    """Another address to listen on is refused with a reason."""
    done = sseal("demo", "--host", "0.0.0.0", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "not this machine" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_port_that_is_taken_is_passed_by_and_the_end_is_clean(
    tmp_path: Path, demo: Running, time_unit: float, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second demo takes another port; a signal ends it with 0, and its file of accounts is gone."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    with running(tmp_path, time_unit, "demo", "--port", str(demo.port)) as second:
        port = int(second.wait_for(r"http://localhost:(\d+)/\n")[1])
        assert port != demo.port
        assert call(f"http://localhost:{port}/demo/config")[0] == 200
        assert list(folder.iterdir()) != []
        assert second.end(number) == 0
        assert "Traceback" not in second.output()
    assert list(folder.iterdir()) == []
