"""Limits of hubs that share a store: what one lets in counts at the others, and a crash frees it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from addresses import ADDRESSES
from asgi.conftest import HubFixture, MakeHubFixture
from asgi.driver import PATIENCE, Stream, bearer
from sseal.delivery.node_lease import LEASE_TIMEOUT
from sseal.errors import Unavailable

Pair = tuple[HubFixture, HubFixture]
MakePair = Callable[..., Awaitable[Pair]]
SHOP = bearer("shop", publish=["**"])


@pytest.fixture(params=sorted(ADDRESSES))
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the address of a fresh engine that several hubs can share."""
    with ADDRESSES[request.param](tmp_path) as found:
        yield found


@pytest.fixture
def make_pair(make_fixture: MakeHubFixture, address: str, monkeypatch: pytest.MonkeyPatch) -> MakePair:
    """Make two hubs on one engine that compare when the test says so."""
    monkeypatch.setattr("sseal.delivery.limit_exchange.EXCHANGE_INTERVAL", 1e9)

    async def make(**limits: Any) -> Pair:
        pair = [await make_fixture(broker=address, limits=limits) for _ in range(2)]
        await compare(*pair)
        return pair[0], pair[1]

    return make


async def compare(*hubs: HubFixture) -> None:
    """Let hubs compare what they have counted, each twice, so that all know of all."""
    for _ in range(2):
        for hub in hubs:
            await hub.hub._parts.limit_exchange.exchange()


async def opened(hub: HubFixture, number: int, **options: Any) -> list[Stream]:
    """Open streams of alice's, each a moment younger than the one before."""
    streams = []
    for _ in range(number):
        hub.clock.advance(0.01)
        streams.append(hub.stream("/events", bearer(), **options))
        await streams[-1].opened()
    return streams


async def ended(stream: Stream) -> Any:
    """Return why a stream has ended."""
    return (await stream.rest())[-1].json["reason"]


async def alive(*hubs: HubFixture) -> None:
    """Wait until all hubs have shown that they live since their clocks were turned."""
    async with asyncio.timeout(PATIENCE):
        for hub in hubs:
            while len(await hub.hub._parts.store.nodes()) < len(hubs):
                await asyncio.sleep(0.01)


async def test_the_oldest_stream_of_a_subject_ends_wherever_it_is(make_pair: MakePair) -> None:
    """One too many at one hub ends the oldest at the other, at once where the others are known (W45)."""
    one, two = await make_pair(streams_per_subject=4)
    first, second, *_ = await opened(one, 3)
    await compare(one, two)
    two.clock.advance(1.0)
    third, fourth = await opened(two, 2)
    await compare(two)
    assert await ended(first) == "replaced"
    await compare(one, two)
    await opened(two, 1)
    assert await ended(second) == "replaced"  # nobody had to compare for it
    assert not third.over
    assert not fourth.over
    await compare(one, two)
    assert len(one.node.connections) + len(two.node.connections) == 4


async def test_too_many_within_one_second_are_ended_in_the_next(make_pair: MakePair) -> None:
    """Two hubs that each let in as many as there may be have no more together once they have compared."""
    one, two = await make_pair(streams_per_subject=3)
    old = await opened(one, 3)
    two.clock.advance(1.0)
    new = await opened(two, 3)
    await compare(one, two)
    assert [await ended(stream) for stream in old] == ["replaced"] * 3
    assert not any(stream.over for stream in new)


async def test_with_refuse_the_newest_has_to_go(make_pair: MakePair) -> None:
    """What two hubs let in at once stays where it was first; whoever comes later is refused at both."""
    one, two = await make_pair(streams_per_subject=3, on_too_many="refuse")
    old = await opened(one, 2)
    two.clock.advance(1.0)
    kept, *new = await opened(two, 3)
    await compare(one, two)
    assert [await ended(stream) for stream in new] == ["replaced"] * 2
    assert not any(stream.over for stream in (*old, kept))
    await compare(one, two)
    for hub in (one, two):
        assert (await hub.ask("GET", "/events", bearer())).json["code"] == "full"
        assert await hub.try_stream("/events", bearer("bob")) == 200


async def test_streams_of_an_address_are_counted_together(make_pair: MakePair) -> None:
    """An address that is full at all hubs together is refused at each; one that leaves makes room at the other."""
    one, two = await make_pair(streams_per_address=4, streams_per_subject=0)
    where = {"client": ("2001:db8::1", 1)}
    first, *_ = await opened(one, 2, **where)
    await opened(two, 2, **where)
    await compare(one, two)
    for hub in (one, two):
        reply = await hub.ask("GET", "/events", bearer(), client=("2001:db8::2", 1))
        assert (reply.status, reply.json["code"]) == (429, "full")
    await first.leave()
    await compare(one, two)
    await opened(two, 1, **where)


