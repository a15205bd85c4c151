"""Identities: valid by construction, and what is derived from them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from sseal.auth.identity import Grants, Identity
from sseal.errors import InvalidInput

ALICE = Identity(
    subject="alice", issuer="iss", issued_at=10.0, expires_at=100.0, token_id="jti:1", auth_method="bearer"
)


@pytest.mark.parametrize("subject", ["", 5, True, b"alice", []])
def test_a_subject_is_a_string_that_is_not_empty(subject: Any) -> None:
    """An identity that exists has somebody in it (W2)."""
    with pytest.raises(InvalidInput) as caught:
        Identity(subject=subject)
    assert caught.value.field == "subject"


@pytest.mark.parametrize("auth_method", ["bearer", "ticket", "resume", "cookie", "query", "custom"])
def test_only_who_asked_for_it_is_nobody(auth_method: str) -> None:
    """No way in can end in an identity without a subject (W16)."""
    with pytest.raises(InvalidInput):
        Identity(subject=None, auth_method=auth_method)
    nobody = Identity.anonymous()
    assert (nobody.subject, nobody.topic, nobody.token_ids, nobody.grants) == (None, None, (), Grants())


def test_an_identity_is_frozen() -> None:
    """Nobody changes who somebody is after it was proven."""
    with pytest.raises(FrozenInstanceError):
        ALICE.subject = "root"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["subscribe", "publish"])
@pytest.mark.parametrize("text", ["", "a//b", "**/a", "a*", "{user}", "a\nb", 5, None])
def test_a_grant_that_is_no_pattern_is_refused(name: str, text: Any) -> None:
    """Grants are checked where they are made, and the field is named."""
    with pytest.raises(InvalidInput) as caught:
        Grants(**{name: ("ok", text)})
    assert caught.value.field == f"grants.{name}"


@pytest.mark.parametrize(
    ("subject", "grant", "topic", "may"),
    [
        ("alice", "user/{sub}", "user/alice", True),
        ("alice", "user/{sub}", "user/bob", False),
        ("*", "user/{sub}", "user/alice", False),
        ("**", "user/{sub}", "user/alice", False),
        ("*", "user/{sub}", "user/%2A", True),
        ("alice/x", "user/{sub}", "user/alice/x", False),
        ("alice", "user/{sub}/**", "user/alice%2Fx", False),
        ("alice", "a/**", "a", False),
        ("alice", "a/**", "a/b", True),
    ],
)
def test_a_subject_publishes_as_one_literal_segment(subject: str, grant: str, topic: str, may: bool) -> None:
    """Whatever somebody is called, `{sub}` in a publish grant stands for that name only (W2)."""
    granted = Grants(publish=(grant,)).bound("publish", subject)
    assert any(pattern.matches(topic) for pattern in granted) is may


def test_a_derived_credential_carries_its_parents() -> None:
    """A session knows its token, and a ticket of that session knows both (W17)."""
    session = ALICE.derive(auth_method="cookie", token_id="session:2", expires_at=None)
    ticket = session.derive(auth_method="ticket", token_id=None, expires_at=None, family="f")
    assert session.token_ids == ("jti:1", "session:2")
    assert ticket.token_ids == ("jti:1", "session:2")
    assert ticket.derive(auth_method="resume", token_id=None, expires_at=None, family="f").token_ids == ticket.token_ids
    assert (ticket.subject, ticket.issuer, ticket.grants, ticket.issued_at) == ("alice", "iss", ALICE.grants, 10.0)


@pytest.mark.parametrize(
    ("own", "asked", "ends"), [(100.0, 50.0, 50.0), (100.0, 200.0, 100.0), (100.0, None, 100.0), (None, 5.0, 5.0)]
)
def test_a_derived_credential_never_outlives_its_parent(own: float | None, asked: float, ends: float) -> None:
    """The sooner of both ends counts."""
    assert (
        replace(ALICE, expires_at=own).derive(auth_method="ticket", token_id=None, expires_at=asked).expires_at == ends
    )


def test_an_identity_ends_at_its_moment() -> None:
    """The moment of expiry itself is over; without one there is no end."""
    assert not ALICE.expired(99.9)
    assert ALICE.expired(100.0)
    assert not replace(ALICE, expires_at=None).expired(1e12)


def test_a_person_is_a_subject_of_an_issuer() -> None:
    """The same name at another issuer is somebody else."""
    assert ALICE.same_person(replace(ALICE, token_id="jti:2", expires_at=7.0))
    assert not ALICE.same_person(replace(ALICE, issuer="other"))
    assert not ALICE.same_person(replace(ALICE, subject="bob"))
