"""Leases and what they hold, in the memory of one process."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import lease_lapsed, store_full
from ..leases import Changes, Held

__all__ = ["Leases"]


class Leases:
    """The leases of one process, in memory. Time is an argument, in seconds.

    :param limit: entries at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries = 0  # of all owners, lapsed ones too
        self._ends: dict[str, tuple[float, float]] = {}  # owner to (when its lease ends, how long it is)
        self._sets: dict[str, dict[str, dict[str, bytes]]] = {}  # set, owner, id
        self._owned: dict[str, set[str]] = {}  # owner to the sets it has entries in

    def renew(self, owner: str, seconds: float, now: float) -> bool:
        """Hold a lease; see `Store.renew`."""
        holders = {name for name in self._ends if self._holds(name, now)}
        away = now - self._renewed
        for name, (end, length) in list(self._ends.items()):
            if name not in holders:
                self.release(name)
            elif away > length / 2 or end > now + length:  # nobody could renew, or the clock was set back
                self._ends[name] = (now + length, length)
        known = owner in self._ends
        self._ends[owner] = (now + seconds, seconds)
        return known

    def release(self, owner: str) -> None:
        """Give back a lease with everything under it."""
        self._ends.pop(owner, None)
        for name in self._owned.pop(owner, ()):
            owners = self._sets[name]
            self._entries -= len(owners.pop(owner))
            if not owners:
                del self._sets[name]

    def enter(self, owner: str, changes: Changes, now: float) -> dict[str, int]:
        """Put in, take out and count; see `Store.enter`."""
        if not self._holds(owner, now):
            raise lease_lapsed()
        new = sum(
            value is not None and key not in self._sets.get(name, {}).get(owner, {})
            for (name, key), value in changes.items()
        )
        if new and self._entries + new > self._limit:
            raise store_full()
        for (name, key), value in changes.items():
            if value is None:
                self._take_out(owner, name, key)
            else:
                ids = self._sets.setdefault(name, {}).setdefault(owner, {})
                self._entries += key not in ids
                ids[key] = value
                self._owned.setdefault(owner, set()).add(name)
        return {name: self._count(name, now) for name in {name for name, _ in changes}}

    def held(self, sets: Sequence[str], now: float) -> dict[str, list[Held]]:
        """Return what counts; see `Store.held`."""
        return {
            name: sorted(
                Held(owner, key, value)
                for owner, ids in self._sets.get(name, {}).items()
                if self._holds(owner, now)
                for key, value in ids.items()
            )
            for name in sets
        }

    @property
    def _renewed(self) -> float:
        """When a lease was last renewed: since then the store may have been away."""
        return max((end - length for end, length in self._ends.values()), default=0.0)

    def _holds(self, owner: str, now: float) -> bool:
        end, length = self._ends.get(owner, (0.0, 0.0))
        # Who held a lease when anybody last renewed holds it while nobody can, and gets a whole one afterwards.
        return end > now or (end > (renewed := self._renewed) and now - renewed > length / 2)

    def _count(self, name: str, now: float) -> int:
        return sum(len(ids) for owner, ids in self._sets.get(name, {}).items() if self._holds(owner, now))

    def _take_out(self, owner: str, name: str, id: str) -> None:  # noqa: A002 - what it is
        ids = self._sets.get(name, {}).get(owner, {})
        if ids.pop(id, None) is None:
            return
        self._entries -= 1
        if not ids:
            del self._sets[name][owner]
            self._owned[owner].discard(name)
            if not self._sets[name]:
                del self._sets[name]
