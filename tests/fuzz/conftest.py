"""Fixtures of the fuzzing: how long, from which seed, and a real hub to throw things at."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from reporting import run_seed, say
from servers import Server, free_port, serving

from .target import SECRET, Target

T = TypeVar("T")

SECONDS = 60.0
"""In `make test`, for all of it; ``make fuzz`` sets ``SSEAL_FUZZ=600``."""
SHARES = {"sockets": 0.4, "parsers": 0.1, "schemathesis": 0.5}
ROUND = 100
"""Examples of one round: Hypothesis knows no seconds, so rounds follow each other until the time is over."""


@dataclass(frozen=True, slots=True)
class Fuzz:
    """How long to go on, and from which seed."""

    seed: int
    seconds: float
    node: pytest.Item

    def say(self, text: str) -> None:
        """Add a line to the report."""
        say(self.node, "fuzzing", text)

    def share(self, part: str) -> float:
        """Return the seconds of one part of the fuzzing."""
        return self.seconds * SHARES[part]

    def run(
        self, attack: Callable[[T], None], examples: st.SearchStrategy[T], seconds: float, *, least: int = 1
    ) -> int:
        """Try examples until the time is over; return how many. A failing one is shrunk and shown.

        :param least: examples that are tried however long they take: a busy machine shall not try too few.
        """
        count, failed = 0, False
        end = monotonic() + seconds

        def counted(example: T) -> None:
            nonlocal count, failed
            if count >= least and monotonic() > end and not failed:
                return  # the rest of a round for which there is no time; a failure is shrunk all the same
            count += 1
            try:
                attack(example)
            except BaseException:
                failed = True
                raise

        rounds = 0
        while count < least or monotonic() < end:
            test = settings(
                max_examples=ROUND,
                deadline=None,
                database=None,
                derandomize=False,
                suppress_health_check=list(HealthCheck),
                phases=(Phase.generate, Phase.shrink),
            )(given(examples)(counted))
            seed(self.seed + rounds)(test)()
            rounds += 1
        return count


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    """Return how long to fuzz (``SSEAL_FUZZ`` seconds for all), and from which seed (``SSEAL_FUZZ_SEED``)."""
    number = int(os.environ.get("SSEAL_FUZZ_SEED") or run_seed() % 2**32)
    say(request.node, "fuzzing", f"SSEAL_FUZZ_SEED={number} makes up the same again")
    return Fuzz(number, float(os.environ.get("SSEAL_FUZZ", SECONDS)), request.node)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Serve a hub by `sseal serve`, with every way in open and little to keep, so that nothing has cause to grow."""
    port = free_port()
    config = tmp_path / "sseal.toml"
    config.write_text(
        f"""
jwt_secret = ["{SECRET}"]
broker = "memory://"
store = "memory://"
credentials = ["bearer", "ticket", "resume", "cookie", "query"]
cookie_name = "app_jwt"
insecure_cookies = true
public_topics = ["public/**"]
allowed_origins = ["https://app.example"]
log_count = 100
window_count = 100
log_size = 1000000
window_size = 1000000
session_ttl = 5
revocation_ttl = 5
ticket_ttl = 2
ticket_grace = 2
resume_ttl = 2
[limits]
connects_per_minute_per_subject = 0
connects_per_minute_per_address = 0
tickets_per_minute_per_subject = 0
sessions_per_minute_per_subject = 0
"""
    )
    command = (str(Path(sys.executable).parent / "sseal"), "serve", "--config", str(config), "--port", str(port))
    with serving(*command, port=port, log=tmp_path / "serve.log") as made:
        yield made


@pytest.fixture
def target(server: Server) -> Target:
    """Return the served hub as something to throw requests at."""
    return Target(server)
