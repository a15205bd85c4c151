"""Limits that hold at all hubs together, decided at the door of each without asking anybody.

Each hub counts by itself and, once a second, compares with the others through the store what is worth it: names that
have used up a quarter of their fair part of a limit here (`sseal.limits.RateLimiter`), and subjects and addresses with
so many streams. So a limit is exceeded by less than a quarter, plus what the hubs let in before they have compared:
a second, and longer for who is one of more than `MOST`. Streams of a subject that are too many all the same are ended
then. A hub alone compares nothing. While the store cannot be reached, each hub goes on with what it knew.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from itertools import islice
from operator import attrgetter
from typing import Final, NamedTuple

import msgspec

from ..clock import Clock
from ..errors import Policy, SsealError, TooManyRequests, Unavailable
from ..limits import WINDOW, Limits, RateLimiter, address_key
from ..storage.leases import Held
from ..storage.store import Store
from ..stream import reasons
from ..stream.connection import Connection
from .connections import Whose
from .node import Node
from .node_lease import Lease
from .node_rpc import NodeRpc

__all__ = ["EXCHANGE", "Quotas"]

EXCHANGE: Final = 1.0
"""Seconds between two comparisons."""
FORGET: Final = 15.0
"""Seconds without a comparison after which what was known of other hubs is known no more: they may be gone."""
MOST: Final = 500
"""Rates, and sets of streams, compared at once: a few milliseconds of the store. The others have their turn later."""
MANY: Final = 100_000
"""Subjects and addresses that wait to be compared while the store is away; beyond it, all that are there now are."""
SLICE: Final = 100
"""Subjects and addresses looked through before other work has its turn: a millisecond or two."""

logger = logging.getLogger("sseal.cluster")


class _Stream(NamedTuple):
    """A stream at any hub; in order of age."""

    opened_at: int  # Unix milliseconds
    id: str


class Quotas:
    """Everything that is counted per subject and per address at one hub.

    :param node: whose streams are counted, and ended when they are too many.
    :param cluster: tells another hub to end the oldest one there.
    """

    def __init__(self, store: Store, node: Node, rpc: NodeRpc, clock: Clock, limits: Limits) -> None:
        self.rates = RateLimiter(clock)
        self._store = store
        self._node = node
        self._rpc = rpc
        self._clock = clock
        self._limits = limits
        self._lease = Lease(store, node.id, clock)
        self._hubs = 1
        self._moved: dict[Whose, None] = {}  # whose streams have changed since they were compared
        self._shared: dict[Whose, set[str]] = {}  # the ids of our own streams that are in the store
        self._away: dict[Whose, list[_Stream]] = {}  # the streams of subjects at other hubs, as compared last
        self._away_from: dict[Whose, int] = {}  # how many of addresses
        self._compared = 0.0
        self._task: asyncio.Task[None] | None = None

    # -- rates ------------------------------------------------------------------------------------------

    def spend(self, what: str, per_minute: int, *names: str, by: int = 1) -> None:
        """Count something that has a rate.

        :param what: names the policy, such as ``connects-per-subject``.
        :param names: whose rate it is.
        :raises TooManyRequests: it was one too many; it does not count.
        """
        if not self.rates.hit(per_minute, what, *names, by=by):
            self.rates.hit(per_minute, what, *names, by=-by)
            raise self.exceeded(what, per_minute)

    def check(self, what: str, per_minute: int, *names: str) -> None:
        """Raise what `spend` would, without counting."""
        if not self.rates.allows(per_minute, what, *names):
            raise self.exceeded(what, per_minute)

    def exceeded(self, what: str, per_minute: int) -> TooManyRequests:
        """Return the refusal of one too many."""
        detail = f"too many {what.replace('-', ' ')} in a minute; at most {per_minute} are allowed"
        return TooManyRequests(
            detail, code="rate", retry_after=self.rates.reset, policy=Policy(what, per_minute, WINDOW)
        )

    # -- streams ----------------------------------------------------------------------------------------

    def full(self, address: str) -> TooManyRequests | None:
        """Return why an address may have no more streams, None if it may."""
        limit = self._limits.streams_per_address
        if not limit or not address:
            return None
        whose = ("address", address_key(address))
        count = self._node.count_streams(whose) + self._away_from.get(whose, 0)
        return None if count < limit else _full("streams-per-address", limit)

    def make_room(self, connection: Connection) -> None:
        """Make room for one more stream of its subject: the oldest goes, wherever it is (W45), or it is refused.

        :raises TooManyRequests: the subject has as many as it may, and ``limits.on_too_many`` is ``refuse``.
        """
        identity, limit = connection.subscription.identity, self._limits.streams_per_subject
        if not limit or identity.subject is None:
            return
        whose = ("subject", identity.issuer, identity.subject)
        away = self._away.get(whose, [])
        excess = self._node.count_streams(whose) + len(away) + 1 - limit
        if excess <= 0:
            return
        if self._limits.on_too_many == "refuse":
            raise _full("streams-per-subject", limit)
        # Opened at the same moment, the order of our own stays that in which they came.
        known = [*map(self._seen, self._node.streams_of(*whose[1:])), *away]
        for oldest in sorted(known, key=attrgetter("opened_at"))[:excess]:
            self._end(whose, oldest)

    # -- comparing --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to compare with other hubs."""
        self._task = asyncio.get_running_loop().create_task(self._exchange_forever(), name="sseal-quotas")

    async def close(self) -> None:
        """Give back what this hub holds."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._lease.close()
        except SsealError as error:
            logger.warning("what this hub counted lapses with its lease: %s", error)

    async def exchange(self) -> None:
        """Compare with the other hubs once.

        :raises Unavailable: the store cannot be reached now.
        """
        self._moved |= self._node.moved_streams()
        if len(self._moved) > MANY:
            self._moved = {**self._node.watch_streams(on=True), **dict.fromkeys(self._shared)}
        hubs = max(1, len(await self._store.nodes()))
        if hubs != self._hubs:
            await self._be_among(hubs)
        if self._hubs > 1:
            await self._compare_streams()
            await self._compare_rates()
            self._compared = self._clock.monotonic()

    async def _exchange_forever(self) -> None:
        while True:
            await asyncio.sleep(EXCHANGE)
            try:
                await self.exchange()
            except Unavailable:
                if self._clock.monotonic() - self._compared > FORGET:
                    self._away, self._away_from = {}, {}
            except Exception:
                logger.exception("limits could not be compared with other hubs; it is tried again")

    async def _be_among(self, hubs: int) -> None:
        """Adapt to more or fewer hubs: what is worth comparing changes with their number."""
        self._hubs = hubs
        self.rates.among(hubs)
        self._moved |= self._node.watch_streams(on=hubs > 1)
        if hubs == 1:
            self._moved = {}
            self._away, self._away_from, self._shared = {}, {}, {}
            await self._lease.close()

    async def _compare_streams(self) -> None:
        """Say what has changed here, and look what others hold: of whom it has changed first, then of all in turn."""
        moved = [whose for whose in self._moved if self._limit(whose)]
        for number, whose in enumerate(moved, start=1):
            self._share(whose)
            if number % SLICE == 0:
                await asyncio.sleep(0)
        await self._lease.sync()
        looked = list(islice(dict.fromkeys([*filter(self._shared.__contains__, moved), *self._shared]), self._most))
        held = await self._store.held([self._set(whose) for whose in looked]) if looked else {}
        for whose in looked:
            self._learn(whose, held[self._set(whose)])
            if whose in self._shared:
                self._shared[whose] = self._shared.pop(whose)  # it has had its turn
        self._moved = dict.fromkeys(moved[self._most :])

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

    @property
    def _most(self) -> int:
        """How many are compared at once: with many hubs fewer, so that the store has not more to do."""
        return max(1, MOST // max(1, self._hubs // 10))

    def _share(self, whose: Whose) -> None:
        """Put the streams of a subject or an address into the store if they are many, else take them out."""
        worth = self._node.count_streams(whose) * 4 * self._hubs >= self._limit(whose)
        now: dict[str, int] = {}
        if worth and whose[0] == "address":
            now = {"": self._node.count_streams(whose)}
        elif worth:
            now = {each.id: each.opened_at for each in map(self._seen, self._node.streams_of(*whose[1:]))}
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
        order = sorted([*map(self._seen, self._node.streams_of(*whose[1:])), *self._away[whose]])
        excess = max(0, len(order) - self._limits.streams_per_subject)
        for each in order[-excess:] if excess and self._limits.on_too_many == "refuse" else order[:excess]:
            self._end(whose, each)

    def _end(self, whose: Whose, stream: _Stream) -> None:
        """End a stream here, or have it ended where it is."""
        own = self._node.connections.get(stream.id)
        if own is not None:
            self._node.close(own, reasons.REPLACED)
            return
        self._away[whose] = [each for each in self._away[whose] if each.id != stream.id]
        self._rpc.cast(stream.id.partition(".")[0], "replace", connection=stream.id)

    async def _compare_rates(self) -> None:
        changed = self.rates.uncompared(self._most)
        totals = await asyncio.gather(*(self._store.count(f"rate/{name}", 2.0 * WINDOW, by) for _, name, by in changed))
        for (key, name, by), total in zip(changed, totals, strict=True):
            self.rates.learn(key, name, by, total)

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
