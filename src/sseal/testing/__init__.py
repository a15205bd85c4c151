"""For the tests of those who use sseal: a clock to turn by hand, streams without a server, proofs of engines."""

from __future__ import annotations

from .asgi import AsgiStream, Response, StreamEnded, open_stream, request
from .clock import ManualClock
from .conformance import BROKER_CHECKS, STORE_CHECKS, Check, ConformanceError, ConformanceFixture, Promise

__all__ = [
    "BROKER_CHECKS",
    "STORE_CHECKS",
    "AsgiStream",
    "Check",
    "ConformanceError",
    "ConformanceFixture",
    "ManualClock",
    "Promise",
    "Response",
    "StreamEnded",
    "open_stream",
    "request",
]
