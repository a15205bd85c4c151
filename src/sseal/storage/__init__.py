"""What is kept: the log (`Broker`) and small expiring records (`Store`), by engine; `open` opens both by address."""

from __future__ import annotations

from .broker import CANARY_ROOT, Broker, Entry, IdempotencyKey, LogListener, Page, Publication, Retention
from .memory import MemoryBroker, MemoryStore
from .opening import Storage, open  # noqa: A004 - it is `storage.open` that people read
from .store import Store, StoreListener

__all__ = [
    "CANARY_ROOT",
    "Broker",
    "Entry",
    "IdempotencyKey",
    "LogListener",
    "MemoryBroker",
    "MemoryStore",
    "Page",
    "Publication",
    "Retention",
    "Storage",
    "Store",
    "StoreListener",
    "open",
]
