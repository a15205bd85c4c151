"""Proves a `Broker` or a `Store`: every promise of the contracts as a function that fails when it is broken.

A check is awaited with a `World`, made for it alone. It needs no test framework, and none is imported here.
"""

from __future__ import annotations

from . import delivery, epochs, history, leases, messaging, publishing, records, retention, revocations
from .fixture import BROKER_CHECKS, STORE_CHECKS, Check, ConformanceError, Promise, World

__all__ = ["BROKER_CHECKS", "STORE_CHECKS", "Check", "ConformanceError", "Promise", "World"]

_ENTERED = (publishing, history, retention, delivery, epochs, records, leases, revocations, messaging)
"""What enters the checks, by being imported."""
