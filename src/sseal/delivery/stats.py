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
        self.published = 0  # events taken in from the log
        self.delivered = 0  # events written to streams, each stream counted
        self.writes = 0  # writes to sinks that held events
        self.fanouts = 0  # batches handed out to live streams
        self.gaps = 0  # gaps announced
        self.history_reads = 0  # pages read from the log
        self.connects: dict[str, int] = {}  # streams opened, by auth method
        self.refused: dict[str, int] = {}  # requests refused, by the code of their error
        self.closed: dict[str, int] = {}  # streams closed, by the name of the reason
        self.connections_closed: dict[str, int] = {}  # HTTP connections the server closed, by reason

    def refuse(self, code: str) -> None:
        """Count a request that was refused, by the code of its error."""
        self.refused[code] = self.refused.get(code, 0) + 1

    def opened(self, auth_method: str) -> None:
        """Count a stream that was opened."""
        self.connects[auth_method] = self.connects.get(auth_method, 0) + 1

    def ended(self, reason: str) -> None:
        """Count a stream that was closed, by the name of the reason."""
        self.closed[reason] = self.closed.get(reason, 0) + 1
