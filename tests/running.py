"""The real `sseal` executable, run as an operator runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import secret_watch

SSEAL = Path(sys.executable).parent / "sseal"
SECRET = "a-secret-for-tests-of-more-than-32-bytes"
PATIENCE = 600
"""Time units a process may take for what it does at once on an idle machine; four workers start in 30 there."""

_direct = build_opener(ProxyHandler({})).open


def environment(**settings: str) -> dict[str, str]:
    """Return this environment with these ``SSEAL_*`` settings and no others."""
    secret_watch.remember(*(value for name, value in settings.items() if "secret" in name))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SSEAL_")}
    return kept | {f"SSEAL_{name.upper()}": value for name, value in settings.items()}


def sseal(*arguments: str, cwd: Path, stdin: str | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    if arguments[:1] == ("user",) and stdin is not None:
        secret_watch.remember(*stdin.splitlines())
    return subprocess.run(
        [SSEAL, *arguments],
        cwd=cwd,
        env=environment(**settings),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def eventually(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait for something to be true and return it."""
    end = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        assert time.monotonic() < end, f"waited {seconds} s: {what}"
        time.sleep(0.01)


@dataclass
class Running:
    """A command that goes on until it is ended, and what it has printed."""

    process: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path
    unit: float
    url: str = ""

    @property
    def port(self) -> int:
        """The port it listens on."""
        return urlsplit(self.url).port or 0

    def output(self) -> str:
        """Everything it has printed so far."""
        return self.stdout.read_text() + self.stderr.read_text()

    def records(self) -> list[dict[str, Any]]:
        """Its log as far as its lines are complete, for a process that logs JSON."""
        complete, _, _ = self.stderr.read_text().rpartition("\n")
        return [json.loads(line) for line in complete.splitlines() if line.startswith("{")]

    def wait_for_record(self, **wanted: Any) -> dict[str, Any]:
        """Wait until it has logged a record with these fields, and return the first."""

        def found() -> dict[str, Any] | None:
            return next((record for record in self.records() if wanted.items() <= record.items()), None)

        record = eventually(found, PATIENCE * self.unit, str(wanted))
        assert isinstance(record, dict)
        return record

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until it has printed something."""

        def found() -> re.Match[str] | None:
            match = re.search(pattern, self.output())
            assert match or self.process.poll() is None, f"ended with {self.process.returncode}: {self.output()}"
            return match

        match = eventually(found, PATIENCE * self.unit, pattern)
        assert isinstance(match, re.Match)
        return match

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE * self.unit)


@contextmanager
def running(folder: Path, unit: float, *arguments: str, **settings: str) -> Iterator[Running]:
    """Start a command; at the end it is gone, whatever happened."""
    number = len(list(folder.glob("*.stdout")))
    out, err = folder / f"{number}.stdout", folder / f"{number}.stderr"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [SSEAL, *arguments],
            cwd=folder,
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
    try:
        yield Running(process, out, err, unit)
    finally:
        if process.poll() is None:
            process.terminate()  # so that it can end its own children
            with suppress(subprocess.TimeoutExpired):
                process.wait(5.0)
        if process.poll() is None:
            process.kill()
        process.wait()
        secret_watch.check(out.read_text() + err.read_text(), f"sseal {' '.join(arguments)}")


@contextmanager
def serving(folder: Path, unit: float, *arguments: str, **settings: str) -> Iterator[Running]:
    """Run ``sseal serve`` on a free port; yields it once it answers."""
    settings = {"jwt_secret": SECRET, **settings}
    with running(folder, unit, "serve", "--port", "0", "--log-format", "json", *arguments, **settings) as server:
        server.url = server.wait_for(r'"address": "(http[^"]+)"')[1]
        yield server


def call(
    url: str, body: object = None, *, method: str | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Send one request; return status, headers (names in lower case) and body, errors included."""
    if isinstance(body, dict) and isinstance(body.get("password"), str):
        secret_watch.remember(body["password"])
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data=data, method=method, headers=dict(headers or {}))
    if data is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with _direct(request, timeout=30) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
    except HTTPError as error:
        with error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()


def bearer(token: str) -> dict[str, str]:
    """Return the header that carries a token."""
    return {"Authorization": f"Bearer {token}"}