async def test_rates_are_counted_together(make_pair: MakePair) -> None:
    """What is used up at one hub is used up at the other, whichever rate it is."""
    one, two = await make_pair(publishes_per_minute_per_subject=40, tickets_per_minute_per_subject=8)
    body = [{"topic": "a", "data": n} for n in range(10)]
    for _ in range(3):
        assert (await one.ask("POST", "/events", SHOP, json=body)).status == 201
        for _ in range(2):
            assert (await one.ask("POST", "/auth/sse", bearer())).status == 201
    assert (await two.ask("POST", "/events", SHOP, json=body[:5])).status == 201
    assert (await two.ask("POST", "/auth/sse", bearer())).status == 201
    await compare(one, two)
    assert (await two.ask("POST", "/events", SHOP, json=body)).status == 429
    assert (await two.ask("POST", "/events", SHOP, json=body[:5])).status == 201
    assert [(await two.ask("POST", "/auth/sse", bearer())).status for _ in range(2)] == [201, 429]
    await compare(one, two)
    assert (await one.ask("POST", "/events", SHOP, json=body[:1])).status == 429
    assert (await one.ask("POST", "/auth/sse", bearer())).status == 429


async def test_refused_credentials_are_counted_together(make_pair: MakePair) -> None:
    """Somebody whom a load balancer sends to another hub each time has no more tries for it."""
    one, two = await make_pair(failures_per_minute_per_address=4)
    for hub in (one, two):
        for _ in range(2):
            assert (await hub.ask("GET", "/admin/stats", {"authorization": "Bearer x"})).status == 401
    await compare(one, two)
    for hub in (one, two):
        assert (await hub.ask("POST", "/auth/sse", bearer())).status == 429


async def test_a_hub_that_leaves_takes_its_streams_along(make_pair: MakePair) -> None:
    """And one that is alone writes nothing down."""
    one, two = await make_pair(streams_per_subject=2, on_too_many="refuse")
    await opened(one, 2)
    await compare(one, two)
    await one.close()
    await opened(two, 1)
    await compare(two)
    assert two.hub._parts.limit_exchange._stream_limits._away == {}
    await opened(two, 1)
    assert two.hub._parts.limit_exchange._stream_limits._shared == {}
    assert two.hub._parts.limit_exchange._rates.uncompared(10) == []


async def test_a_crash_frees_what_a_hub_held(
    make_fixture: MakeHubFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a lease; a hub that was only frozen holds its streams again once it is back."""
    monkeypatch.setattr("sseal.delivery.limit_exchange.EXCHANGE_INTERVAL", 1e9)
    limits = {"streams_per_subject": 3, "on_too_many": "refuse"}
    hubs = [await make_fixture(broker=f"sqlite:///{tmp_path}/hub.db", limits=limits) for _ in range(2)]
    frozen, two = hubs
    await compare(*hubs)
    await opened(frozen, 2)
    await compare(frozen)
    await opened(two, 1)
    await compare(two)
    assert (await two.ask("GET", "/events", bearer())).json["code"] == "full"
    turns = 0.0
    while two.hub._parts.limit_exchange._stream_limits._away and turns < 3 * LEASE_TIMEOUT:
        turns += 5.0
        for hub in hubs:
            hub.clock.advance(5.0)
        await alive(*hubs)
        await compare(two)
    assert LEASE_TIMEOUT - 5.0 <= turns <= LEASE_TIMEOUT + 5.0
    await opened(two, 1)
    await compare(two)
    await compare(frozen, two)
    assert len(two.hub._parts.limit_exchange._stream_limits._away[("subject", "", "alice")]) + 1 == 3


async def test_while_the_store_is_away_each_hub_counts_by_itself(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing waits for it, what was to be compared is compared later, and nothing is forgotten meanwhile."""
    one, two = await make_pair(streams_per_subject=3, publishes_per_minute_per_subject=4)
    body = [{"topic": "a", "data": n} for n in range(2)]

    async def away() -> list[str]:
        raise Unavailable("away", code="store_lost")

    monkeypatch.setattr(one.hub._parts.store, "nodes", away)
    old = await opened(one, 3)
    assert [(await one.ask("POST", "/events", SHOP, json=body)).status for _ in range(3)] == [201, 201, 429]
    with pytest.raises(Unavailable):
        await one.hub._parts.limit_exchange.exchange()
    monkeypatch.undo()
    two.clock.advance(1.0)
    await opened(two, 1)
    await compare(one, two)
    assert await ended(old[0]) == "replaced"
    assert (await two.ask("POST", "/events", SHOP, json=body[:1])).status == 201
    await compare(two)
    assert (await two.ask("POST", "/events", SHOP, json=body[:1])).status == 429
