"""The event stream itself: frames out, events in, no I/O and no clock (spec/protocol.md)."""

from __future__ import annotations

from .control import AuthState, auth_event, bye_event, gap_event
from .decoder import DEFAULT_MAX_EVENT, DEFAULT_MAX_LINE, Decoder
from .encoder import (
    FRAME_START,
    HEARTBEAT,
    check_line,
    encode,
    envelope_data,
    frame_tail,
    sealed_start,
    utf8_length,
)
from .event import MAX_RETRY, RESERVED_TYPES, Event

__all__ = [
    "DEFAULT_MAX_EVENT",
    "DEFAULT_MAX_LINE",
    "FRAME_START",
    "HEARTBEAT",
    "MAX_RETRY",
    "RESERVED_TYPES",
    "AuthState",
    "Decoder",
    "Event",
    "auth_event",
    "bye_event",
    "check_line",
    "encode",
    "envelope_data",
    "frame_tail",
    "gap_event",
    "sealed_start",
    "utf8_length",
]
