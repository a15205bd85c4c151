"""Tickets and the families that grow from them, below HTTP."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from asgi.driver import T0
from sseal.auth.identity import Grants, Identity
from sseal.auth.origin import Caller, OriginPolicy
from sseal.errors import CredentialInvalid, SsealError
from sseal.identity_sources.tickets import RedeemedTicket, SpentTicket, Tickets, VoidToken
from sseal.position import Lineage, Position
from sseal.storage import MemoryStore
from sseal.testing import ManualClock

EPOCH = "k3v9x0aa"
LINEAGE = Lineage(EPOCH)
OWN, PAGE, EVIL = "https://hub.example", "https://app.example", "https://evil.example"
POLICY = OriginPolicy([PAGE])
QUIET = Caller(origin=None, own=OWN, fetch_site=None)
ALICE = Identity(
    subject="alice",
    issuer="iss",
    grants=Grants(subscribe=("a/*",)),
    issued_at=T0,
    expires_at=T0 + 1000,
    token_id="jti:1",
    auth_method="bearer",
)


def at(offset: int) -> Position:
    """Return a position."""
    return Position(EPOCH, offset)


class Desk:
    """A ticket desk over a store, and its clock."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self.tickets = Tickets(self.store, self.clock, ttl=30.0, grace=120.0, resume_ttl=100.0)

    async def redeem(self, ticket: str, caller: Caller = QUIET) -> RedeemedTicket:
        """Spend a ticket."""
        return await self.tickets.redeem(ticket, caller, POLICY)

    async def first(self, start: int = 0, **options: Any) -> tuple[str, RedeemedTicket]:
        """Issue and spend a ticket and open its family."""
        ticket = await self.tickets.issue(options.pop("identity", ALICE), ["a/b"], options.pop("origin", None))
        redeemed = await self.redeem(ticket, **options)
        await self.tickets.start_family(redeemed, at(start))
        return ticket, redeemed

    async def resume(self, token: str, offset: int = 0, caller: Caller = QUIET, **options: Any) -> RedeemedTicket:
        """Come back."""
        options = {"head": 10**6, "revoked": lambda identity: False, **options}
        return await self.tickets.resume(token, at(offset), LINEAGE, caller, POLICY, **options)


@pytest.fixture
def desk() -> Desk:
    """Return an empty desk."""
    return Desk()


async def test_a_ticket_opens_one_stream_of_whoever_got_it(desk: Desk) -> None:
    """Identity, grants, topics and lineage come back; a second use is refused."""
    ticket = await desk.tickets.issue(ALICE, ["a/b"], None)
    redeemed = await desk.redeem(ticket)
    assert redeemed.identity.same_person(ALICE)
    assert redeemed.identity.grants == ALICE.grants
    assert redeemed.identity.parent_ids == ("jti:1",)
    assert redeemed.identity.expires_at == ALICE.expires_at
    assert redeemed.identity.family
    assert redeemed.topics == ["a/b"]
    with pytest.raises(SpentTicket):
        await desk.redeem(ticket)


async def test_tickets_and_tokens_are_random_and_stored_hashed(desk: Desk) -> None:
    """130 bits each, of the alphabet of the wire, and a copy of the store is worth nothing (W31)."""
    secrets = []
    for _ in range(10):
        ticket, redeemed = await desk.first()
        secrets += [ticket, redeemed.token]
    assert len(set(secrets)) == 20
    assert all(re.fullmatch("[a-z2-7]{26}", secret) for secret in secrets)
    stored = repr(desk.store._records)
    assert not any(secret in stored for secret in secrets)


@pytest.mark.parametrize("ticket", ["", "x", "a" * 26, "a" * 27, "é" * 26, "../" * 9, "\x00" * 26])
async def test_an_unknown_ticket_is_refused(desk: Desk, ticket: str) -> None:
    """Whatever it looks like, it is a spent one."""
    with pytest.raises(SpentTicket):
        await desk.redeem(ticket)


