"""Revocations: an ordered log of who or what is no longer good, and the test against it (W17)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..errors import InvalidInput
from .identity import Identity, minted_by

__all__ = ["Revocation", "RevocationSet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """One entry of the revocation log.

    :param kind: ``subject`` ends what was issued to a subject up to ``at``; ``token`` ends one token id
        (``jti:...``, ``session:...``) and everything derived from it; ``family`` one ticket stream's family.
    :param value: the subject, token id or family.
    :param issuer: for a subject: only of this issuer; None for every issuer.
    :param at: Unix seconds of the revocation.
    :param expires_at: Unix seconds after which nothing it could concern lives any more.
    """

    kind: Literal["subject", "token", "family"]
    value: str
    issuer: str | None = None
    at: float
    expires_at: float

    def __post_init__(self) -> None:
        """Refuse a revocation of nothing."""
        if self.kind not in ("subject", "token", "family"):
            raise InvalidInput("kind", f"must be subject, token or family, not {self.kind!r}")
        if not self.value:
            raise InvalidInput(self.kind, "must not be empty")

    def concerns(self, identity: Identity) -> bool:
        """Tell whether this revocation ends that identity."""
        if self.kind == "token":
            return self.value in identity.token_ids
        if self.kind == "family":
            return identity.family == self.value
        if identity.issued_at > self.at:
            return False
        if identity.subject == self.value and self.issuer in (None, identity.issuer):
            return True
        return any(self._minted(parent) for parent in identity.parent_ids)

    def _minted(self, parent: str) -> bool:
        """Tell whether a parent names the revoked subject as the admin who minted."""
        minted = minted_by(parent)
        return minted is not None and minted[1] == self.value and self.issuer in (None, minted[0])


class RevocationSet:
    """All revocations in force, indexed so that a check costs a few dictionary look-ups."""

    def __init__(self) -> None:
        # When each may be forgotten, in Unix seconds.
        self._tokens: dict[str, float] = {}
        self._families: dict[str, float] = {}
        self._subjects: dict[str, list[Revocation]] = {}  # of each, the latest by issuer

    def __len__(self) -> int:
        """Count the entries in force or not yet pruned."""
        return len(self._tokens) + len(self._families) + sum(map(len, self._subjects.values()))

    def add(self, revocation: Revocation) -> bool:
        """Take one entry of the log; adding it twice changes nothing. Tell whether it says anything new."""
        if revocation.kind == "subject":
            known = self._subjects.setdefault(revocation.value, [])
            if any(r.issuer == revocation.issuer and r.at >= revocation.at for r in known):
                return False
            # A later revocation of the same subject and issuer says all that the earlier one did.
            known[:] = [r for r in known if r.issuer != revocation.issuer or r.at > revocation.at]
            known.append(revocation)
            return True
        index = self._tokens if revocation.kind == "token" else self._families
        known_end = index.get(revocation.value)
        index[revocation.value] = max(revocation.expires_at, known_end or 0.0)
        return known_end is None

    def revoked(self, identity: Identity) -> bool:
        """Tell whether any revocation concerns this identity."""
        if self._tokens and any(token in self._tokens for token in identity.token_ids):
            return True
        if identity.family is not None and identity.family in self._families:
            return True
        if identity.subject is None or not self._subjects:
            return False
        minters = filter(None, map(minted_by, identity.parent_ids))
        names = {identity.subject, *(subject for _, subject in minters)}
        return any(entry.concerns(identity) for name in names for entry in self._subjects.get(name, ()))

    def entries(self) -> Iterator[Revocation]:
        """Yield what would make this set again; when a token or family was revoked is not remembered, nor needed."""
        for value, ends in self._tokens.items():
            yield Revocation(kind="token", value=value, at=0.0, expires_at=ends)
        for value, ends in self._families.items():
            yield Revocation(kind="family", value=value, at=0.0, expires_at=ends)
        for known in self._subjects.values():
            yield from known

    def prune(self, now: float) -> None:
        """Drop what has expired."""
        for index in (self._tokens, self._families):
            for value in [value for value, end in index.items() if end <= now]:
                del index[value]
        for subject in list(self._subjects):
            alive = [entry for entry in self._subjects[subject] if entry.expires_at > now]
            if alive:
                self._subjects[subject] = alive
            else:
                del self._subjects[subject]
