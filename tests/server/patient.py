"""The plain hub where a request has all the time of a test to arrive after the server began to end."""

from __future__ import annotations

from server.apps import app
from sseal.server import protocol

__all__ = ["app"]

protocol.LAST_HEAD_TIMEOUT = 20.0  # type: ignore[misc]