async def test_of_many_at_once_one_redeems(desk: Desk) -> None:
    """A ticket is single use under a race too."""
    ticket = await desk.tickets.issue(ALICE, ["a/b"], None)
    results = await asyncio.gather(*(desk.redeem(ticket) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(result, RedeemedTicket) for result in results) == 1


@pytest.mark.parametrize(("life", "good_for"), [(1000.0, 30.0), (10.0, 10.0)])
async def test_a_ticket_ends_with_its_time_or_its_identity(desk: Desk, life: float, good_for: float) -> None:
    """It is good for 30 s and never beyond the identity behind it."""
    identity = Identity(subject="alice", expires_at=T0 + life)
    good, late = [await desk.tickets.issue(identity, [], None) for _ in range(2)]
    desk.clock.advance(good_for - 0.1)
    await desk.redeem(good)
    desk.clock.advance(0.1)
    with pytest.raises(SpentTicket):
        await desk.redeem(late)


@pytest.mark.parametrize(
    ("bound", "caller", "good"),
    [
        (None, QUIET, True),
        (PAGE, QUIET, True),
        (PAGE, Caller(origin=PAGE, own=OWN, fetch_site="cross-site"), True),
        (PAGE, Caller(origin=EVIL, own=OWN, fetch_site=None), False),
        (PAGE, Caller(origin="null", own=OWN, fetch_site=None), False),
        (PAGE, Caller(origin=None, own=OWN, fetch_site="cross-site"), False),
        (None, Caller(origin=EVIL, own=OWN, fetch_site=None), False),
        ("null", Caller(origin="null", own=OWN, fetch_site=None), False),
    ],
)
async def test_a_wrong_origin_burns_the_ticket(desk: Desk, bound: str | None, caller: Caller, good: bool) -> None:
    """Whoever shows it on a wrong page has it, so it is spent; nobody is told why (W11)."""
    ticket = await desk.tickets.issue(ALICE, [], bound)
    if good:
        await desk.redeem(ticket, caller)
    else:
        with pytest.raises(CredentialInvalid) as caught:
            await desk.redeem(ticket, caller)
        assert not isinstance(caught.value, SpentTicket)  # so that no resume token beside it helps
    with pytest.raises(SpentTicket):
        await desk.redeem(ticket)


async def test_a_spared_ticket_lives_two_minutes_from_the_refusal(desk: Desk) -> None:
    """A browser told to wait obeys `retry`, which may be longer than a ticket lives (W35)."""
    kept, late = [await desk.tickets.issue(ALICE, [], None) for _ in range(2)]
    desk.clock.advance(20)
    for ticket in (kept, late):
        await desk.tickets.extend(ticket)
    desk.clock.advance(119.9)
    await desk.redeem(kept)
    desk.clock.advance(0.1)
    with pytest.raises(SpentTicket):
        await desk.redeem(late)


async def test_a_ticket_is_not_spared_for_ever(desk: Desk) -> None:
    """A full hub does not turn a ticket of seconds into one of hours (W35)."""
    ticket = await desk.tickets.issue(Identity(subject="alice", expires_at=T0 + 10**6), [], None)
    for _ in range(20):
        await desk.tickets.extend(ticket)
        desk.clock.advance(60)
    with pytest.raises(SpentTicket):
        await desk.redeem(ticket)


async def test_sparing_never_revives_or_outlives(desk: Desk) -> None:
    """A spent or unknown ticket stays so, and none outlives its identity (W35)."""
    ticket = await desk.tickets.issue(ALICE, [], None)
    await desk.redeem(ticket)
    for text in (ticket, "a" * 26, ""):
        await desk.tickets.extend(text)
    assert len(desk.store) == 0
    short = await desk.tickets.issue(Identity(subject="bob", expires_at=T0 + 40), [], None)
    await desk.tickets.extend(short)
    desk.clock.advance(40)
    with pytest.raises(SpentTicket):
        await desk.redeem(short)


async def test_a_ticket_of_a_stream_refused_for_now_is_given_back(desk: Desk) -> None:
    """What turned out to be impossible only after redeeming has spent nothing (W35)."""
    ticket = await desk.tickets.issue(ALICE, ["a/b"], PAGE)
    desk.clock.advance(29)
    redeemed = await desk.redeem(ticket)
    await desk.tickets.unredeem(redeemed)
    desk.clock.advance(119.9)
    with pytest.raises(CredentialInvalid):
        await desk.redeem(ticket, Caller(origin=EVIL, own=OWN, fetch_site=None))
    again = await desk.tickets.issue(ALICE, ["a/b"], PAGE)
    first = await desk.redeem(again)
    await desk.tickets.unredeem(first)
    second = await desk.redeem(again)
    assert second.topics == ["a/b"]
    assert second.identity.parent_ids == ("jti:1",)


async def test_a_resumed_stream_is_the_same_person_with_the_same_bounds(desk: Desk) -> None:
    """A resume token stands for what its ticket stood for, and gets a child of the same family (W14)."""
    _, first = await desk.first(5)
    second = await desk.resume(first.token, 7)
    assert second.identity.same_person(ALICE)
    assert second.identity.parent_ids == ("jti:1",)
    assert second.identity.family == first.identity.family
    assert second.topics == ["a/b"]
    assert second.token[:10] == first.token[:10]
    assert second.token != first.token
    assert second.ticket is None


async def test_a_superseded_token_ends_the_family_and_names_whose(desk: Desk) -> None:
    """Whoever shows it, thief or victim, nobody of the family gets in afterwards (W14)."""
    _, first = await desk.first()
    second = await desk.resume(first.token)
    third = await desk.resume(second.token)
    with pytest.raises(VoidToken) as caught:
        await desk.resume(first.token)
    assert caught.value.identity.family == first.identity.family
    for token in (first.token, second.token, third.token):
        with pytest.raises(CredentialInvalid, match="unknown or ended"):
            await desk.resume(token)
    assert len(desk.store) == 0


async def test_a_thief_cannot_read_the_history_with_a_good_token(desk: Desk) -> None:
    """`T_<epoch>-0` on a token issued at 5 is refused, and ends nothing (W14)."""
    _, first = await desk.first(5)
    with pytest.raises(CredentialInvalid, match="before"):
        await desk.resume(first.token, 4)
    await desk.resume(first.token, 5)


async def test_a_token_beside_another_tickets_url_is_refused(desk: Desk) -> None:
    """The exception for a spent ticket is for its own family alone (W13)."""
    ticket, first = await desk.first()
    other, second = await desk.first()
    for token, wrong in ((first.token, other), (second.token, ticket), (first.token, "a" * 26)):
        with pytest.raises(CredentialInvalid, match="not of this ticket"):
            await desk.resume(token, ticket=wrong)
    await desk.resume(first.token, ticket=ticket)


async def test_a_resume_is_bound_to_the_origin_of_its_ticket(desk: Desk) -> None:
    """A token read by a script of another page is no good there (W11)."""
    _, first = await desk.first(origin=PAGE)
    for origin in (EVIL, OWN, "null"):
        with pytest.raises(CredentialInvalid, match="Origin"):
            await desk.resume(first.token, caller=Caller(origin=origin, own=OWN, fetch_site=None))
    await desk.resume(first.token, caller=Caller(origin=PAGE, own=OWN, fetch_site=None))


@pytest.mark.parametrize(("life", "family_life"), [(1000.0, 100.0), (50.0, 50.0)])
async def test_a_family_slides_and_never_outlives_its_identity(desk: Desk, life: float, family_life: float) -> None:
    """Each use gives it its full time again, up to the end of the identity (W14)."""
    _, first = await desk.first(identity=Identity(subject="alice", expires_at=T0 + life))
    desk.clock.advance(family_life * 0.9)
    second = await desk.resume(first.token)
    desk.clock.advance(family_life * 0.09)
    third = await desk.resume(second.token)
    desk.clock.advance(family_life)
    with pytest.raises(CredentialInvalid):
        await desk.resume(third.token)


async def test_a_guess_with_the_right_locator_ends_nothing(desk: Desk) -> None:
    """Ten characters that found a family are not a token of it (W14)."""
    _, first = await desk.first()
    with pytest.raises(CredentialInvalid, match="not a token"):
        await desk.resume(first.token[:10] + "a" * 16)
    await desk.resume(first.token)


async def test_a_revoked_family_is_not_kept_alive_by_asking(desk: Desk) -> None:
    """Nobody is let in, and the record is not touched (W17)."""
    _, first = await desk.first()
    before = dict(desk.store._records)
    with pytest.raises(CredentialInvalid, match="revoked"):
        await desk.resume(first.token, revoked=lambda identity: identity.subject == "alice")
    assert desk.store._records == before


async def test_a_live_stream_keeps_its_family_alive(desk: Desk) -> None:
    """A stream that lasts longer than the family's time can still be resumed."""
    _, first = await desk.first()
    family = first.identity.family
    assert family is not None
    for _ in range(5):
        desk.clock.advance(90)
        await desk.tickets.touch(family)
    await desk.resume(first.token)
    await desk.tickets.touch("unknown")


async def test_a_refreshed_stream_takes_its_family_along(desk: Desk) -> None:
    """Who extended the identity can resume beyond the end of the old one (W14)."""
    _, first = await desk.first(identity=Identity(subject="alice", expires_at=T0 + 50, token_id="jti:old"))
    family = first.identity.family
    assert family is not None
    fresh = Identity(subject="alice", expires_at=T0 + 500, parent_ids=("jti:new",), family=family, auth_method="ticket")
    desk.clock.advance(49)
    await desk.tickets.touch(family, fresh)
    desk.clock.advance(10)
    again = await desk.resume(first.token)
    assert again.identity.expires_at == T0 + 500
    assert again.identity.token_ids == ("jti:new",)


async def test_many_at_once_never_break_a_family(desk: Desk) -> None:
    """Doubled requests with the current token all get in, with different children (W14)."""
    _, first = await desk.first()
    passages = await asyncio.gather(*(desk.resume(first.token) for _ in range(5)))
    assert len({redeemed.token for redeemed in passages}) == 5


@pytest.mark.parametrize("token", ["a" * 26, "a" * 10, "a"])
async def test_an_unknown_token_is_refused(desk: Desk, token: str) -> None:
    """A token without a family is a refusal of sseal's own."""
    await desk.first()
    with pytest.raises(SsealError) as caught:
        await desk.resume(token)
    assert caught.value.status == 401
