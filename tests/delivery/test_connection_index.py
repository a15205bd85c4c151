"""Streams found by what ends them: a revocation costs what it ends (W17)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.harness import NodeHarness
from sseal.auth.identity import Identity, minter
from sseal.auth.revocation import Revocation
from sseal.delivery.connection_index import ConnectionIndex
from sseal.stream.connection import Connection
from sseal.subscription import Subscription, TopicSet

TOPICS = TopicSet.of("public/news")
ROOT = Identity(subject="root", issuer="app", issued_at=5.0, auth_method="bearer")


class Counted(Revocation):
    """A revocation that counts the identities it was held against."""

    examined: ClassVar[list[Identity]] = []

    def concerns(self, identity: Identity) -> bool:
        """Count, and tell as ever."""
        self.examined.append(identity)
        return super().concerns(identity)


@pytest.fixture(autouse=True)
def _nothing_examined() -> None:
    Counted.examined.clear()


def revocation(kind: Any, value: str, issuer: str | None = None) -> Counted:
    """Return a revocation of everything issued until 100."""
    return Counted(kind=kind, value=value, issuer=issuer, at=100.0, expires_at=1e9)


def person(number: int) -> Identity:
    """Return one of many: own subject, own token, derived from a session of their own; every tenth minted by root."""
    parent_ids = (f"session:{number}", minter(ROOT)) if number % 10 == 0 else (f"session:{number}",)
    return Identity(
        subject=f"u{number}",
        issuer="app" if number % 2 else "other",
        issued_at=10.0,
        token_id=f"jti:{number}",
        parent_ids=parent_ids,
        auth_method="ticket",
        family=f"f{number}",
    )


@pytest.mark.parametrize(
    ("entry", "ends"),
    [
        (("subject", "u7", None), 1),
        (("subject", "u7", "app"), 1),
        (("subject", "u7", "other"), 0),
        (("subject", "root", None), 50),
        (("subject", "root", "app"), 50),
        (("subject", "root", "other"), 0),
        (("subject", "nobody", None), 0),
        (("token", "jti:8", None), 1),
        (("token", "session:8", None), 1),
        (("token", "jti:none", None), 0),
        (("family", "f9", None), 1),
        (("family", "none", None), 0),
    ],
)
async def test_a_revocation_looks_at_those_it_ends_and_at_no_others(
    entry: tuple[str, str, str | None], ends: int
) -> None:
    """Among 500 streams as many identities are examined as streams end."""
    async with NodeHarness() as world:
        for number in range(500):
            await world.read("public/news", identity=person(number))
        assert world.node.revocations.apply_here(revocation(*entry)) == ends
        assert len(Counted.examined) == ends
        assert len(world.node.connections) == 500 - ends


async def test_a_refreshed_stream_is_found_by_its_new_token_only() -> None:
    """What a stream was derived from changes with a refresh, and the index with it (W21)."""
    async with NodeHarness() as world:
        reader = await world.read("public/news", identity=replace(person(1), expires_at=2e9))
        fresh = replace(person(1), token_id="jti:fresh", parent_ids=(), family=None, expires_at=3e9)
        world.node.refresh(reader.connection, Subscription(fresh, TOPICS))
        assert world.node.revocations.apply_here(revocation("token", "jti:1")) == 0
        assert world.node.revocations.apply_here(revocation("token", "session:1")) == 0
        assert Counted.examined == []
        assert world.node.revocations.apply_here(revocation("token", "jti:fresh")) == 1


def connection(name: str, identity: Identity) -> Connection:
    """Return a stream that was never opened."""
    return Connection(name, Subscription(identity, TOPICS), 0, address="192.0.2.1")


names = st.sampled_from(["a", "b"])
identities = st.builds(
    lambda subject, issuer, token, parent_ids, family: Identity(
        subject=subject,
        issuer=issuer,
        issued_at=10.0,
        token_id=token and f"jti:{token}",
        parent_ids=tuple(parent_ids),
        family=family,
        auth_method="custom",
    ),
    names,
    names,
    st.none() | names,
    st.lists(
        st.sampled_from(["jti:a", "session:a", minter(ROOT), minter(Identity(subject="a", issuer="b"))]), max_size=3
    ),
    st.none() | names,
)
revocations = st.builds(
    revocation,
    st.sampled_from(["subject", "token", "family"]),
    st.sampled_from(["a", "b", "root", "jti:a", "session:a"]),
    st.none() | st.sampled_from(["a", "b", "app"]),
)


@given(st.lists(identities, max_size=8), st.data(), st.lists(revocations, max_size=5))
def test_law_the_index_finds_whatever_a_walk_would_find(
    people: list[Identity], data: st.DataObject, entries: list[Counted]
) -> None:
    """Whoever came and left, those found are those concerned among all; at the end nothing is left behind."""
    index = ConnectionIndex()
    for number, identity in enumerate(people):
        index.add(connection(f"c{number}", identity))
    for name in data.draw(st.lists(st.sampled_from(list(index.by_id) or ["none"]), unique=True)):
        if name in index.by_id:
            index.remove(index.by_id[name])
    for entry in entries:
        walked = [name for name, c in index.by_id.items() if entry.concerns(c.subscription.identity)]
        found = [c.id for c in index.candidates(entry) if entry.concerns(c.subscription.identity)]
        assert sorted(found) == walked
    for stream in list(index.by_id.values()):
        index.remove(stream)
    left = [vars(index)[name] for name in vars(index)]
    assert not any(each if isinstance(each, dict) else each._found for each in left if each is not None)


def test_the_streams_of_a_subject_are_given_oldest_first() -> None:
    """Whoever has too many loses the oldest, however many came and went (W45)."""
    index = ConnectionIndex()
    streams = [connection(f"c{number}", person(1)) for number in range(4)]
    for stream in streams:
        index.add(stream)
    index.remove(streams[1])
    assert index.of_subject("app", "u1") == [streams[0], *streams[2:]]
    index.remove(streams[0])
    index.remove(streams[3])
    assert index.of_subject("app", "u1") == [streams[2]]
