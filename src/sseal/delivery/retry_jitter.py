"""Reconnect delays are jittered, so that clients that were disconnected together do not come back together."""

from __future__ import annotations

import random
from typing import Final

__all__ = ["MAX_TRANSIENT", "jittered", "transient_retry_ms"]

MAX_TRANSIENT: Final = 30.0
"""Seconds a client that is refused for now is asked to wait at most, before jitter: a ticket outlives it (W35)."""


def jittered(milliseconds: int) -> int:
    """Return the ``retry:`` of a stream: a delay that is up to a quarter shorter or longer."""
    return round(milliseconds * random.uniform(0.75, 1.25))  # noqa: S311 - not a secret


def transient_retry_ms(retry_after: float, shortest_ms: int) -> int:
    """Return the ``retry:`` of a stream that is refused for now (W35): the delay, up to doubled.

    :param retry_after: seconds after which it may be let in; a rate may be over for longer than is asked here.
    :param shortest_ms: the setting ``retry_ms``.
    """
    milliseconds = max(min(retry_after, MAX_TRANSIENT) * 1000.0, shortest_ms)
    return round(milliseconds * random.uniform(1.0, 2.0))  # noqa: S311 - not a secret
