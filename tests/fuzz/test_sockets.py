"""Anything over real sockets at a real `sseal serve`: no 500, no hang, no growth."""

from __future__ import annotations

from .conftest import Fuzz
from .hostile import complete, raw
from .target import Target

MORE_MEMORY = 16.0
"""MiB the server may have grown by after the warm-up: the allocator's arenas, and log and store until they are full.
Measured: 1 to 5. Ten kilobytes left behind by each of the thousands of requests would be more."""
ENOUGH = 400
"""Complete requests by which every kind of answer has come: the rarest is one in fifty. They take a few seconds."""
WARM_UP = 0.25
"""Part of the time that goes by before the first look."""


def test_whatever_a_client_sends_is_answered_or_closed_and_leaves_nothing(fuzz: Fuzz, target: Target) -> None:
    """Complete requests are answered, none with 500; the others are closed; memory and descriptors stay."""
    seconds = fuzz.share("sockets") / 2
    statuses: dict[int, int] = {}

    def ask(request: bytes) -> None:
        status = target.ask(request)
        statuses[status] = statuses.get(status, 0) + 1

    idle = target.size().descriptors
    fuzz.run(ask, complete(), seconds * WARM_UP)
    fuzz.run(target.throw, raw(), seconds * WARM_UP)
    before = target.settled(idle)
    count = fuzz.run(ask, complete(), seconds * (1 - WARM_UP), least=ENOUGH)
    count += fuzz.run(target.throw, raw(), seconds * (1 - WARM_UP))
    after = target.settled(before.descriptors)
    fuzz.say(f"sockets: {count} requests and throws, {before} before and {after} after; answers {statuses}")
    target.check_alive()
    assert target.complaints() == []
    assert after.descriptors <= before.descriptors, (before, after, count)
    assert after.memory - before.memory < MORE_MEMORY, (before, after, count)
    # It went deep: streams were opened, things were published, credentials and bodies were refused.
    assert {200, 201, 400, 401, 404, 405} <= set(statuses), statuses


def test_a_fault_of_the_server_would_be_noticed(target: Target) -> None:
    """The check is one that can fail: an unanswered request and a line about a fault are seen."""
    assert target.ask(b"GET /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") == 404
    assert target.ask(b"\x16\x03\x01\r\n\r\n") in (0, 400)
    assert target.complaints() == []
    with target._server.log.open("a") as log:
        log.write('{"level": "error", "message": "request failed"}\n')
    assert len(target.complaints()) == 1
