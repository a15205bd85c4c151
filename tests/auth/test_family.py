"""The resume family as a table of laws: what each presented token does (W14)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sseal.auth.family import LOCATOR_LENGTH, MAX_CHILDREN, TOKEN_LENGTH, Family, TokenState, hashed, locator
from sseal.position import Lineage, Position

NOW, OLD, ALIEN, OTHER = "cccccccc", "bbbbbbbb", "zzzzzzzz", "yyyyyyyy"
LINEAGE = Lineage(NOW, ((OLD, 100),))


def at(offset: int, epoch: str = NOW) -> Position:
    """Return a position."""
    return Position(epoch, offset)


def state(name: str, offset: int = 0) -> TokenState:
    """Return a good token issued at an offset."""
    return TokenState(name, str(at(offset)))


FAMILY = Family(state("T0", 5), (state("T1", 7), state("T2", 6)), ("OLD",))

LAWS = [
    # presented, offset, outcome, then current, then children
    ("T0", 5, "resumed", "T0", ["T1", "T2", "NEW"]),  # the current token may be used again
    ("T0", 9, "resumed", "T0", ["T1", "T2", "NEW"]),
    ("T1", 7, "resumed", "T1", ["NEW"]),  # the first child used becomes current, all others are void
    ("T2", 6, "resumed", "T2", ["NEW"]),
    ("T2", 100, "resumed", "T2", ["NEW"]),
    ("T0", 4, "before_issue", "T0", ["T1", "T2"]),  # never before the position of issue, and no theft either
    ("T1", 6, "before_issue", "T0", ["T1", "T2"]),
    ("T1", 0, "before_issue", "T0", ["T1", "T2"]),
    ("OLD", 9, "void", None, None),  # a superseded token ends the family
    ("OLD", 0, "void", None, None),
    ("NEVER", 9, "unknown", "T0", ["T1", "T2"]),  # a guess with the right locator ends nobody's stream
    ("", 9, "unknown", "T0", ["T1", "T2"]),
]


@pytest.mark.parametrize(("presented", "offset", "outcome", "current", "children"), LAWS)
def test_law_of_the_family(
    presented: str, offset: int, outcome: str, current: str | None, children: list[str] | None
) -> None:
    """One line per input: who gets in, and what is good afterwards (W14)."""
    verdict = FAMILY.resume(presented, at(offset), "NEW", LINEAGE)
    assert verdict.outcome == outcome
    if current is None:
        return
    assert verdict.family is not None
    assert verdict.family.current.hash == current
    assert [child.hash for child in verdict.family.children] == children


def test_a_child_is_issued_at_the_position_its_stream_starts_from() -> None:
    """The next resume may not go back beyond this one (W14)."""
    family = FAMILY.resume("T1", at(8), "NEW", LINEAGE).family
    assert family is not None
    assert family.children[0] == TokenState("NEW", str(at(8)))
    assert family.resume("NEW", at(7), "N2", LINEAGE).outcome == "before_issue"


def test_a_lost_token_costs_nothing() -> None:
    """T1 was sent and never arrived: the browser shows T0 again and goes on (W14)."""
    family = Family.start("T0", str(at(0)))
    for child in ("T1", "T2"):
        verdict = family.resume("T0", at(0), child, LINEAGE)
        assert verdict.family is not None
        family = verdict.family
    assert family.resume("T2", at(3), "T3", LINEAGE).outcome == "resumed"


def test_of_two_siblings_the_first_used_wins() -> None:
    """After a delayed duplicate both children are good until one is used; the other is then a thief's (W14)."""
    family = FAMILY.resume("T1", at(7), "T3", LINEAGE).family
    assert family is not None
    for loser in ("T0", "T2"):
        assert family.resume(loser, at(9), "X", LINEAGE).outcome == "void"


def test_the_children_of_one_token_are_bounded() -> None:
    """Reconnects that never arrive do not grow the record; the newest children stay good."""
    family = Family.start("T0", str(at(0)))
    for number in range(MAX_CHILDREN * 3):
        verdict = family.resume("T0", at(0), f"C{number}", LINEAGE)
        assert verdict.family is not None
        family = verdict.family
    assert len(family.children) == MAX_CHILDREN
    assert family.children[-1].hash == f"C{MAX_CHILDREN * 3 - 1}"
    assert family.resume(family.children[0].hash, at(0), "X", LINEAGE).outcome == "resumed"


