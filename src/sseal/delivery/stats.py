"""What a hub counts."""

from __future__ import annotations

__all__ = ["Stats"]


class Stats:
    """Counters since the start, read by metrics and `/admin/stats`."""

    __slots__ = (
        "closed",
        "connections_closed",
        "connects",
        "delivered",
        "fanouts",
        "gaps",
        "history_reads",
        "published",
        "refused",
        "writes",
    )

    def __init__(self) -> None:
        self.published = 0
        self.delivered = 0
        self.writes = 0
        self.fanouts = 0
        self.gaps = 0
        self.history_reads = 0
        self.connects: dict[str, int] = {}
        self.refused: dict[str, int] = {}
        self.closed: dict[str, int] = {}
        self.connections_closed: dict[str, int] = {}

    def refuse(self, code: str) -> None:
        """Count a request that was refused, by the code of its error."""
        self.refused[code] = self.refused.get(code, 0) + 1
