"""No secret the suite makes is ever written: what every server and every logger wrote is searched for all of them.

Secrets are noted where they are made: by `secret_hook/sitecustomize.py`, in this process and in every Python it starts,
in a file of this process. So each worker of a suite that is split over several knows its own, and that is enough: a
server ends in the process that started it.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from secret_hook.sitecustomize import FILE, MAKERS, Finder

__all__ = ["check", "check_logs", "found_in", "install", "remember"]

HOOK = Path(__file__).parent / "secret_hook"
SHORTEST = 8
"""Characters of a password that cannot stand in an output by accident."""

_tokens: set[str] = set()
_parts: dict[int, set[str]] = {}
_others: set[str] = set()
_read = 0
_log = ""

_RUN = re.compile(r"[a-z2-7]{26,}")
_SEGMENT = re.compile(r"[A-Za-z0-9_-]{30,}")
_TOKEN = re.compile(r"[a-z2-7]{26}")


def remember(*secrets: str) -> None:
    """Note secrets: tickets and sessions, JWTs, passwords, keys."""
    for secret in secrets:
        if _TOKEN.fullmatch(secret):
            _tokens.add(secret)
        elif secret.count(".") == 2 and secret.startswith("eyJ"):
            for part in secret.split(".")[1:]:
                _parts.setdefault(len(part), set()).add(part)
        elif len(secret) >= SHORTEST:
            _others.add(secret)


def install() -> None:
    """Watch what makes secrets, here and in every Python started from here; called before anybody imports that."""
    global _log
    folder = tempfile.mkdtemp(prefix="sseal-secrets-")
    os.environ[FILE] = f"{folder}/made"
    paths = [str(HOOK), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    early = [name for name in MAKERS if name in sys.modules]
    assert not early, f"imported before it could be watched: {early}"
    sys.meta_path.insert(0, Finder)  # type: ignore[arg-type]
    _log = f"{folder}/log"
    handler = _Keep(_log, encoding="utf-8")
    for name in ("sseal", "uvicorn", "uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).addHandler(handler)


class _Keep(logging.FileHandler):
    """Keeps every record with all its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return all that any formatter could show."""
        trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        return f"{record.getMessage()} {vars(record)!r} {trace}"


def found_in(text: str) -> list[str]:
    """Return the secrets that stand in a text."""
    _read_others_made()
    return sorted(set(_search(text)))


def check(text: str, where: str) -> None:
    """Fail if a secret stands in what something wrote."""
    if found := found_in(text):
        places = [line for line in text.splitlines() if any(secret in line for secret in found)]
        raise AssertionError(f"{where} wrote {len(found)} secrets: {found[:3]} in {places[:3]}")


def check_logs() -> None:
    """Fail if a secret stands in what was logged in this process."""
    for handler in logging.getLogger("sseal").handlers:
        handler.flush()
    if Path(_log).exists():
        check(Path(_log).read_text(encoding="utf-8"), "the log of the tests' own process")


def _read_others_made() -> None:
    global _read
    path = Path(os.environ[FILE])
    if path.exists():
        with path.open("rb") as file:
            file.seek(_read)
            complete, end, _ = file.read().rpartition(b"\n")
        _read += len(complete + end)
        remember(*complete.decode().splitlines())


def _search(text: str) -> Iterator[str]:
    """Yield what is found. Most secrets have a form that can be looked for, so their number does not matter."""
    for run in _RUN.findall(text):
        yield from _tokens.intersection(run[start : start + 26] for start in range(len(run) - 25))
    for segment in _SEGMENT.findall(text):
        for length, parts in _parts.items():
            yield from parts.intersection(segment[at : at + length] for at in range(len(segment) - length + 1))
    yield from (secret for secret in _others if secret in text)
