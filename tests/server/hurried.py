"""The plain hub where a request head has little time."""

from __future__ import annotations

from server.apps import app
from sseal.server.uvicorn import HttpLimits, StreamProtocol

__all__ = ["app"]

StreamProtocol.limits = HttpLimits(head_timeout=1.0)
