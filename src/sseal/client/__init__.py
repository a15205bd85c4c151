"""Reading an event stream, and publishing, from Python: authenticated, resuming, without a hub in the process."""

from __future__ import annotations

from ..extras import needed
from .backoff import Backoff
from .session import Bye, Gap, StreamClosed, StreamIdentity

with needed("sseal.client", "client"):
    from .calls import Token, publish
    from .stream import EventStream, OnGap, connect

__all__ = [
    "Backoff",
    "Bye",
    "EventStream",
    "Gap",
    "OnGap",
    "StreamClosed",
    "StreamIdentity",
    "Token",
    "connect",
    "publish",
]
