"""Logging of ``sseal serve``: one line per record on stderr, for people or as JSON, without secrets.

Everything in the package logs through the standard library; here its records, uvicorn's and those of any other
library are rendered by structlog. Each text in a record passes `redaction.redact`: the message, the fields, the
traceback.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor

from .redaction import redact

__all__ = ["LEVELS", "setup"]

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

_UNWANTED: Final = (
    "ASGI callable returned without completing response.",  # a stream whose client does not read: the hub reports it
    "Application startup failed. Exiting.",  # `serve` ends with the reason
)
"""What uvicorn says and others say better."""


def setup(
    *, level: str = "info", form: Literal["console", "json"] | None = None, stream: TextIO | None = None
) -> logging.Handler:
    """Send the records of all loggers to ``stream``, in place of whatever the root logger did before.

    :param level: debug, info, warning or error.
    :param form: None for console on a terminal, else JSON.
    :param stream: by default stderr.
    :returns: the handler, so that tests can take it off again.
    """
    stream = stream or sys.stderr
    on_terminal = stream.isatty()
    console = on_terminal if form is None else form == "console"
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(console=console, colors=console and on_terminal))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    _quieten(level)
    return handler


def _quieten(level: str) -> None:
    """Keep others from saying what ``serve`` says itself, unless everything is asked for."""
    wanted = logging.DEBUG if level == "debug" else max(LEVELS[level], logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "asyncio", "httpx2", "httpcore2"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(wanted)
    server = logging.getLogger("uvicorn.error")
    server.removeFilter(_expected)
    server.addFilter(_expected)


def _expected(record: logging.LogRecord) -> bool:
    return record.msg not in _UNWANTED


def _formatter(*, console: bool, colors: bool) -> logging.Formatter:
    common: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console, key="time"),
        structlog.processors.format_exc_info,
        _redacted,
    ]
    if console:
        renderer = structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="time", sort_keys=False, pad_event_to=14)
        final: list[Processor] = [_printable, renderer]
    else:
        common.append(_process)
        final = [structlog.processors.EventRenamer("message"), structlog.processors.JSONRenderer(default=str)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=common,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
    )


def _process(logger: Any, method: str, event: EventDict) -> EventDict:
    """Say which worker it was."""
    del logger, method
    event["process"] = os.getpid()
    return event


def _redacted(logger: Any, method: str, event: EventDict) -> EventDict:
    """Take secrets out of every field."""
    del logger, method
    for name, value in event.items():
        if not name.startswith("_"):  # structlog's own
            event[name] = _clean(value)
    return event


def _clean(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(_clean(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item) for item in value]
    if isinstance(value, bytes | bytearray):
        return redact(bytes(value).decode("utf-8", "backslashreplace"))
    return redact(str(value))


def _printable(logger: Any, method: str, event: EventDict) -> EventDict:
    """Escape what would move a terminal's cursor or begin a line that is not ours; tracebacks keep their lines."""
    del logger, method
    for name, value in event.items():
        if name == "exception":
            event[name] = "\n".join(_escaped(line) for line in str(value).split("\n"))
        elif isinstance(value, str):
            event[name] = _escaped(value)
    return event


def _escaped(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
