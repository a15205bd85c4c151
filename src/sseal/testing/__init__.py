"""For the tests of those who use sseal: a clock to turn by hand, and endless streams without a server."""

from __future__ import annotations

from .asgi import AsgiStream, Response, StreamEnded, open_stream, request
from .clock import ManualClock

__all__ = ["AsgiStream", "ManualClock", "Response", "StreamEnded", "open_stream", "request"]
