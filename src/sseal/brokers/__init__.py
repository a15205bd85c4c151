"""The log: publish puts in order, stores and hands out; history reads back."""

from __future__ import annotations

from .base import Broker, Draft, Entry, IdempotencyKey, Page, Retention
from .memory import MemoryBroker

__all__ = ["Broker", "Draft", "Entry", "IdempotencyKey", "MemoryBroker", "Page", "Retention"]
