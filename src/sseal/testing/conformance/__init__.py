"""Proves a `Broker` or a `Store`: every promise of the contracts as a function that fails when it is broken.

Await each check with a new `ConformanceFixture`. Checks need no test framework; none is imported here.
"""

from __future__ import annotations

from . import delivery, epochs, history, leases, messaging, publishing, records, retention, revocations
from .fixture import BROKER_CHECKS, STORE_CHECKS, Check, ConformanceError, ConformanceFixture, Promise

__all__ = ["BROKER_CHECKS", "STORE_CHECKS", "Check", "ConformanceError", "ConformanceFixture", "Promise"]

_ENTERED = (publishing, history, retention, delivery, epochs, records, leases, revocations, messaging)
"""What enters the checks, by being imported."""
