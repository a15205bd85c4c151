"""Reading an event stream, and publishing, from Python: authenticated, resuming, without a hub in the process."""

from __future__ import annotations

from .backoff import Backoff
from .calls import Token, publish
from .session import Bye, Gap, StreamClosed, StreamIdentity
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
