"""What the demo's feed says: how busy this machine is, measured once a second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]

__all__ = ["HostMeter"]


@dataclass(frozen=True, slots=True)
class _Counters:
    """Bytes since the machine started."""

    at: float
    disk_read: int
    disk_written: int
    received: int
    sent: int


class HostMeter:
    """Measures the machine; rates are those since the last reading.

    :param wall: Unix seconds.
    :param monotonic: seconds that never go back.
    """

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._number = 0  # of the last reading
        self._last = self._count()  # its counters
        psutil.cpu_percent(None)  # the first reading only sets the start

    def read(self) -> dict[str, object]:
        """Return the next event: percentages, and bytes per second."""
        last, now = self._last, self._count()
        self._last = now
        self._number += 1
        seconds = max(now.at - last.at, 0.001)

        def rate(before: int, after: int) -> int:
            return max(0, round((after - before) / seconds))  # a counter that was reset is no rate

        return {
            "seq": self._number,
            "at": round(self._wall(), 3),
            "cpu": psutil.cpu_percent(None),
            "memory": psutil.virtual_memory().percent,
            "disk": {
                "read": rate(last.disk_read, now.disk_read),
                "write": rate(last.disk_written, now.disk_written),
            },
            "disk_used": psutil.disk_usage("/").percent,
            "network": {"received": rate(last.received, now.received), "sent": rate(last.sent, now.sent)},
        }

    def _count(self) -> _Counters:
        # Both are None where the system does not tell, as in some containers.
        disk, network = psutil.disk_io_counters(), psutil.net_io_counters()
        return _Counters(
            self._monotonic(),
            disk.read_bytes if disk else 0,
            disk.write_bytes if disk else 0,
            network.bytes_recv if network else 0,
            network.bytes_sent if network else 0,
        )
