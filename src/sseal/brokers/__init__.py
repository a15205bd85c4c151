"""The log: publish puts in order, stores and hands out; history reads back."""

from __future__ import annotations

from .base import CANARY_ROOT, Broker, Draft, Entry, IdempotencyKey, Intake, Page, Retention
from .memory import MemoryBroker

__all__ = [
    "CANARY_ROOT",
    "Broker",
    "Draft",
    "Entry",
    "IdempotencyKey",
    "Intake",
    "MemoryBroker",
    "Page",
    "Retention",
]
