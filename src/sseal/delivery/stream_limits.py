"""How many streams may be open at once: of one hub, of one subject and of one client address, at all hubs together.

Decided at each hub without asking anybody, from its own streams and from what it learned of the others when they were
compared last (`sseal.delivery.limit_exchange`). A subject or an address with so many streams here that it matters is
shared with the others through the store. Streams of a subject that are too many all the same are ended then.
"""

from __future__ import annotations

import asyncio
import hashlib
from itertools import islice
from operator import attrgetter
from typing import Final, NamedTuple

import msgspec

from ..clock import Clock
from ..errors import Policy, SsealError, TooManyRequests, Unavailable
from ..limits import Limits, address_key
from ..storage.leases import Held
from ..storage.store import Store
from ..stream import reasons
from ..stream.connection import Connection
from .connection_index import Whose
from .node_lease import Lease
from .node_rpc import NodeRpc
from .open_streams import OpenStreams

__all__ = ["StreamLimits"]

MAX_WAITING: Final = 100_000
"""Subjects and addresses that wait to be compared while the store is away; beyond it, all that are there now are."""
SLICE: Final = 100
"""Subjects and addresses looked through before other work has its turn: a millisecond or two."""


class _Stream(NamedTuple):
    """A stream at any hub; in order of age."""

    opened_at: int  # Unix milliseconds
    id: str


