"""The plain hub where a request head has little time."""

from __future__ import annotations

from server.apps import app
from sseal.server import uvicorn as direct_path

__all__ = ["app"]

direct_path.HEAD_PATIENCE = 1.0  # type: ignore[misc]
