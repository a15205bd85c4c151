"""Proves a `Broker` or a `Store`: every promise of the contracts as a function that fails when it is broken.

A check is awaited with a `World`, made for it alone. It needs no test framework, and none is imported here.
"""

from __future__ import annotations

from . import continuing, delivering, keeping, leasing, mailing, publishing, reading, records, revoking
from .world import BROKER_CHECKS, STORE_CHECKS, Check, ConformanceError, Promise, World

__all__ = ["BROKER_CHECKS", "STORE_CHECKS", "Check", "ConformanceError", "Promise", "World"]

_ENTERED = (publishing, reading, keeping, delivering, continuing, records, leasing, revoking, mailing)
"""What enters the checks, by being imported."""
