"""The watch over secrets finds what it is there to find."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

import secret_watch
from running import Running, serving
from sseal.auth.jwt import sign
from sseal.identity_sources import secret, tickets

KEY = "a-key-for-the-watch-of-more-than-32-bytes"


def test_what_is_made_here_is_known() -> None:
    """Tickets, sessions and JWTs are noted as they are made, wherever they are found again."""
    made = tickets.new_secret()
    token = sign({"sub": "somebody of this test"}, KEY)
    _, payload, signature = token.split(".")
    assert secret_watch.found_in(f"x{made}abc") == [made]
    assert secret_watch.found_in(f"/events/{token}") == sorted([payload, signature])
    assert secret_watch.found_in(f"A{payload}Z") == [payload]
    assert secret_watch.found_in(made[:-1] + "/" + payload[:-1]) == []
    with pytest.raises(AssertionError, match="a place wrote 1 secrets"):
        secret_watch.check(f"a\nline with {made}\n", "a place")


def test_what_another_process_makes_is_known() -> None:
    """Every Python the tests start notes its secrets too, with its own imports."""
    program = "from sseal.identity_sources import tickets; print(tickets.new_secret())"
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert secret_watch.found_in(f"{made}!") == [made]


def test_a_server_that_writes_a_secret_fails_its_test(tmp_path: Path, time_unit: float) -> None:
    """At the end of each server all it wrote is searched."""

    def served() -> None:
        with serving(tmp_path, time_unit) as server:
            _spoil(server)

    with pytest.raises(AssertionError, match="wrote 1 secrets"):
        served()


def _spoil(server: Running) -> None:
    with server.stdout.open("a") as file:
        file.write(f'{{"message": "{secret.new_secret()}"}}\n')


def test_a_record_with_a_secret_in_a_field_is_found(tmp_path: Path) -> None:
    """Of this process's own log every field counts, not only the text."""
    made = secret.new_secret()
    handler = secret_watch._Keep(str(tmp_path / "log"))
    record = logging.LogRecord("sseal", logging.INFO, "", 1, "no secret", None, None)
    record.field = made
    assert secret_watch.found_in(handler.format(record)) == [made]
    handler.close()


def test_short_words_are_no_secrets() -> None:
    """A password of a few letters may stand anywhere by accident."""
    secret_watch.remember("abc")
    assert secret_watch.found_in("abc") == []
