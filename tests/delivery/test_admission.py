"""Admission: opening a stream, with no front before it. What it promises over HTTP is tested in tests/asgi."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from delivery.harness import UNLIMITED, Caller, NodeHarness
from sseal.auth.identity import Identity
from sseal.auth.origin import Caller as Page
from sseal.auth.origin import OriginPolicy
from sseal.auth.revocation import Revocation
from sseal.delivery.admission import Authenticate, Authenticated, StreamRequest
from sseal.errors import CredentialInvalid, SsealError, TooManyRequests, Unavailable
from sseal.identity_sources.tickets import RedeemedTicket
from sseal.limits import Limits
from sseal.stream import reasons

ALICE = Identity(subject="alice", issued_at=1.0, auth_method="bearer")
REQUEST = StreamRequest(topics=("a",), address="192.0.2.1")
PAGE = Page(origin=None, own=None, fetch_site=None)
ORIGINS = OriginPolicy(())


def is_alice() -> Authenticate:
    """Return what says that a request is alice's."""
    return Caller(ALICE, None).authenticate


def after(step: Callable[[], object]) -> Authenticate:
    """Return what says that a request is alice's, while something else happens."""

    async def authenticate() -> Authenticated:
        result = step()
        if isinstance(result, Awaitable):
            await result
        return Caller(ALICE, None)

    return authenticate


def nothing_is_held(world: NodeHarness) -> bool:
    """Tell whether a refused stream has left nothing behind."""
    return not world.node.connections and not world.node.topic_count and not world.node.interest.names


def revoke(world: NodeHarness) -> None:
    """Revoke alice."""
    now = world.clock.wall()
    world.node.revocations.apply_here(Revocation(kind="subject", value="alice", at=now, expires_at=now + 60.0))


@pytest.mark.parametrize(
    ("meanwhile", "error", "code"),
    [
        (revoke, CredentialInvalid, "credential_invalid"),
        (lambda world: world.node.drain(), Unavailable, "draining"),
        (lambda world: world.read("a"), Unavailable, "full"),
    ],
    ids=["revoked", "draining", "full"],
)
async def test_what_happens_while_a_caller_is_authenticated_counts(
    meanwhile: Callable[[NodeHarness], object], error: type[SsealError], code: str
) -> None:
    """A stream is refused by what holds when it is registered, and leaves nothing behind (W17)."""
    async with NodeHarness(limits=Limits(streams=1)) as world:
        with pytest.raises(error) as refused:
            await world.admission.open(REQUEST, after(lambda: meanwhile(world)))
        assert refused.value.code == code
        if code != "full":
            assert nothing_is_held(world)


async def test_who_is_refused_for_now_is_not_authenticated() -> None:
    """What has no room is refused before a credential is looked at, so that no ticket is spent (W35)."""
    async with NodeHarness(limits=Limits(streams=1)) as world:
        await world.read("a")
        asked: list[int] = []
        with pytest.raises(Unavailable):
            await world.admission.open(REQUEST, after(lambda: asked.append(1)))
        assert asked == []


async def test_a_ticket_outlives_a_refusal_before_and_after_it_was_redeemed() -> None:
    """Before it is redeemed its life is extended, afterwards it is given back (W35)."""
    async with NodeHarness(limits=Limits(streams_per_address=1)) as world:
        ticket = await world.tickets.issue(ALICE, ["a"], None)

        async def redeem() -> Authenticated:
            redeemed = await world.tickets.redeem(ticket, PAGE, ORIGINS)
            return Caller(redeemed.identity, redeemed)

        async def redeem_while_another_comes_in() -> Authenticated:
            await world.admission.open(REQUEST, is_alice())
            return await redeem()

        request = StreamRequest(topics=("a",), address="192.0.2.1", ticket=ticket)
        with pytest.raises(TooManyRequests):
            await world.admission.open(request, redeem_while_another_comes_in)
        world.clock.advance(100.0)  # longer than a ticket lives that was not refused
        with pytest.raises(TooManyRequests):
            await world.admission.open(request, redeem)
        world.clock.advance(100.0)
        (other,) = world.node.connections.values()
        world.node.streams.unregister(other, reasons.CLIENT_GONE)
        connection = await world.admission.open(request, redeem)
        assert connection.token is not None


