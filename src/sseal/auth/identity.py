"""Who somebody is, what they may do, and how that was proven."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from ..errors import InvalidInput
from ..topics import Pattern, user_topic

__all__ = ["ISSUER", "MAX_TIME", "Grants", "Identity", "minted_by", "minter", "minter_of"]

ISSUER: Final = "sseal"
"""The issuer of identities that logged in with an account; a JWT may not claim it unless it is configured."""
_MINTER: Final = "minter:"
MAX_TIME: Final = 253_402_300_799.0
"""The last second of the year 9999; what lies beyond is a mistake, and breaks arithmetic on times."""


def minter(identity: Identity) -> str:
    """Return the parent that whatever an admin mints for others carries: revoking the admin ends it (W17)."""
    return minter_of(identity.issuer, str(identity.subject))


def minter_of(issuer: str, subject: str) -> str:
    """Return that parent from issuer and subject of the admin."""
    quoted = issuer.replace("%", "%25").replace("\n", "%0A")  # so that the first line end divides
    return f"{_MINTER}{quoted}\n{subject}"


def minted_by(parent: str) -> tuple[str, str] | None:
    """Return issuer and subject of the admin a parent names, None if it names something else."""
    if not parent.startswith(_MINTER):
        return None
    issuer, _, subject = parent.removeprefix(_MINTER).partition("\n")
    return issuer.replace("%0A", "\n").replace("%25", "%"), subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """Topic patterns one may ``subscribe`` and ``publish`` to, and whether one may administer the hub.

    Patterns are given as text and checked here once; ``{sub}`` stands for the identity's subject.

    :raises InvalidInput: for a pattern that does not parse, naming the field.
    """

    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    admin: bool = False

    def __post_init__(self) -> None:
        """Refuse what is not a pattern."""
        for name in ("subscribe", "publish"):
            for text in getattr(self, name):
                Pattern.parse(text, f"grants.{name}")

    def bound(self, name: str, subject: str | None) -> list[Pattern]:
        """Return the patterns of ``subscribe`` or ``publish`` with the subject put in."""
        patterns = (Pattern.parse(text).bind(subject) for text in getattr(self, name))
        return [pattern for pattern in patterns if pattern is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A proven somebody. Frozen; a derived credential carries its parents (W17).

    :param subject: who; None only for the anonymous identity.
    :param issuer: who says so (``iss`` of a JWT, ``sseal`` for own accounts, ``""`` if unsaid).
    :param grants: what they may do.
    :param issued_at: Unix seconds, by the hub's clock, at which the original credential was issued at the earliest: a
        JWT's ``iat`` less the leeway, so that a revocation also ends what a clock ahead of the hub's has signed (W17).
    :param expires_at: Unix seconds, None for never (only `authenticate=` and anonymous may say so).
    :param token_id: what revokes exactly this credential: ``jti:...``, ``session:...``; None if it has none.
    :param parents: the token ids this credential was derived from; their fate is its fate.
    :param way: how it was proven: bearer, ticket, resume, cookie, query, own, anonymous.
    :param family: the resume family of a ticket stream, else None.
    """

    subject: str | None
    issuer: str = ""
    grants: Grants = field(default_factory=Grants)
    issued_at: float = 0.0
    expires_at: float | None = None
    token_id: str | None = None
    parent_ids: tuple[str, ...] = ()
    auth_method: str = "custom"
    family: str | None = None

    def __post_init__(self) -> None:
        """Refuse an empty subject and times that are no numbers."""
        if self.subject is not None and (not isinstance(self.subject, str) or not self.subject):
            raise InvalidInput("subject", "must be a string that is not empty")
        for name in ("issued_at", "expires_at"):
            moment = getattr(self, name)
            if moment is not None and not 0 <= moment <= MAX_TIME:
                raise InvalidInput(name, f"must be Unix seconds up to the year 9999, not {moment!r}")
        if self.subject is None and self.auth_method != "anonymous":
            raise InvalidInput("subject", "only the anonymous identity has none")

    @classmethod
    def anonymous(cls) -> Identity:
        """Return the identity of somebody who asked to be nobody."""
        return cls(subject=None, auth_method="anonymous")

    @property
    def topic(self) -> str | None:
        """The subject's own topic, ``user/<subject>``; None for the anonymous identity."""
        return None if self.subject is None else user_topic(self.subject)

    @property
    def token_ids(self) -> tuple[str, ...]:
        """Every token id whose revocation ends this identity: its own and its parents'."""
        return self.parent_ids if self.token_id is None else (*self.parent_ids, self.token_id)

    def same_person(self, other: Identity) -> bool:
        """Tell whether both are the same subject of the same issuer."""
        return (self.issuer, self.subject) == (other.issuer, other.subject)

    def derive(
        self, *, auth_method: str, token_id: str | None, expires_at: float | None, family: str | None = None
    ) -> Identity:
        """Return the identity of a credential derived from this one; it never outlives its parent."""
        ends = [moment for moment in (self.expires_at, expires_at) if moment is not None]
        return replace(
            self,
            auth_method=auth_method,
            token_id=token_id,
            parent_ids=self.token_ids,
            expires_at=min(ends) if ends else None,
            family=family,
        )

    def expired(self, now: float) -> bool:
        """Tell whether the time is over at ``now`` (Unix seconds)."""
        return self.expires_at is not None and now >= self.expires_at
