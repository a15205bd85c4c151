"""Login sessions: random, hashed, bounded by what opened them."""

from __future__ import annotations

import re

import pytest

from asgi.driver import T0
from sseal.auth.identity import Grants, Identity
from sseal.errors import CredentialInvalid
from sseal.identity_sources.sessions import LoginSessions
from sseal.storage import MemoryStore
from sseal.testing import ManualClock

ALICE = Identity(
    subject="alice",
    issuer="iss",
    grants=Grants(subscribe=("a/*",), publish=("b",), admin=True),
    issued_at=T0,
    expires_at=T0 + 100,
    token_id="jti:1",
    auth_method="bearer",
)


class Desk:
    """Sessions over a store, and its clock."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self.sessions = LoginSessions(self.store, self.clock, ttl=50.0)


@pytest.fixture
def desk() -> Desk:
    """Return an empty desk."""
    return Desk()


async def test_a_session_is_who_opened_it(desk: Desk) -> None:
    """Subject, issuer, grants and time of issue survive the store, the lineage grows (W17)."""
    token, derived = await desk.sessions.open(ALICE)
    found = await desk.sessions.find(token)
    assert found == derived
    assert (found.subject, found.issuer, found.grants, found.issued_at) == ("alice", "iss", ALICE.grants, T0)
    assert found.auth_method == "cookie"
    assert found.parent_ids == ("jti:1",)
    assert found.token_id is not None
    assert found.token_id.startswith("session:")


async def test_a_session_value_cannot_be_guessed_and_is_not_stored(desk: Desk) -> None:
    """130 random bits, of which the store keeps a hash."""
    tokens = [(await desk.sessions.open(ALICE))[0] for _ in range(20)]
    assert len(set(tokens)) == 20
    assert all(re.fullmatch("[a-z2-7]{26}", token) for token in tokens)
    stored = repr(desk.store._records)
    assert not any(token in stored for token in tokens)


@pytest.mark.parametrize(("ends", "alive"), [(T0 + 100, 50.0), (T0 + 20, 20.0), (None, 50.0)])
async def test_a_session_ends_with_the_sooner_of_its_own_time_and_its_token(
    desk: Desk, ends: float | None, alive: float
) -> None:
    """A cookie is no way to outlive a token."""
    token, derived = await desk.sessions.open(Identity(subject="alice", expires_at=ends))
    assert derived.expires_at == T0 + alive
    desk.clock.advance(alive - 0.1)
    await desk.sessions.find(token)
    desk.clock.advance(0.1)
    with pytest.raises(CredentialInvalid):
        await desk.sessions.find(token)


async def test_a_closed_session_is_gone(desk: Desk) -> None:
    """Closing returns whose it was, once."""
    token, derived = await desk.sessions.open(ALICE)
    assert await desk.sessions.close(token) == derived
    assert await desk.sessions.close(token) is None
    with pytest.raises(CredentialInvalid):
        await desk.sessions.find(token)


@pytest.mark.parametrize("token", ["", "x", "a" * 26, "a" * 25, "a" * 27, "A" * 26, "é" * 26, "\x00" * 26, "a" * 9000])
async def test_an_unknown_session_is_invalid(desk: Desk, token: str) -> None:
    """Whatever the cookie holds, the answer is the same refusal and never an exception."""
    with pytest.raises(CredentialInvalid):
        await desk.sessions.find(token)
    assert await desk.sessions.close(token) is None
