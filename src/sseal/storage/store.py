"""Small expiring records shared by all nodes (tickets, sessions, revocations), leases, and messages between nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from .leases import Changes, Held

__all__ = ["MAX_RECORDS", "Store", "StoreListener"]

MAX_RECORDS: Final = 1_000_000
"""Records at once; at about 500 bytes each half a gigabyte, far beyond what one process serves."""


class StoreListener(Protocol):
    """What a store tells its hub. Called in the event loop, never waits."""

    def on_revocations(self) -> None:
        """Learn that the revocation log may have grown: read on from the last number known."""
        ...

    def on_message(self, body: bytes) -> None:
        """Take a message that another node, or this one, sent to this node."""
        ...


class Store(Protocol):
    """Records shared by all hubs. Keys are text, values bytes, times Unix seconds by the hub's clock.

    Every method but `open` and `close` raises `Unavailable` when the store cannot be reached within 2 seconds.
    """

    async def open(self, node: str, listener: StoreListener) -> None:
        """Connect, and from now on be that node: messages to it arrive, and others find it in `nodes`.

        :raises Unavailable: the store cannot be reached now; may be called again.
        :raises InvalidInput: it can be reached but not be used; names the setting ``store``.
        """
        ...

    async def close(self) -> None:
        """Be no node any more and let go of everything; idempotent."""
        ...

    @property
    def lost_since(self) -> float | None:
        """Since when the store cannot be reached (``Clock.monotonic``); None while it can."""
        ...

    async def put(self, key: str, value: bytes, expires_at: float) -> None:
        """Write a record.

        :raises Unavailable: the store is full (``code="store_full"``) or cannot be reached.
        """
        ...

    async def get(self, key: str) -> bytes | None:
        """Read a record that has not expired."""
        ...

    async def take(self, key: str) -> bytes | None:
        """Read and delete in one step: of all callers on all nodes one gets it."""
        ...

    async def swap(self, key: str, old: bytes | None, new: bytes | None, expires_at: float) -> bool:
        """Write ``new`` (None deletes) if the record is still ``old`` (None: absent); tell whether it was."""
        ...

    async def count(self, key: str, seconds: float, by: int = 1) -> int:
        """Count under this key and return how many it were since its first, at most ``seconds`` ago.

        For limits that hold across nodes; the count starts anew when the time is over.

        :param by: how many to add; a negative number takes back what was counted, 0 only asks.
        """
        ...

    async def renew(self, owner: str, seconds: float) -> bool:
        """Hold the lease of an owner for so long from now on; tell whether it was held until now.

        What an owner has put into sets counts as long as its lease is held; when it lapses all of it is gone. So a
        False says: put everything in again. Only time in which the store answered counts: when nobody could renew for
        half of ``seconds``, every lease that was held before is held for ``seconds`` from then on.
        """
        ...

    async def release(self, owner: str) -> None:
        """Give back a lease and all that its owner has put into sets; idempotent."""
        ...

    async def enter(self, owner: str, changes: Changes) -> dict[str, int]:
        """Put entries into named sets, or take them out, in one step with counting.

        :param changes: (set, id) to the value of the entry, None to take it out. Ids are the owner's own: another
            owner's entry of the same id is another one.
        :returns: how many entries each of these sets then has, of all owners whose lease is held.
        :raises Unavailable: code ``lease_lapsed``: the owner holds no lease, and nothing was changed.
        """
        ...

    async def held(self, sets: Sequence[str]) -> dict[str, list[Held]]:
        """Return the entries of each of these sets whose owner's lease is held, by owner and id."""
        ...

    async def revoke(self, record: bytes, expires_at: float) -> int:
        """Append to the revocation log, and tell all nodes; return its number (1, 2, ...)."""
        ...

    async def revocations(self, after: int) -> list[tuple[int, bytes]]:
        """Read what is in force of the revocation log after a number, in order.

        A log that was lost and began anew has a newest number below ``after``; then everything is given.
        """
        ...

    async def send(self, node: str, body: bytes) -> bool:
        """Hand a message of at most 1 MiB to a node, at most once; return whether such a node is known.

        That it arrived is known only from an answer (W42).
        """
        ...

    async def broadcast(self, body: bytes) -> None:
        """Hand a message of at most 32 KiB to all other nodes that can be reached, without writing anything.

        For what must be said although the store is full. At most once, and nobody learns whether it arrived; this node
        may get it too.
        """
        ...

    async def nodes(self) -> list[str]:
        """Return the nodes that are alive, this one included; one that was killed leaves within 15 s."""
        ...
