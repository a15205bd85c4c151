"""Fixtures every part of the suite shares."""

from __future__ import annotations

import math
import os
import shutil
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

import secret_watch
from reporting import write_sections

secret_watch.install()  # before anything imports what makes secrets

# Debian keeps nginx in /usr/sbin, which is not on everybody's PATH.
_SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

# A shell starts what it runs in the background with SIGINT ignored, and so would every command the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# An example that takes long says something about the machine only; Hypothesis itself knows that in CI.
# `make test-long` asks for more examples than Hypothesis takes by itself.
_examples = int(os.environ.get("SSEAL_TEST_EXAMPLES") or settings().max_examples)
settings.register_profile("unhurried", settings(), deadline=None, max_examples=_examples)
settings.load_profile("unhurried")


_LONG = ("chaos", "fuzz")
"""The folders whose tests take longest."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take longest, so that at the end no worker is alone with one of them."""
    items.sort(key=lambda item: item.path.parent.name not in _LONG)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the long tests have to say, also in a run without a failure."""
    write_sections(terminalreporter)


def _find_program(title: str, variable: str, *names: str) -> str:
    """Return the path of a program the tests start; fail, never skip, when it is missing."""
    chosen = os.environ.get(variable)
    for name in [chosen] if chosen else names:
        if path := shutil.which(name, path=_SEARCH_PATH):
            return path
    looked_for = f"{variable}={chosen}" if chosen else f"{variable}, {', '.join(names)}"
    pytest.fail(f"{title} is missing (looked for: {looked_for}); `scripts/setup --test` installs it", pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def _no_secret_is_logged() -> Iterator[None]:
    """At the end of all tests of this process, search what was logged in it; servers are searched as they end."""
    yield
    secret_watch.check_logs()


@pytest.fixture(scope="session")
def time_unit() -> float:
    """The suite's one time unit in seconds; every wait and timeout of a test is a multiple of it.

    0.1 unless ``SSEAL_TEST_TIME_UNIT`` says otherwise: raise it on a slow machine.
    """
    text = os.environ.get("SSEAL_TEST_TIME_UNIT", "0.1")
    try:
        unit = float(text)
    except ValueError:
        unit = math.nan
    if not (math.isfinite(unit) and unit > 0):
        pytest.fail(f"SSEAL_TEST_TIME_UNIT is a positive number of seconds, not {text!r}", pytrace=False)
    return unit


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The Chromium the browser tests drive."""
    return _find_program("Chromium", "CHROMIUM", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def nginx_path() -> str:
    """The nginx the proxy tests start."""
    return _find_program("nginx", "NGINX", "nginx")


@pytest.fixture(scope="session")
def haproxy_path() -> str:
    """The HAProxy the proxy tests start."""
    return _find_program("HAProxy", "HAPROXY", "haproxy")


@pytest.fixture(scope="session")
def caddy_path() -> str:
    """The Caddy the proxy tests start."""
    return _find_program("Caddy", "CADDY", "caddy")


@pytest.fixture(scope="session")
def redis_path() -> str:
    """The Redis or Valkey server the broker and store tests start."""
    return _find_program("Redis", "REDIS_SERVER", "redis-server", "valkey-server")
