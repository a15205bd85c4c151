"""What is kept: the log (`Broker`) and small expiring records (`Store`), by engine; `open` opens both by address."""

from __future__ import annotations

from .broker import CANARY_ROOT, Broker, Draft, Entry, IdempotencyKey, Intake, Page, Retention
from .memory import MemoryBroker, MemoryStore
from .opening import Storage, open  # noqa: A004 - it is `storage.open` that people read
from .store import Heard, Store

__all__ = [
    "CANARY_ROOT",
    "Broker",
    "Draft",
    "Entry",
    "Heard",
    "IdempotencyKey",
    "Intake",
    "MemoryBroker",
    "MemoryStore",
    "Page",
    "Retention",
    "Storage",
    "Store",
    "open",
]
