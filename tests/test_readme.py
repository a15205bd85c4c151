"""The quick starts of the README, run as printed and used in a real Chromium.

Only the two ports are others, so that the tests run beside whatever has those.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from ports import free_port
from servers import ROOT, serving, uvicorn
from test_docs import PATIENCE, Block, blocks

README = ROOT / "README.md"


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    """Start one Chromium for this module."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Open a page in a profile of its own; an uncaught error fails the test."""
    context = browser.new_context()
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    yield opened
    context.close()
    assert faults == []


def test_the_fastapi_quick_start_shows_an_order(page: Page, tmp_path: Path, time_unit: float) -> None:
    """The button of the page publishes, and the event appears on that page and in a second tab."""
    (code,) = [block.code for block in blocks(README) if block.language == "python" and block.mode == "app"]
    (tmp_path / "app.py").write_text(code)
    patience = PATIENCE * time_unit * 1000
    with uvicorn("app:app", tmp_path / "log", env={"PYTHONPATH": str(tmp_path)}) as server:
        second = page.context.new_page()
        for tab in (page, second):
            with tab.expect_response(lambda answer: answer.url.endswith("/sse/events")) as streamed:
                tab.goto(f"http://localhost:{server.port}/")
            assert streamed.value.status == 200
        page.get_by_role("button").click()
        for tab in (page, second):
            expect(tab.get_by_role("listitem")).to_have_text('{"order":"shipped"}', timeout=patience)


class Terminals:
    """The blocks of the second quick start, each typed into a terminal of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app, self.hub = free_port(), free_port()
        self.used: list[Block] = []
        (self.python,) = self._marked("python")
        self.serve, self.start_app, self.publish = self._marked("bash")
        (folder / "page.py").write_text(self._placed(self.python.code))

    def _marked(self, language: str) -> list[Block]:
        return [block for block in blocks(README) if block.mode == "browser" and block.language == language]

    def _placed(self, code: str) -> str:
        """Return code with the ports of the test; the README's two must be all there are."""
        assert set(re.findall(r"(?:localhost:|--port )(\d+)", code)) <= {"3000", "8000"}
        return re.sub(r"((?:localhost:|--port ))3000", rf"\g<1>{self.app}", code).replace(
            "localhost:8000", f"localhost:{self.hub}"
        )

    def command(self, block: Block) -> tuple[str, ...]:
        """Return what runs a block."""
        return ("bash", "-euc", f"cd {self.folder}\n{self._placed(block.code).rstrip()}")

    @property
    def env(self) -> dict[str, str]:
        """The environment: nothing of sseal but the hub's port, which is 8000 without it."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("SSEAL_", "COVERAGE_"))}
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', os.defpath)}"
        return env | {"SSEAL_PORT": str(self.hub), "SSEAL_URL": f"http://127.0.0.1:{self.hub}"}

    @contextlib.contextmanager
    def running(self, block: Block, port: int, patience: float) -> Iterator[None]:
        """Run a block until its port answers, and end it and what it started afterwards."""
        log = self.folder / f"line-{block.line}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                self.command(block), env=self.env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            end = time.monotonic() + patience
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
                    break
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.02)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(10.0)

    def say(self) -> None:
        """Publish as the third terminal does."""
        done = subprocess.run(self.command(self.publish), env=self.env, capture_output=True, text=True, timeout=60.0)
        assert done.returncode == 0, done.stderr


def test_the_ticket_quick_start_works_across_two_origins(page: Page, tmp_path: Path, time_unit: float) -> None:
    """A page of one origin reads a hub of another, and again after the hub has lost what it knew (W15)."""
    terminals = Terminals(tmp_path)
    patience = PATIENCE * time_unit
    state, events = page.locator("#state"), page.get_by_role("listitem")
    tickets: list[int] = []
    page.on("response", lambda answer: tickets.append(answer.status) if answer.url.endswith("/ticket") else None)
    with contextlib.ExitStack() as until_end:
        with terminals.running(terminals.serve, terminals.hub, patience):
            until_end.enter_context(terminals.running(terminals.start_app, terminals.app, patience))
            page.goto(f"http://localhost:{terminals.app}/")
            expect(state).to_have_text("live", timeout=patience * 1000)
            terminals.say()
            expect(events).to_have_text(["hello"], timeout=patience * 1000)
            assert tickets == [200]
        # The same secret, so that the app's token stays good; without its file the hub knows no ticket any more.
        for file in tmp_path.glob("sseal.db*"):
            file.unlink()
        hub = ["bash", "-euc", f"cd {tmp_path} && . ./hub.env && exec sseal serve"]
        with serving(*hub, port=terminals.hub, log=tmp_path / "second.log", env=terminals.env):
            expect(state).to_have_text("live", timeout=patience * 1000)
            terminals.say()
            expect(events).to_have_text(["hello", "hello"], timeout=patience * 1000)
            assert tickets[-1] == 200
            assert len(tickets) > 1


def test_the_page_of_the_ticket_quick_start_stops_trying(page: Page, tmp_path: Path, time_unit: float) -> None:
    """Without a hub the page asks for a ticket eleven times, ever later, and then says so."""
    terminals = Terminals(tmp_path)
    patience = PATIENCE * time_unit
    asked: list[int] = []
    page.clock.install(time=0)
    page.clock.pause_at(1)  # it goes on when it is told to, however slow this machine is
    with contextlib.ExitStack() as until_end:
        with terminals.running(terminals.serve, terminals.hub, patience):
            until_end.enter_context(terminals.running(terminals.start_app, terminals.app, patience))
        page.on("response", lambda answer: asked.append(answer.status) if answer.url.endswith("/ticket") else None)
        page.goto(f"http://localhost:{terminals.app}/")
        for attempt in range(1, 11):
            # Counted in the step that sets the timer, so that the clock is not turned before there is one.
            page.wait_for_function("attempt => attempts === attempt", arg=attempt, timeout=patience * 1000)
            expect(page.locator("#state")).to_have_text("waiting to reconnect")
            with page.expect_response(lambda answer: answer.url.endswith("/ticket")):
                page.clock.run_for(min(30_000, 1000 * 2**attempt))
        expect(page.locator("#state")).to_have_text(
            "cannot connect; reload the page to try again", timeout=patience * 1000
        )
    assert asked == [500] * 11
