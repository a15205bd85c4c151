"""The log of many machines, on Redis or Valkey."""

from __future__ import annotations

from .broker import RedisBroker

__all__ = ["RedisBroker"]
