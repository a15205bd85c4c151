"""The demo in a real Chromium: what a person sees, and what the browser does by itself."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from servers import Server, free_port, serving

SSEAL = str(Path(sys.executable).parent / "sseal")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AUTH_METHODS = ["bearer", "cookie", "ticket", "resume", "query"]
PATIENCE = 20_000.0


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    """Start one Chromium for this module."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=chromium_path, args=FLAGS)
        yield chromium
        chromium.close()


@contextlib.contextmanager
def demo(log: Path, port: int) -> Iterator[Server]:
    """Run ``sseal demo``."""
    with serving(SSEAL, "demo", "--port", str(port), port=port, log=log) as server:
        yield server


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Server]:
    """Run a demo of its own for one test."""
    with demo(tmp_path / "log", free_port()) as server:
        yield server


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Open a page in a profile of its own; a dialog or an uncaught error fails the test."""
    context = browser.new_context()
    opened = context.new_page()
    faults: list[str] = []
    opened.on("dialog", lambda dialog: (faults.append(f"dialog: {dialog.message}"), dialog.close_retryable()))
    opened.on("pageerror", lambda error: faults.append(f"error: {error}"))
    yield opened
    context.close()
    assert faults == []


def sign_in(page: Page, server: Server, user: str, auth_method: str, host: str = "localhost") -> None:
    """Open the demo, choose a way in, sign in, and wait until the feed arrives."""
    page.goto(f"http://{host}:{server.port}/")
    page.get_by_test_id(f"way-{auth_method}").click()
    page.get_by_test_id(f"signin-{user}").click()
    expect(page.get_by_test_id("state")).to_contain_text("live", timeout=PATIENCE)
    wait_for_events(page, 2)


def number(page: Page, name: str) -> int:
    """Return a counter of the page."""
    return int(page.get_by_test_id(name).inner_text())


def wait_for_events(page: Page, more: int) -> None:
    """Wait until the feed has brought so many more events."""
    goal = number(page, "received") + more
    page.wait_for_function(
        "goal => Number(document.querySelector('[data-testid=received]').textContent) >= goal",
        arg=goal,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize("auth_method", AUTH_METHODS)
def test_a_cut_stream_comes_back_with_nothing_missed_or_doubled(auth_method: str, hub: Server, page: Page) -> None:
    """Sign in by each way, be cut at the server, and be back by oneself at the next number of the feed."""
    sign_in(page, hub, "alice", auth_method)
    first = page.get_by_test_id("connection-id").inner_text()
    for reconnects in (1, 2):
        page.get_by_test_id("cut").click()
        expect(page.get_by_test_id("reconnects")).to_have_text(str(reconnects), timeout=PATIENCE)
        expect(page.get_by_test_id("state")).to_contain_text("live", timeout=PATIENCE)
        wait_for_events(page, 2)
    assert page.get_by_test_id("connection-id").inner_text() != first
    assert number(page, "missed") == 0
    assert number(page, "doubled") == 0


def test_nobody_reads_the_public_feed(hub: Server, page: Page) -> None:
    """Without signing in the public feed arrives, and nothing else is offered."""
    page.goto(f"http://localhost:{hub.port}/")
    page.get_by_test_id("signin-none").click()
    wait_for_events(page, 2)
    assert number(page, "missed") == 0


def test_alice_never_sees_what_is_for_bob(hub: Server, page: Page, browser: Browser) -> None:
    """A message from alice arrives at bob and at nobody else; markup in it stays text."""
    sign_in(page, hub, "alice", "ticket")
    context = browser.new_context()
    other = context.new_page()
    dialogs: list[str] = []
    other.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.close_retryable()))
    sign_in(other, hub, "bob", "cookie", host="127.0.0.1")
    page.get_by_test_id("notify-target").select_option("bob")
    page.get_by_test_id("notify-message").fill("for bob only")
    page.get_by_test_id("notify-send").click()
    expect(other.get_by_test_id("notifications")).to_contain_text("for bob only", timeout=PATIENCE)
    page.get_by_test_id("notify-xss").click()
    expect(other.get_by_test_id("notifications")).to_contain_text("<img src=x onerror=", timeout=PATIENCE)
    assert other.get_by_test_id("notifications").locator("img").count() == 0
    assert dialogs == []
    wait_for_events(page, 2)
    assert "for bob only" not in page.get_by_test_id("notifications").inner_text()
    context.close()


PROBE = """
async (url) => {
  const source = new EventSource(url, {withCredentials: true});
  const seen = [];
  for (const type of ['auth', 'message', 'notification', 'host']) {
    source.addEventListener(type, (e) => seen.push(e.data));
  }
  const state = await new Promise((resolve) => { source.onerror = () => resolve(source.readyState); });
  let fetched;
  try { fetched = (await fetch(url, {credentials: 'include'})).status; } catch { fetched = 'refused'; }
  return {state, seen, fetched};
}
"""


@pytest.mark.parametrize("foreign", ["127.0.0.1", "localhost"])
def test_a_page_of_another_origin_gets_nothing_with_cookies(foreign: str, hub: Server, page: Page) -> None:
    """With alice's cookie in the jar, another site and another port of the same site read nothing (W11, W12)."""
    sign_in(page, hub, "alice", "cookie")
    with other_site() as port:
        stranger = page.context.new_page()
        stranger.goto(f"http://{foreign}:{port}/")
        answer = stranger.evaluate(PROBE, f"http://localhost:{hub.port}/events?topic=user/alice&topic=public/host")
    assert answer == {"state": 2, "seen": [], "fetched": "refused"}


def test_a_closed_stream_asks_for_a_new_ticket_by_itself(tmp_path: Path, page: Page) -> None:
    """After a restart that forgot every family the browser gives up, and the page signs itself in again (W15)."""
    port = free_port()
    with demo(tmp_path / "one", port) as server:
        sign_in(page, server, "alice", "ticket")
        old = page.get_by_test_id("connection-id").inner_text()
        server.stop()
    with demo(tmp_path / "two", port):
        # The id names the node, and the node is another one.
        page.wait_for_function(
            "old => { const id = document.querySelector('[data-testid=connection-id]').textContent.trim();"
            " return /^[a-z0-9]{8}[.]/.test(id) && id.slice(0, 8) !== old.slice(0, 8); }",
            arg=old,
            timeout=60_000.0,
        )
        expect(page.get_by_test_id("state")).to_contain_text("live", timeout=PATIENCE)
        wait_for_events(page, 2)
    assert number(page, "doubled") == 0


@pytest.mark.parametrize("size", [(1280, 900), (390, 844)])
def test_the_page_fits_its_window(size: tuple[int, int], hub: Server, browser: Browser) -> None:
    """On a desk and on a phone nothing is cut off at the side."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    opened = context.new_page()
    sign_in(opened, hub, "alice", "resume")
    assert opened.evaluate("document.documentElement.scrollWidth") <= size[0]
    context.close()


@contextlib.contextmanager
def other_site() -> Iterator[int]:
    """Serve an empty page on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>another site</title>")

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
