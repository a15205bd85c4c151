"""Resume families: one per ticket, a state table without I/O (W14).

=====================  ==========================================================================
presented token is     then
=====================  ==========================================================================
current                let in; it gets another child, itself stays current
a child of current     let in; the child becomes current, its parent and siblings are void
a superseded one       void: the family ends, whoever comes
anything else          refused, and nothing changes: it was never a token, or is too old to tell
=====================  ==========================================================================

A token is 26 characters of ``[a-z2-7]``: the first 10 find the family, all 26 prove it. Only hashes are kept.
A resume never starts before the position its token was issued with.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Final, Literal

from ..position import MAX_OFFSET, Lineage, Position

__all__ = ["LOCATOR_LENGTH", "MAX_CHILDREN", "TOKEN_LENGTH", "Family", "TokenState", "Verdict", "hashed", "locator"]

TOKEN_LENGTH: Final = 26
LOCATOR_LENGTH: Final = 10
"""50 bits find the record; the other 80 bits are the secret."""
MAX_VOID: Final = 64
"""Superseded tokens that are remembered, by 64 bits of their hash: an hour of reconnects once a minute."""
_SHORT: Final = 16
MAX_CHILDREN: Final = 16
"""Reconnects from one token of which none arrived; more than a minute of a browser's retries. The oldest is refused."""


def hashed(token: str) -> str:
    """Return what is stored instead of a token: SHA-256 in hex (tokens are random, so no salt is needed)."""
    return hashlib.sha256(token.encode()).hexdigest()


def locator(token: str) -> str:
    """Return the part of a resume token that finds its family."""
    return token[:LOCATOR_LENGTH]


@dataclass(frozen=True, slots=True)
class TokenState:
    """A token that is good: its hash and the position it was issued with."""

    hash: str
    issued: str

    def allows(self, presented: Position, lineage: Lineage) -> bool:
        """Tell whether a stream may start at ``presented``, not before the position of issue.

        Positions of different epochs are compared by what the lineage makes of them. A token issued with a position
        of an epoch unknown to this log opened a stream at its oldest event (it comes from before a restart), so no
        position of this log lies before that.
        """
        issued = Position.parse(self.issued)
        if issued is None:
            return False
        if presented.epoch == issued.epoch:
            return presented.offset >= issued.offset
        start, asked = lineage.resolve(issued, MAX_OFFSET), lineage.resolve(presented, MAX_OFFSET)
        return not asked.oldest and (start.oldest or asked.offset >= start.offset)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a presented token does to its family."""

    outcome: Literal["resumed", "before_issue", "void", "unknown"]
    family: Family | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """The good tokens of one ticket stream."""

    current: TokenState
    children: tuple[TokenState, ...] = ()
    void: tuple[str, ...] = ()

    @classmethod
    def start(cls, token_hash: str, issued: str) -> Family:
        """Open a family with the first token, given out with the ticket's first stream."""
        return cls(TokenState(token_hash, issued))

    def resume(
        self,
        presented_hash: str,
        presented: Position,
        child_hash: str,
        lineage: Lineage,
        issued: Position | None = None,
    ) -> Verdict:
        """Apply the table above to a presented token.

        :param issued: the position the new child is issued with; the presented one if None.
        """
        child = TokenState(child_hash, str(issued or presented))
        for state in (self.current, *self.children):
            if state.hash != presented_hash:
                continue
            if not state.allows(presented, lineage):
                return Verdict("before_issue", self)
            if state is self.current:
                children = (*self.children, child)[-MAX_CHILDREN:]
                return Verdict("resumed", replace(self, children=children))
            siblings = tuple(other.hash[:_SHORT] for other in self.children if other is not state)
            void = (*self.void, self.current.hash[:_SHORT], *siblings)[-MAX_VOID:]
            return Verdict("resumed", Family(state, (child,), void))
        return Verdict("void") if presented_hash[:_SHORT] in self.void else Verdict("unknown", self)
