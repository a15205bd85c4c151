"""The log of `sseal serve`: complete, readable, without secrets and without lines that are not its own."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest

from sseal.auth.jwt import sign
from sseal.telemetry import logs

JWT = sign({"sub": "alice", "exp": 1}, "a-secret-for-tests-of-more-than-32-bytes")

Setup = Callable[..., io.StringIO]


@pytest.fixture
def setup() -> Iterator[Setup]:
    """Set logging up on a stream in memory; afterwards all loggers are as they were."""
    loggers = [
        logging.getLogger(),
        *(each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)),
    ]
    before = [(each, each.handlers[:], each.level, each.propagate) for each in loggers]

    def made(form: Literal["console", "json"] | None = "json", level: str = "info") -> io.StringIO:
        stream = io.StringIO()
        logs.setup(level=level, form=form, stream=stream)
        return stream

    yield made
    for each, handlers, level, propagate in before:
        each.handlers[:] = handlers
        each.setLevel(level)
        each.propagate = propagate


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    """Return the records of a JSON log."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_has_one_object_a_line_with_all_fields(setup: Setup) -> None:
    """A record of the standard library comes out with time, level, logger, message and its extra fields."""
    stream = setup()
    logging.getLogger("sseal.access").info("stream %s", "closed", extra={"subject": "alice", "seconds": 1.5})
    (record,) = records(stream)
    assert record.pop("time").endswith("Z")
    assert record == {
        "process": os.getpid(),
        "message": "stream closed",
        "level": "info",
        "logger": "sseal.access",
        "subject": "alice",
        "seconds": 1.5,
    }


def test_the_default_is_json_where_nobody_watches(setup: Setup) -> None:
    """Without a format a terminal gets the console form and everything else JSON."""
    stream = setup(form=None)
    logging.getLogger("sseal").info("hello")
    assert records(stream)[0]["message"] == "hello"


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_field_shows_a_secret(setup: Setup, form: str) -> None:
    """Message, arguments, fields, nested fields, odd objects and tracebacks are redacted."""

    class Odd:
        def __str__(self) -> str:
            return f"odd {JWT}"

    stream = setup(form=form)
    logger = logging.getLogger("anything")
    logger.warning("%s", f"/events?token={JWT}", extra={"a": JWT, "b": {"c": [JWT, JWT.encode()]}, "d": Odd()})
    try:
        raise ValueError(f"Bearer {JWT}")
    except ValueError:
        logger.exception("failed")
    shown = stream.getvalue()
    assert "ValueError" in shown
    assert not any(part in shown for part in JWT.split(".")[1:])


def test_a_field_cannot_forge_a_line(setup: Setup) -> None:
    """Line ends and escape sequences from outside are escaped on the console, and in JSON by nature."""
    for form in ("console", "json"):
        stream = setup(form=form)
        logging.getLogger("sseal.access").info("request", extra={"path": "/a\n00:00 [info] forged\x1b[2J\u2028"})
        shown = stream.getvalue()
        assert shown.count("\n") == 1
        assert "\x1b[2J" not in shown


def test_the_level_decides_what_is_logged(setup: Setup) -> None:
    """Records below the level are left out; other libraries are heard from warning on, unless it is debug."""
    stream = setup()
    logging.getLogger("sseal").debug("quiet")
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert [record["message"] for record in records(stream)] == ["Invalid HTTP request received."]
    stream = setup(level="debug")
    logging.getLogger("uvicorn.error").info("Started server process")
    assert len(records(stream)) == 1


def test_a_stream_ended_by_the_hub_is_no_error_of_the_app(setup: Setup) -> None:
    """What uvicorn says of a stream that was dropped because its client does not read is left out."""
    stream = setup()
    logging.getLogger("uvicorn.error").error("ASGI callable returned without completing response.")
    assert stream.getvalue() == ""
