"""Revocations of all hubs: applied here at once, followed in the store's log, and written back when lost (W17).

The log in the store is what makes a revocation last and reach every hub. Two things can go wrong with it, and in both
a revocation stays in force as long as any hub that knows it is left:

- It cannot be written: the disk is full. Then it is handed to the other hubs without the log, every hub that knows it
  tries to write it from then on, and whoever revoked is told that it is not durable.
- It was lost: Redis was emptied, a backup put back. A hub notices because the last entry it read is not there any
  more, and because log or store say that they began anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from ..audit import Audit
from ..auth.identity import Identity
from ..auth.revocation import Revocation, RevocationSet
from ..clock import Clock
from ..errors import CredentialInvalid, SsealError, Unavailable
from ..storage.store import Store
from ..stream import reasons
from .node_rpc import NodeRpc
from .open_streams import OpenStreams

__all__ = ["Revocations"]

READ_RETRY_INTERVAL: Final = 0.5
"""Seconds between two attempts to read revocations that cannot be read."""
WRITE_BACK_INTERVALS: Final = (0.25, 5.0)
"""Seconds between two attempts to write revocations back, the first and the longest; each is jittered by half."""
CLAIM_TIMEOUT: Final = 30.0
"""Seconds for which one hub alone writes back; then it is taken for dead."""
WRITES_AT_ONCE: Final = 50
"""Revocations written back at the same time: they share commits and leave room for others."""
CLOCK_MARGIN: Final = 5.0
"""Seconds before its end from which on an entry may be gone from the log: clocks differ."""
_CLAIM: Final = "revocations/write-back"

Entries = Sequence[tuple[int, bytes]]

logger = logging.getLogger("sseal.delivery")


class Revocations:
    """What is revoked, as one hub knows it, and this hub's part in the revocation log of all.

    :param store: holds the log.
    :param rpc: reaches the other hubs when the log cannot be written.
    :param streams: the open streams, which a revocation ends.
    :param audit: told of each revocation that is applied.
    :ivar stale_since: since when (``Clock.monotonic``) the log cannot be read; None while it can.
    :ivar audited: whether what is applied is told to the audit; what is read at the start was told before.
    """

    def __init__(self, store: Store, rpc: NodeRpc, streams: OpenStreams, clock: Clock, audit: Audit) -> None:
        self.stale_since: float | None = None
        self.audited = False
        self._store = store
        self._rpc = rpc
        self._streams = streams
        self._clock = clock
        self._audit = audit
        self._in_force = RevocationSet()
        self._reading = asyncio.Lock()  # the log is read by one at a time
        self._last: tuple[int, bytes, float] | None = None  # the newest entry read, and when it ends
        self._seen = 0  # number of the newest entry read
        self._grew_again = False  # the log grew while it was read
        self._catching_up: asyncio.Task[None] | None = None
        self._writing_back: asyncio.Task[None] | None = None
        rpc.handlers["revoked"] = self._on_revoked

    def __len__(self) -> int:
        """Count what is in force or not yet pruned."""
        return len(self._in_force)

    def entries(self) -> Iterator[Revocation]:
        """Yield what is in force."""
        return self._in_force.entries()

    def revoked(self, identity: Identity) -> bool:
        """Tell whether an identity is revoked."""
        return self._in_force.revoked(identity)

    def check(self, identity: Identity) -> None:
        """Refuse an identity that was good a moment ago; with what follows in the same step it is good (W17).

        :raises CredentialInvalid: it was revoked, or has expired.
        """
        if self._in_force.revoked(identity):
            raise CredentialInvalid(
                "revoked", auth_method=identity.auth_method, kind="revoked", subject=identity.subject
            )
        if identity.expired(self._clock.wall()):
            raise CredentialInvalid(
                "expired meanwhile", auth_method=identity.auth_method, kind="expired", subject=identity.subject
            )

    def prune(self, now: float) -> None:
        """Forget what has run out (Unix seconds)."""
        self._in_force.prune(now)

    async def apply(self, revocation: Revocation) -> int:
        """Apply a revocation here at once, and have all hubs follow; return how many streams ended here.

        :raises Unavailable: the store did not take it. It is in force all the same, here and at each hub that can be
            reached, but does not outlive them.
        """
        ended = self.apply_here(revocation)  # first: what a full store cannot keep shall end here all the same
        try:
            await self._store.revoke(msgspec.json.encode(revocation), revocation.expires_at)
        except Unavailable as error:
            with contextlib.suppress(SsealError):
                await self._rpc.broadcast("revoked", revocation=msgspec.to_builtins(revocation))
            self._write_back()
            what = "the revocation is in force and was handed to the other hubs, but is not stored yet; send it again"
            raise Unavailable(f"{error.detail}: {what}", code=error.code, retry_after=error.retry_after) from error
        return ended

    def apply_here(self, revocation: Revocation) -> int:
        """Remember one revocation and end the streams here that it concerns; return how many.

        One that is known, such as one of our own that comes back with the log, has done so already, and no stream it
        concerns has been let in since.
        """
        if not self._in_force.add(revocation):
            return 0
        candidates = self._streams.index.candidates(revocation)
        ended = [c for c in candidates if revocation.concerns(c.subscription.identity)]
        for connection in ended:
            try:
                self._streams.close(connection, reasons.REVOKED)
            except Exception:  # one stream that cannot be closed must not keep the others open
                logger.exception("stream %s could not be closed", connection.id)
        if self.audited:
            self._audit.emit(
                "revocation_applied",
                kind=revocation.kind,
                target=revocation.value,
                target_issuer=revocation.issuer,
                ended=len(ended),
            )
        return len(ended)

    def on_revocations(self) -> None:
        """Read on in the log, and go on trying while that fails; for so long this hub is stale."""
        if self._catching_up is None or self._catching_up.done():
            self._catching_up = asyncio.get_running_loop().create_task(self._catch_up(), name="sseal-revocations")
        else:
            self._grew_again = True

    async def follow(self, *, anew: bool = False) -> Entries:
        """Read on in the log, and apply what is new; return what was read.

        :param anew: read all of it, because the log may be another one.
        """
        async with self._reading:
            entries: Entries = []
            # An entry that has run out is in no log, and so is no sign of one that is whole.
            anew = anew or (self._last is not None and self._last[2] <= self._clock.wall())
            if not anew:
                # The last entry once more: if it is not there, neither may be what came before it.
                entries = await self._store.revocations(self._seen if self._last is None else self._seen - 1)
                anew = self._last is not None and self._lost(self._last, entries)
            if anew:
                self._seen, self._last = 0, None
                entries = await self._store.revocations(0)
            found = [msgspec.json.decode(record, type=Revocation) for _, record in entries]
            if anew and self._missing(found) and self._write_back():
                logger.warning("the log of revocations lacks some that this hub knows: they are written back")
            for revocation in found:
                self.apply_here(revocation)
            if entries:
                self._seen = entries[-1][0]
                self._last = (*entries[-1], found[-1].expires_at)
            return entries

    async def close(self) -> None:
        """Stop what is under way."""
        tasks = [task for task in (self._catching_up, self._writing_back) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _catch_up(self) -> None:
        while True:
            self._grew_again = False
            try:
                await self.follow()
            except Exception as error:
                if self.stale_since is None:
                    self.stale_since = self._clock.monotonic()
                    logger.warning("revocations cannot be read: %s", error, exc_info=not isinstance(error, SsealError))
                await asyncio.sleep(READ_RETRY_INTERVAL)
                continue
            self.stale_since = None
            if not self._grew_again:
                return

    def _lost(self, last: tuple[int, bytes, float], entries: Entries) -> bool:
        number, record, ends = last
        return ends > self._clock.wall() + CLOCK_MARGIN and (number, record) not in entries

    def _missing(self, found: Sequence[Revocation]) -> list[Revocation]:
        """Return what this hub knows and a log with these entries does not say."""
        stored = RevocationSet()
        for revocation in found:
            stored.add(revocation)
        soon = self._clock.wall() + CLOCK_MARGIN
        return [known for known in self._in_force.entries() if known.expires_at > soon and stored.add(known)]

    async def _on_revoked(self, args: Mapping[str, object]) -> None:
        """Take a revocation that another hub could not write."""
        self.apply_here(msgspec.convert(args["revocation"], Revocation))
        self._write_back()

    def _write_back(self) -> bool:
        """Begin to write back what the log lacks; tell whether that was not under way already."""
        if self._writing_back is not None and not self._writing_back.done():
            return False
        self._writing_back = asyncio.get_running_loop().create_task(self._write_all(), name="sseal-write-back")
        return True

    async def _write_all(self) -> None:
        """Write what the log lacks, as soon as it can be; of all hubs one at a time, so that nothing is doubled."""
        interval, longest = WRITE_BACK_INTERVALS
        while True:
            await asyncio.sleep(interval * random.uniform(0.5, 1.5))  # noqa: S311 - only to be out of step with the others
            interval = min(2 * interval, longest)
            node = self._rpc.node_id.encode()
            try:
                # One's own claim is still there when it could not be given back: that is a write, too.
                if not (await self._claim(None, node) or await self._claim(node, node)):
                    continue
                try:
                    await self._write_missing()
                finally:
                    await self._store.swap(_CLAIM, node, None, 0.0)
                return
            except SsealError as error:
                logger.debug("revocations could not be written back yet: %s", error)

    async def _claim(self, held: bytes | None, node: bytes) -> bool:
        return await self._store.swap(_CLAIM, held, node, self._clock.wall() + CLAIM_TIMEOUT)

    async def _write_missing(self) -> None:
        entries = await self.follow(anew=True)
        missing = self._missing([msgspec.json.decode(record, type=Revocation) for _, record in entries])
        for start in range(0, len(missing), WRITES_AT_ONCE):
            writes = (
                self._store.revoke(msgspec.json.encode(each), each.expires_at)
                for each in missing[start : start + WRITES_AT_ONCE]
            )
            await asyncio.gather(*writes)
        if missing:
            logger.info("revocations written back", extra={"count": len(missing)})
