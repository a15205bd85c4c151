"""Revocations and the test against them (W17)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseal.auth.identity import Identity, minter
from sseal.auth.revocation import Revocation, RevocationSet
from sseal.errors import InvalidInput

TOKEN = Identity(subject="alice", issuer="iss", issued_at=10.0, token_id="jti:1", auth_method="bearer")
SESSION = TOKEN.derive(auth_method="cookie", token_id="session:2", expires_at=None)
TICKET = SESSION.derive(auth_method="ticket", token_id=None, expires_at=None, family="fam")


def revocation(kind: Any, value: str, issuer: str | None = None, at: float = 20.0, ends: float = 100.0) -> Revocation:
    """Return a revocation."""
    return Revocation(kind=kind, value=value, issuer=issuer, at=at, expires_at=ends)


CONCERNS = [
    # revocation, ends the token, the session of it, the ticket stream of that
    (revocation("subject", "alice"), True, True, True),
    (revocation("subject", "alice", "iss"), True, True, True),
    (revocation("subject", "alice", "other"), False, False, False),
    (revocation("subject", "bob"), False, False, False),
    (revocation("subject", "alice", at=10.0), True, True, True),
    (revocation("subject", "alice", at=9.9), False, False, False),  # issued afterwards
    (revocation("token", "jti:1"), True, True, True),
    (revocation("token", "session:2"), False, True, True),
    (revocation("token", "jti:2"), False, False, False),
    (revocation("token", "2"), False, False, False),
    (revocation("token", "fam"), False, False, False),
    (revocation("family", "fam"), False, False, True),
    (revocation("family", "jti:1"), False, False, False),
]


@pytest.mark.parametrize(("entry", "token", "session", "ticket"), CONCERNS)
def test_the_fate_of_a_parent_is_the_fate_of_all_it_gave(
    entry: Revocation, token: bool, session: bool, ticket: bool
) -> None:
    """What is derived dies with what it was derived from, and never the other way round (W17)."""
    known = RevocationSet()
    known.add(entry)
    for identity, ends in ((TOKEN, token), (SESSION, session), (TICKET, ticket)):
        assert entry.concerns(identity) is ends
        assert known.revoked(identity) is ends


def test_nobody_cannot_be_revoked() -> None:
    """The anonymous identity has no subject, token or family that could be named."""
    known = RevocationSet()
    for kind in ("subject", "token", "family"):
        known.add(revocation(kind, "alice"))
    assert not known.revoked(Identity.anonymous())


@given(st.lists(st.tuples(st.sampled_from([None, "iss", "other"]), st.floats(0, 30)), max_size=6), st.floats(0, 30))
def test_law_the_set_says_what_its_entries_say(entries: list[tuple[str | None, float]], issued_at: float) -> None:
    """However later entries replace earlier ones, the answer is that of the whole list."""
    identity = replace(TOKEN, issued_at=issued_at)
    made = [revocation("subject", "alice", issuer, at) for issuer, at in entries]
    known = RevocationSet()
    for entry in made:
        known.add(entry)
    assert known.revoked(identity) is any(entry.concerns(identity) for entry in made)


def test_an_entry_taken_twice_counts_once() -> None:
    """The log may be read again from its start."""
    known = RevocationSet()
    for entry in 2 * [revocation("subject", "a"), revocation("token", "b"), revocation("family", "c")]:
        known.add(entry)
    assert len(known) == 3


def test_an_earlier_entry_read_later_takes_nothing_back() -> None:
    """Order of arrival does not matter."""
    known = RevocationSet()
    known.add(revocation("subject", "alice", at=20.0))
    known.add(revocation("subject", "alice", at=5.0))
    known.add(revocation("token", "x", ends=100.0))
    known.add(revocation("token", "x", ends=50.0))
    known.prune(60.0)
    assert known.revoked(TOKEN)
    assert known.revoked(replace(TOKEN, subject="bob", token_id="x"))


def test_what_has_expired_is_dropped() -> None:
    """The set does not grow for ever."""
    known = RevocationSet()
    for kind in ("subject", "token", "family"):
        known.add(revocation(kind, "x", ends=50.0))
    known.add(revocation("subject", "alice", ends=60.0))
    known.prune(49.9)
    assert len(known) == 4
    known.prune(50.0)
    assert len(known) == 1
    assert known.revoked(TOKEN)


@pytest.mark.parametrize(
    ("kind", "value", "field"), [("subject", "", "subject"), ("token", "", "token"), ("x", "y", "kind")]
)
def test_a_revocation_of_nothing_is_refused(kind: str, value: str, field: str) -> None:
    """A record that could not end anything does not exist."""
    with pytest.raises(InvalidInput) as caught:
        revocation(kind, value)
    assert caught.value.field == field


def test_an_admins_end_is_the_end_of_what_they_minted() -> None:
    """By name of any or the right issuer, and only for what was minted until then (W17, W40)."""
    root = Identity(subject="root", issuer="iss", issued_at=5.0, token_id="jti:r", auth_method="bearer")
    minted = Identity(
        subject="42", issuer="iss", issued_at=10.0, parent_ids=(*root.token_ids, minter(root)), auth_method="ticket"
    )
    stream = minted.derive(auth_method="ticket", token_id=None, expires_at=None, family="f")
    for entry, ends in [
        (revocation("subject", "root"), True),
        (revocation("subject", "root", "iss"), True),
        (revocation("subject", "root", "other"), False),
        (revocation("subject", "root", at=9.9), False),
        (revocation("subject", "42"), True),
        (revocation("subject", "roo"), False),
        (revocation("token", "jti:r"), True),
    ]:
        known = RevocationSet()
        known.add(entry)
        for identity in (minted, stream):
            assert entry.concerns(identity) is ends
            assert known.revoked(identity) is ends


@given(st.text(max_size=6), st.text(min_size=1, max_size=6), st.text(min_size=1, max_size=6))
def test_law_a_minter_is_nobody_else(issuer: str, subject: str, other: str) -> None:
    """No spelling of an issuer or a subject makes one admin's revocation that of another."""
    minted = Identity(
        subject="42", parent_ids=(minter(Identity(subject=subject, issuer=issuer)),), auth_method="ticket"
    )
    entry = revocation("subject", other)
    assert entry.concerns(minted) is (other in (subject, "42"))


@given(st.permutations([entry for entry, *_ in CONCERNS]))
def test_a_set_made_again_from_its_entries_ends_the_same(entries: list[Revocation]) -> None:
    """A hub that writes back what it knows loses no revocation of those in force."""
    known = RevocationSet()
    for entry in entries:
        known.add(entry)
    again = RevocationSet()
    for entry in known.entries():
        again.add(entry)
    for identity in (TOKEN, SESSION, TICKET):
        assert again.revoked(identity) == known.revoked(identity)
    assert sorted(map(repr, again.entries())) == sorted(map(repr, known.entries()))
