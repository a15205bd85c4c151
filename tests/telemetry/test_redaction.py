"""Redaction: what leaves a process through a log holds no credential."""

from __future__ import annotations

import logging
from base64 import urlsafe_b64encode
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseal.auth.jwt import sign
from sseal.telemetry import redaction
from sseal.telemetry.redaction import LOGGERS, RedactFilter, redact

JWT = sign({"sub": "alice", "exp": 1}, "a-secret-for-tests-of-more-than-32-bytes")
TICKET = "abcdefghijklmnopqrstuvwxyz"
PAYLOAD = JWT.split(".")[1]
SPACED = urlsafe_b64encode(b'{ "sub": "alice", "exp": 1 }').decode().rstrip("=")
GLUE = st.text(alphabet="abcxyzABCXYZ0123456789_-./?&=%: ", max_size=5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"GET /events?topic=a&token={JWT} HTTP/1.1", "GET /events?topic=a&token=[redacted] HTTP/1.1"),
        ("/events?token=opaque&topic=a", "/events?token=[redacted]&topic=a"),
        ("/events?ticket=opaque", "/events?ticket=[redacted]"),
        ("/x?access_token=opaque;y=1", "/x?access_token=[redacted];y=1"),
        (f'"GET /events/{TICKET} HTTP/1.1" 200', '"GET /events/[redacted] HTTP/1.1" 200'),
        (f"/hub/events/{TICKET}?topic=a", "/hub/events/[redacted]?topic=a"),
        (f"Last-Event-ID: {TICKET}_abcd1234-17", "Last-Event-ID: [redacted]_abcd1234-17"),
        ("Authorization: Bearer opaque-token", "Authorization: Bearer [redacted]"),
        ("authorization: bearer opaque-token", "authorization: bearer [redacted]"),
        (f"/x/{PAYLOAD}", "/x/[redacted]"),
        (f"GET /{PAYLOAD}/tail HTTP/1.1", "GET /[redacted]/tail HTTP/1.1"),
        (f"seen {PAYLOAD}.", "seen [redacted]"),
        (f"/{SPACED}?topic=a", "/[redacted]?topic=a"),
        (f"A{TICKET}", "A[redacted]"),
        (f"{TICKET}9X{TICKET}", "[redacted]9X[redacted]"),
        (f"session:{TICKET}Z", "session:[redacted]Z"),
        (f"/events{TICKET}", "/[redacted]"),
    ],
)
def test_every_way_in_is_blanked(text: str, expected: str) -> None:
    """Each place a credential can stand in a line of log is blanked, and the rest of the line stays."""
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "GET /events?topic=user/alice HTTP/1.1",
        "GET /events HTTP/1.1",
        "GET /events/ HTTP/1.1",
        "stream closed",
        "abcd1234-17",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """Topics, positions and sentences are not touched."""
    assert redact(text) == text


@given(st.text(alphabet=" /?&=.,:;'\"[]", max_size=5), st.text(alphabet=" /?&,:;'\"[]", max_size=5))
def test_a_jwt_is_blanked_wherever_it_stands(before: str, after: str) -> None:
    """Payload and signature of a JWT never come through, whatever stands around them."""
    shown = redact(f"{before}{JWT}{after}")
    _, payload, signature = JWT.split(".")
    assert payload not in shown
    assert signature not in shown


@given(GLUE, GLUE)
def test_a_ticket_is_blanked_whatever_is_glued_to_it(before: str, after: str) -> None:
    """No neighbour hides a ticket: not a letter, a digit, an underscore or another ticket."""
    assert TICKET not in redact(f"{before}{TICKET}{after}")
    assert TICKET not in redact(f"{before}{TICKET}{TICKET}{after}")


@given(GLUE, GLUE, st.sampled_from([JWT, PAYLOAD, SPACED]))
def test_a_payload_is_blanked_whatever_is_glued_to_it(before: str, after: str, secret: str) -> None:
    """The claims of a JWT say who somebody is, with or without the rest of the token."""
    assert secret.split(".")[-1 if secret is not JWT else 1] not in redact(f"{before}{secret}{after}")


@given(st.text(max_size=60))
def test_redacting_twice_changes_nothing(text: str) -> None:
    """What was redacted once is safe to redact again, as happens where two filters meet."""
    once = redact(text)
    assert redact(once) == once


@pytest.fixture
def untouched() -> Iterator[None]:
    """Give the loggers their filters back afterwards."""
    before = {name: logging.getLogger(name).filters[:] for name in LOGGERS}
    for name in LOGGERS:
        logging.getLogger(name).filters.clear()
    yield
    for name, filters in before.items():
        logging.getLogger(name).filters[:] = filters


@pytest.mark.usefixtures("untouched")
def test_install_filters_each_access_log_once() -> None:
    """After install() every known access log is filtered, by one filter however often it is called."""
    assert not redaction.installed()
    redaction.install()
    redaction.install()
    assert redaction.installed()
    assert all(len(logging.getLogger(name).filters) == 1 for name in LOGGERS)


@pytest.mark.usefixtures("untouched")
def test_the_line_uvicorn_writes_is_filtered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uvicorn's access record, whose path is an argument, comes out without the token."""
    redaction.install()
    written: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(record.getMessage())

    logger = logging.getLogger("uvicorn.access")
    monkeypatch.setattr(logger, "handlers", [Keep()])
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "disabled", False)
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", f"/events?token={JWT}", "1.1", 200)
    assert written == ['127.0.0.1:1 - "GET /events?token=[redacted] HTTP/1.1" 200']


def test_the_filter_handles_named_arguments_and_drops_nothing() -> None:
    """Arguments given by name are redacted too, other objects stay, and every record passes."""
    record = logging.LogRecord("x", logging.INFO, "", 1, "%(path)s %(n)d", ({"path": "/x?token=abc", "n": 3},), None)
    assert RedactFilter().filter(record)
    assert record.getMessage() == "/x?token=[redacted] 3"
    odd = logging.LogRecord("x", logging.INFO, "", 1, object(), None, None)
    assert RedactFilter().filter(odd)