async def test_a_connect_counts_for_its_subject_and_a_fresh_ticket_does_not() -> None:
    """A ticket was counted when it was issued."""
    async with NodeHarness(limits=Limits(connects_per_minute_per_subject=1)) as world:
        fresh = RedeemedTicket(ALICE, ["a"], "t" * 26, ticket="hash of the ticket")
        await world.admission.open(REQUEST, is_alice())
        with pytest.raises(TooManyRequests) as refused:
            await world.admission.open(REQUEST, is_alice())
        assert refused.value.code == "rate"
        await world.admission.open(REQUEST, Caller(ALICE, fresh).authenticate)


async def test_an_epoch_that_begins_while_a_stream_is_opened_refuses_it_for_now() -> None:
    """A position that was found in one epoch is not used in another (W10)."""
    reached, go = asyncio.Event(), asyncio.Event()

    async with NodeHarness(limits=UNLIMITED) as world:
        start_family = world.tickets.start_family

        async def slowly(*arguments: object) -> None:
            reached.set()
            await go.wait()
            await start_family(*arguments)  # type: ignore[arg-type]

        world.tickets.start_family = slowly  # type: ignore[method-assign]
        ticket = await world.tickets.issue(ALICE, ["a"], None)
        redeemed = await world.tickets.redeem(ticket, PAGE, ORIGINS)
        opening = asyncio.create_task(world.admission.open(REQUEST, Caller(redeemed.identity, redeemed).authenticate))
        await reached.wait()
        world.node.window.begin("newepoch", 0)
        go.set()
        with pytest.raises(Unavailable) as refused:
            await opening
        assert refused.value.code == "new_epoch"
        assert nothing_is_held(world)


async def test_a_resumed_stream_ends_if_its_family_is_at_another_node() -> None:
    """Nobody told it, and it has not written a byte (W14)."""
    async with NodeHarness() as world:
        identity = Identity(subject="alice", family="f", auth_method="resume")
        resumed = RedeemedTicket(identity, ["a"], "t" * 26)

        async def elsewhere(family: str) -> str:
            return "another"

        world.tickets.node_of = elsewhere  # type: ignore[method-assign]
        with pytest.raises(CredentialInvalid):
            await world.admission.open(REQUEST, Caller(identity, resumed).authenticate)
        assert nothing_is_held(world)
        assert world.node.stats.closed == {"superseded": 1}


@pytest.mark.parametrize(
    ("reason", "types", "reconnect"),
    [
        (reasons.REPLACED, ["auth", "bye"], False),
        (reasons.REVOKED, ["auth", "auth", "bye"], False),
        (reasons.MAX_AGE, ["auth", "bye"], True),
        (reasons.EXPIRED, ["auth", "auth"], None),
    ],
    ids=str,
)
async def test_a_stream_that_is_closed_while_it_opens_is_told_why(
    reason: reasons.CloseReason, types: list[str], reconnect: bool | None
) -> None:
    """Cut off without a word, its EventSource would come back though it must not (W37, W45)."""
    async with NodeHarness() as harness:
        reader = await harness.read("a", attach=False)
        harness.node.close(reader.connection, reason)
        harness.attach(reader)
        assert [event.type for event in reader.events] == types
        if reconnect is not None:
            assert json.loads(reader.events[-1].data) == {"reason": reason.name, "reconnect": reconnect}
        assert (reader.sink.closed, reader.sink.aborted) == (True, False)
        await harness.publish("a", "secret")
        await harness.settle()
        assert reader.data == []


async def test_a_stream_that_is_cut_while_it_opens_hears_nothing() -> None:
    """As a network would do it."""
    async with NodeHarness() as harness:
        reader = await harness.read("a", attach=False)
        harness.node.close(reader.connection, reasons.CUT)
        harness.attach(reader)
        assert (reader.sink.closed, reader.sink.aborted) == (False, True)