class StreamLimits:
    """Counts open streams, and makes room or refuses when they are too many.

    :param streams: the streams that are counted, and ended when they are too many.
    :param rpc: tells another hub to end the oldest one there.
    """

    def __init__(self, store: Store, streams: OpenStreams, rpc: NodeRpc, clock: Clock, limits: Limits) -> None:
        self._store = store
        self._streams = streams
        self._rpc = rpc
        self._clock = clock
        self._limits = limits
        self._lease = Lease(store, rpc.node_id, clock)  # under which our own streams are in the store
        self._hubs = 1  # how many there are, this one included
        self._changed: dict[Whose, None] = {}  # whose streams have changed since they were compared
        self._shared: dict[Whose, set[str]] = {}  # the ids of our own streams that are in the store
        self._away: dict[Whose, list[_Stream]] = {}  # the streams of subjects at other hubs, as compared last
        self._away_from: dict[Whose, int] = {}  # how many of addresses

    def full(self, address: str) -> SsealError | None:
        """Return why one more stream from an address has no room, None if it has."""
        limits = self._limits
        if limits.streams and len(self._streams.index.by_id) >= limits.streams:
            return Unavailable("the hub is full", code="full", retry_after=5.0)
        if not limits.streams_per_address or not address:
            return None
        whose = ("address", address_key(address))
        count = self._streams.index.count(whose) + self._away_from.get(whose, 0)
        return None if count < limits.streams_per_address else _full("streams-per-address", limits.streams_per_address)

    def make_room(self, connection: Connection) -> None:
        """Make room for one more stream of its subject: the oldest goes, wherever it is (W45), or it is refused.

        :raises TooManyRequests: the subject has as many as it may, and ``limits.on_too_many`` is ``refuse``.
        """
        identity, limit = connection.subscription.identity, self._limits.streams_per_subject
        if not limit or identity.subject is None:
            return
        whose = ("subject", identity.issuer, identity.subject)
        away = self._away.get(whose, [])
        excess = self._streams.index.count(whose) + len(away) + 1 - limit
        if excess <= 0:
            return
        if self._limits.on_too_many == "refuse":
            raise _full("streams-per-subject", limit)
        # Opened at the same moment, the order of our own stays that in which they came.
        known = [*map(self._seen, self._streams.index.of_subject(*whose[1:])), *away]
        for oldest in sorted(known, key=attrgetter("opened_at"))[:excess]:
            self._end(whose, oldest)

    # -- comparing with other hubs ----------------------------------------------------------------------

    def collect(self) -> None:
        """Note whose streams have changed, to be compared when the store is in reach."""
        self._changed |= self._streams.index.take_changed()
        if len(self._changed) > MAX_WAITING:
            self._changed = {**self._streams.index.watch(on=True), **dict.fromkeys(self._shared)}

    async def among(self, hubs: int) -> None:
        """Be one of so many hubs: what is worth comparing changes with their number. Alone, nothing is."""
        self._hubs = hubs
        self._changed |= self._streams.index.watch(on=hubs > 1)
        if hubs == 1:
            self._changed = {}
            self._away, self._away_from, self._shared = {}, {}, {}
            await self._lease.close()

    def forget_others(self) -> None:
        """Know nothing of other hubs any more: they may be gone."""
        self._away, self._away_from = {}, {}

    async def close(self) -> None:
        """Give back what this hub holds in the store."""
        await self._lease.close()

    async def compare(self, most: int) -> None:
        """Tell the others what has changed here, and look what they hold: of whom it has changed first, then of all.

        :param most: subjects and addresses compared at once.
        :raises Unavailable: the store cannot be reached now.
        """
        changed = [whose for whose in self._changed if self._limit(whose)]
        for number, whose in enumerate(changed, start=1):
            self._share(whose)
            if number % SLICE == 0:
                await asyncio.sleep(0)
        await self._lease.sync()
        looked = list(islice(dict.fromkeys([*filter(self._shared.__contains__, changed), *self._shared]), most))
        held = await self._store.held([self._set(whose) for whose in looked]) if looked else {}
        for whose in looked:
            self._learn(whose, held[self._set(whose)])
            if whose in self._shared:
                self._shared[whose] = self._shared.pop(whose)  # it has had its turn
        self._changed = dict.fromkeys(changed[most:])

    def _learn(self, whose: Whose, entries: list[Held]) -> None:
        """Take what other hubs hold, and end what is too many."""
        others = [each for each in entries if each.owner != self._lease.owner]
        if whose[0] == "address":
            self._away_from[whose] = sum(int(each.value) for each in others)
        elif others:
            self._away[whose] = [_Stream(int(each.value), each.id) for each in others]
            self._end_excess(whose)
        else:
            self._away.pop(whose, None)

    def _share(self, whose: Whose) -> None:
        """Put the streams of a subject or an address into the store if they are many, else take them out."""
        worth = self._streams.index.count(whose) * 4 * self._hubs >= self._limit(whose)
        now: dict[str, int] = {}
        if worth and whose[0] == "address":
            now = {"": self._streams.index.count(whose)}
        elif worth:
            now = {each.id: each.opened_at for each in map(self._seen, self._streams.index.of_subject(*whose[1:]))}
        name = self._set(whose)
        for gone in self._shared.get(whose, set()).difference(now):
            self._lease.drop(name, gone)
        for each, value in now.items():
            self._lease.put(name, each, b"%d" % value)
        if now:
            self._shared[whose] = set(now)
        else:
            for known in (self._shared, self._away, self._away_from):
                known.pop(whose, None)  # too few here to be compared

    def _end_excess(self, whose: Whose) -> None:
        """End the streams of a subject that are too many, after several hubs let them in within one second.

        All hubs that compare them find the same ones, and ending one twice is nothing.
        """
        order = sorted([*map(self._seen, self._streams.index.of_subject(*whose[1:])), *self._away[whose]])
        excess = max(0, len(order) - self._limits.streams_per_subject)
        for each in order[-excess:] if excess and self._limits.on_too_many == "refuse" else order[:excess]:
            self._end(whose, each)

    def _end(self, whose: Whose, stream: _Stream) -> None:
        """End a stream here, or have it ended where it is."""
        own = self._streams.index.by_id.get(stream.id)
        if own is not None:
            self._streams.close(own, reasons.REPLACED)
            return
        self._away[whose] = [each for each in self._away[whose] if each.id != stream.id]
        self._rpc.cast(stream.id.partition(".")[0], "replace", connection=stream.id)

    def _limit(self, whose: Whose) -> int:
        return self._limits.streams_per_subject if whose[0] == "subject" else self._limits.streams_per_address

    def _seen(self, connection: Connection) -> _Stream:
        ago = self._clock.monotonic() - connection.opened_at
        return _Stream(round((self._clock.wall() - ago) * 1000.0), connection.id)

    @staticmethod
    def _set(whose: Whose) -> str:
        return f"streams/{hashlib.sha256(msgspec.json.encode(whose)).hexdigest()[:32]}"


def _full(what: str, limit: int) -> TooManyRequests:
    detail = f"too many {what.replace('-', ' ')}; at most {limit} may be open"
    return TooManyRequests(detail, code="full", retry_after=5.0, policy=Policy(what, limit, None))
