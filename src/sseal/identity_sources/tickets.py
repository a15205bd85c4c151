"""One-time tickets and the resume families that grow from them (W11, W14, W35)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import msgspec

from ..auth.family import LOCATOR_LENGTH, TOKEN_LENGTH, Family, hashed, locator
from ..auth.identity import Identity
from ..auth.origin import Caller, OriginPolicy, advice
from ..clock import Clock
from ..errors import CredentialExpired, CredentialInvalid, Unavailable
from ..position import MAX_OFFSET, Lineage, Position
from ..storage.store import Store
from .secret import new_secret

__all__ = ["RedeemedTicket", "SpentTicket", "Tickets", "VoidToken"]

MAX_GRACES: Final = 5
"""Transient refusals in a row that a ticket survives: ten minutes with the defaults."""
_ATTEMPTS: Final = 8
"""Tries to change a family record against other hubs; each loser means that a winner got through."""


class SpentTicket(CredentialInvalid):
    """A ticket that is unknown, used or late; beside a resume token of its family it is a browser coming back."""

    def __init__(self) -> None:
        super().__init__("unknown, used or late", auth_method="ticket", kind="unknown")


class VoidToken(CredentialInvalid):
    """A resume token that was superseded: somebody has it who should not. Its family has ended.

    ``identity`` is the family's.
    """

    def __init__(self, identity: Identity) -> None:
        super().__init__(
            "superseded: its family has ended", auth_method="resume", kind="superseded", subject=identity.subject
        )
        self.identity = identity


class TicketRecord(msgspec.Struct, frozen=True):
    """What a ticket stands for."""

    identity: Identity
    topics: list[str]
    origin: str | None
    expires_at: float
    issued_at: float


class FamilyRecord(msgspec.Struct, frozen=True):
    """A family, whose it is, the ticket it grew from, and the node of its newest stream."""

    identity: Identity
    topics: list[str]
    ticket: str
    origin: str | None
    family: Family
    node: str = ""


class RedeemedTicket(msgspec.Struct, frozen=True):
    """What a ticket or resume token opens.

    :param identity: derived from whoever got the ticket; carries the family.
    :param topics: what the ticket was bound to.
    :param token: the resume token for the ids of the new stream.
    :param ticket: hash of the ticket, for the family record of a first use; None on a resume.
    :param origin: the Origin the ticket is bound to, for the same.
    :param issued_at: when the ticket was issued, for giving it back.
    :param previous_node: the node that held the family's stream before this resume.
    """

    identity: Identity
    topics: list[str]
    token: str
    ticket: str | None = None
    origin: str | None = None
    issued_at: float = 0.0
    previous_node: str = ""


class Tickets:
    """Issues and redeems tickets, and resumes the streams they opened.

    :param ttl: seconds an unused ticket is good.
    :param grace: seconds it is good after a transient refusal.
    :param resume_ttl: seconds a family lives after it was last touched; never beyond its identity.
    :param node: the name of this hub, so that others know where a family's stream is.
    """

    def __init__(
        self, store: Store, clock: Clock, *, ttl: float, grace: float, resume_ttl: float, node: str = ""
    ) -> None:
        self._store = store
        self._clock = clock
        self.ttl = ttl
        self._grace = grace
        self._resume_ttl = resume_ttl
        self._node = node

    async def issue(self, identity: Identity, topics: list[str], origin: str | None) -> str:
        """Return a new ticket for an identity, bound to topics and to the Origin that asked for it."""
        ticket = new_secret()
        now = self._clock.wall()
        expires_at = now + self.ttl
        if identity.expires_at is not None:
            expires_at = min(expires_at, identity.expires_at)
        record = TicketRecord(identity, topics, origin, expires_at, now)
        await self._store.put(_ticket_key(ticket), msgspec.json.encode(record), expires_at)
        return ticket

    async def redeem(self, ticket: str, caller: Caller, policy: OriginPolicy) -> RedeemedTicket:
        """Spend a ticket. Whatever is wrong with it, it is spent.

        :raises CredentialInvalid: unknown, used, late, or from another Origin.
        :raises CredentialExpired: the identity behind it has expired.
        """
        if len(ticket) != TOKEN_LENGTH:
            raise SpentTicket
        raw = await self._store.take(_ticket_key(ticket))
        if raw is None:
            raise SpentTicket
        record = msgspec.json.decode(raw, type=TicketRecord)
        if not policy.allows_ticket(caller, record.origin):
            raise _foreign("ticket", record, caller)
        if record.identity.expired(self._clock.wall()):
            raise CredentialExpired(
                "the identity behind it has expired", auth_method="ticket", subject=record.identity.subject
            )
        token = new_secret()
        identity = record.identity.derive(
            auth_method="ticket", token_id=None, expires_at=None, family=_family_id(token)
        )
        return RedeemedTicket(identity, record.topics, token, hashed(ticket), record.origin, record.issued_at)

    async def extend(self, ticket: str) -> None:
        """Let an unspent ticket live on after a transient refusal (W35)."""
        raw = await self._store.get(_ticket_key(ticket))
        if raw is None:
            return
        record = msgspec.json.decode(raw, type=TicketRecord)
        ends = self._grace_end(record.identity, record.issued_at)
        if ends > record.expires_at:
            kept = msgspec.structs.replace(record, expires_at=ends)
            await self._store.swap(_ticket_key(ticket), raw, msgspec.json.encode(kept), ends)

    async def unredeem(self, redeemed: RedeemedTicket) -> None:
        """Give back a ticket whose stream was refused for now only after it had been redeemed (W35)."""
        if redeemed.ticket is None:
            return
        identity = replace(redeemed.identity, family=None)
        ends = self._grace_end(identity, redeemed.issued_at)
        record = TicketRecord(identity, redeemed.topics, redeemed.origin, ends, redeemed.issued_at)
        await self._store.take(_family_key(redeemed.token))
        await self._store.put(f"ticket/{redeemed.ticket}", msgspec.json.encode(record), ends)

    async def start_family(self, redeemed: RedeemedTicket, start: Position) -> None:
        """Open the family of a ticket's first stream, which starts at ``start``."""
        family = Family.start(hashed(redeemed.token), str(start))
        assert redeemed.ticket is not None
        record = FamilyRecord(redeemed.identity, redeemed.topics, redeemed.ticket, redeemed.origin, family, self._node)
        ends = self._family_end(redeemed.identity)
        if not await self._store.swap(_family_key(redeemed.token), None, msgspec.json.encode(record), ends):
            raise Unavailable("two families met under one name; ask for a new ticket")

    async def resume(
        self,
        token: str,
        presented: Position,
        lineage: Lineage,
        caller: Caller,
        policy: OriginPolicy,
        *,
        head: int = MAX_OFFSET,
        revoked: Callable[[Identity], bool] = lambda _: False,
        ticket: str | None = None,
    ) -> RedeemedTicket:
        """Let the bearer of a resume token in, by the table in `sseal.auth.family`.

        :param head: the offset at the head of the log.
        :param revoked: tells whether an identity was revoked; such a family is not kept alive by asking (W17).
        :param ticket: the spent ticket in the URL, if there was one: the token must be of its family.
        :raises VoidToken: superseded; the family has ended and the hub must end its streams.
        :raises CredentialInvalid: unknown, of another ticket or Origin, or a position before the token's own.
        """
        key = _family_key(token)
        for _ in range(_ATTEMPTS):
            raw = await self._store.get(key)
            if raw is None:
                raise CredentialInvalid("unknown or ended family", auth_method="resume", kind="unknown")
            record = msgspec.json.decode(raw, type=FamilyRecord)
            if ticket is not None and record.ticket != hashed(ticket):
                raise CredentialInvalid("not of this ticket's family", auth_method="resume", kind="unknown")
            if not policy.allows_ticket(caller, record.origin):
                raise _foreign("resume", record, caller)
            self._check_alive(record.identity, revoked)
            child = locator(token) + new_secret(TOKEN_LENGTH - LOCATOR_LENGTH)
            issued = presented
            if lineage.resolve(presented, head).reason == "ahead":
                issued = Position(lineage.epoch, head)
            verdict = record.family.resume(hashed(token), presented, hashed(child), lineage, issued)
            if verdict.outcome == "unknown":
                raise CredentialInvalid("not a token of its family", auth_method="resume", kind="unknown")
            if verdict.outcome == "void":
                if await self._store.swap(key, raw, None, 0.0):
                    raise VoidToken(record.identity)
                continue
            if verdict.family is None or verdict.outcome == "before_issue":
                what, subject = "a position before the token's own", record.identity.subject
                raise CredentialInvalid(what, auth_method="resume", kind="position", subject=subject)
            changed = msgspec.structs.replace(record, family=verdict.family, node=self._node)
            ends = self._family_end(record.identity)
            if await self._store.swap(key, raw, msgspec.json.encode(changed), ends):
                identity = record.identity.derive(
                    auth_method="resume", token_id=None, expires_at=None, family=record.identity.family
                )
                return RedeemedTicket(identity, record.topics, child, previous_node=record.node)
        raise Unavailable("too many hubs resume this stream at once", code="contended")

    async def touch(self, family: str, fresh: Identity | None = None) -> str | None:
        """Keep the family of a live stream alive; with a fresh identity, follow that one from now on.

        :returns: the node that holds the family's newest stream; None for a family that is over.
        """
        key = f"family/{family}"
        for _ in range(_ATTEMPTS):
            raw = await self._store.get(key)
            if raw is None:
                return None
            record = msgspec.json.decode(raw, type=FamilyRecord)
            if fresh is not None:
                record = msgspec.structs.replace(record, identity=fresh)
            if await self._store.swap(key, raw, msgspec.json.encode(record), self._family_end(record.identity)):
                return record.node
        return None

    async def node_of(self, family: str) -> str | None:
        """Return the node that holds the newest stream of a family; None for a family that is over."""
        raw = await self._store.get(f"family/{family}")
        return None if raw is None else msgspec.json.decode(raw, type=FamilyRecord).node

    def _grace_end(self, identity: Identity, issued_at: float) -> float:
        ends = min(self._clock.wall() + self._grace, issued_at + self.ttl + MAX_GRACES * self._grace)
        return ends if identity.expires_at is None else min(ends, identity.expires_at)

    def _check_alive(self, identity: Identity, revoked: Callable[[Identity], bool]) -> None:
        if identity.expired(self._clock.wall()):
            raise CredentialExpired(
                "the identity behind it has expired", auth_method="resume", subject=identity.subject
            )
        if revoked(identity):
            raise CredentialInvalid("revoked", auth_method="resume", kind="revoked", subject=identity.subject)

    def _family_end(self, identity: Identity) -> float:
        end = self._clock.wall() + self._resume_ttl
        return end if identity.expires_at is None else min(end, identity.expires_at)


def _foreign(auth_method: str, record: TicketRecord | FamilyRecord, caller: Caller) -> CredentialInvalid:
    """Return the refusal of a page that is not the one it was minted for or, minted by a server, is not known."""
    reason = f"from another Origin, {caller.origin or 'which the browser does not name'}"
    if record.origin is None:
        reason += advice(caller.origin)
    return CredentialInvalid(reason, auth_method=auth_method, kind="origin", subject=record.identity.subject)


def _ticket_key(ticket: str) -> str:
    return f"ticket/{hashed(ticket)}"


def _family_key(token: str) -> str:
    return f"family/{_family_id(token)}"


def _family_id(token: str) -> str:
    return hashed(locator(token))[:32]