ALLOWS = [
    # issued, presented, allowed
    (at(5), at(5), True),
    (at(5), at(4), False),
    (at(150), at(60, OLD), False),  # an older epoch, translated into this log, lies before
    (at(100), at(100, OLD), True),  # the same place by its older name
    (at(60, OLD), at(60, OLD), True),
    (at(60, OLD), at(59, OLD), False),
    (at(60, OLD), at(101), True),  # the log went on under a new epoch
    (at(60, OLD), at(59), False),
    (at(105, OLD), at(101), True),  # issued beyond what the old epoch proves: that stream went on at 100
    (at(5), at(9, ALIEN), False),  # an unknown epoch would start at the oldest event
    (at(5), at(10**9, ALIEN), False),
    (at(60, OLD), at(10**9, ALIEN), False),
    (at(5, ALIEN), at(5, ALIEN), True),  # the token came from before a restart, and so does the position
    (at(5, ALIEN), at(4, ALIEN), False),
    (at(5, ALIEN), at(1), True),  # its stream started at the oldest event of this log
    (at(5, ALIEN), at(9, OTHER), False),
]


@pytest.mark.parametrize(("issued", "presented", "allowed"), ALLOWS, ids=str)
def test_a_resume_never_starts_before_its_token_was_issued(
    issued: Position, presented: Position, allowed: bool
) -> None:
    """Positions of different epochs are compared by what they mean in this log (W10, W14)."""
    assert TokenState("T", str(issued)).allows(presented, LINEAGE) is allowed


def test_a_record_that_cannot_be_read_allows_nothing() -> None:
    """A broken position of issue is no reason to let everybody in."""
    assert not TokenState("T", "nonsense").allows(at(5), LINEAGE)


def test_a_child_may_be_issued_where_its_stream_really_starts() -> None:
    """Whoever presents a position beyond the head is let in at the head, and may come back from there (W25)."""
    family = FAMILY.resume("T1", at(10**9), "NEW", LINEAGE, at(20)).family
    assert family is not None
    assert family.resume("NEW", at(21), "N2", LINEAGE).outcome == "resumed"


def test_the_memory_of_void_tokens_is_bounded() -> None:
    """A stream that reconnects for days keeps a small record, in which the newest superseded tokens still count."""
    family = Family.start("0", str(at(0)))
    for number in range(1, 1000):
        verdict = family.resume(str(number - 1), at(0), str(number), LINEAGE)
        assert verdict.family is not None
        family = verdict.family
        assert len(family.void) <= 64
    assert family.resume("950", at(0), "X", LINEAGE).outcome == "void"


def test_only_a_hash_is_kept() -> None:
    """A token is 26 characters of which 10 find the family; what is stored cannot be presented."""
    token = "abcdefghijklmnopqrstuvwxyz"
    assert len(token) == TOKEN_LENGTH
    assert locator(token) == token[:LOCATOR_LENGTH]
    assert token not in hashed(token)
    assert len(hashed(token)) == 64


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(0, 3))
def test_law_a_void_token_stays_void(uses: list[int], first: int) -> None:
    """Once superseded, no later course of events makes a token good again (W14)."""
    family, issued, void = Family.start("C0", str(at(0))), ["C0"], set[str]()
    for number, use in enumerate(uses, start=1):
        shown = issued[-1 - use % len(issued)]
        verdict = family.resume(shown, at(0), f"C{number}", LINEAGE)
        if shown in void:
            assert verdict.outcome == "void"
            return
        assert verdict.outcome == "resumed"
        assert verdict.family is not None
        family = verdict.family
        issued.append(f"C{number}")
        good = {family.current.hash, *(child.hash for child in family.children)}
        void = {name for name in issued if name not in good}


class OneBrowserAndOneThief(RuleBasedStateMachine):
    """A browser that shows the last token it received, on a network that loses answers, and a thief's copy."""

    @initialize()
    def begin(self) -> None:
        """The ticket was redeemed."""
        self.family: Family | None = Family.start("0", str(at(0)))
        self.count = 0
        self.held = "0"
        self.stolen: str | None = None
        self.thief_used = False

    def _show(self, token: str) -> str | None:
        if self.family is None:
            return None
        self.count += 1
        verdict = self.family.resume(token, at(0), str(self.count), LINEAGE)
        self.family = verdict.family if verdict.outcome == "resumed" else None
        return str(self.count) if verdict.outcome == "resumed" else None

    @rule(lost=st.booleans())
    def reconnect(self, lost: bool) -> None:
        """The browser comes back; the answer may be lost on the way."""
        child = self._show(self.held)
        if child is not None and not lost:
            self.held = child

    @rule()
    def steal(self) -> None:
        """Somebody copies the browser's token."""
        self.stolen = self.held

    @rule()
    def use_stolen(self) -> None:
        """Somebody shows the copy, and keeps what comes of it."""
        if self.stolen is not None:
            self.thief_used = True
            self.stolen = self._show(self.stolen) or self.stolen

    @invariant()
    def nobody_is_thrown_out_without_a_thief(self) -> None:
        """Lost answers alone never end a family."""
        if hasattr(self, "family") and not self.thief_used:
            assert self.family is not None


TestOneBrowserAndOneThief = OneBrowserAndOneThief.TestCase
