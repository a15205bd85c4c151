"""Errors that every engine of a store raises in the same words."""

from __future__ import annotations

from ..errors import Unavailable

__all__ = ["lease_lapsed", "store_full"]


def lease_lapsed() -> Unavailable:
    """Return the error of who puts something into a set without a lease."""
    return Unavailable("the lease has lapsed; renew it and put everything in again", code="lease_lapsed")


def store_full() -> Unavailable:
    """Return the error of one record, revocation or entry too many."""
    return Unavailable("the store is full", code="store_full", retry_after=5.0)
