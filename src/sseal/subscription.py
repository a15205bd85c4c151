"""What a stream may read: made by the authorizer alone, frozen, shared by reference."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from .auth.identity import Identity
from .topics import Pattern

__all__ = ["NO_BOUNDS", "NO_PATTERNS", "Subscription", "TopicSet"]

NO_PATTERNS: Final[frozenset[Pattern]] = frozenset()
NO_BOUNDS: Final[Mapping[str, float]] = MappingProxyType({})
"""What most streams have, shared by all of them."""


@dataclass(frozen=True, slots=True)
class TopicSet:
    """Exact topics and patterns, as a key: streams with equal sets share their joined bytes."""

    exact: frozenset[str]
    patterns: frozenset[Pattern] = NO_PATTERNS

    @classmethod
    def of(cls, *topics: str) -> TopicSet:
        """Parse a mix of exact topics and patterns."""
        parsed = [Pattern.parse(text) for text in topics]
        return cls(
            frozenset(str(pattern) for pattern in parsed if pattern.exact),
            frozenset(pattern for pattern in parsed if not pattern.exact),
        )

    def matches(self, topics: tuple[str, ...]) -> bool:
        """Tell whether an event listed under ``topics`` belongs to this set."""
        return self.matcher()(topics)

    def matcher(self) -> Callable[[tuple[str, ...]], bool]:
        """Return `matches` for a scan of many events: all patterns at once, as one regular expression."""
        exact = self.exact
        if not self.patterns:
            return lambda topics: not exact.isdisjoint(topics)
        full = re.compile("|".join(sorted(pattern.regex for pattern in self.patterns))).fullmatch
        return lambda topics: not exact.isdisjoint(topics) or any(map(full, topics))

    @property
    def names(self) -> tuple[str, ...]:
        """Topics and patterns as text, sorted."""
        if len(self.exact) == 1 and not self.patterns:  # as most streams
            return tuple(self.exact)
        return tuple(sorted([*self.exact, *map(str, self.patterns)]))


@dataclass(frozen=True, slots=True)
class Subscription:
    """An identity's leave to read a set of topics.

    :param identity: who reads.
    :param topics: what was granted.
    :param since: per topic or pattern text, Unix seconds before which events are neither replayed nor missed
        (W21).
    """

    identity: Identity
    topics: TopicSet
    since: Mapping[str, float] = field(default_factory=lambda: NO_BOUNDS)

    def visible(self, topics: tuple[str, ...], published_at: float) -> bool:
        """Tell whether an event may be shown: in the set, and not before every ``since`` that applies."""
        if not self.since:
            return self.topics.matches(topics)
        for topic in topics:
            if topic in self.topics.exact and published_at >= self.since.get(topic, 0.0):
                return True
            for pattern in self.topics.patterns:
                if pattern.matches(topic) and published_at >= self.since.get(str(pattern), 0.0):
                    return True
        return False
