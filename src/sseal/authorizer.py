"""Who may read what: the only place that makes a Subscription (W21)."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

from .auth.identity import Identity
from .errors import Forbidden, InvalidInput
from .subscription import NO_BOUNDS, NO_PATTERNS, Subscription, TopicSet
from .topics import Pattern

__all__ = ["MAX_PATTERNS", "MAX_TOPICS", "Allowed", "Authorize", "Authorizer"]

MAX_TOPICS: Final = 64
"""Topics of one stream unless `limits.topics_per_stream` says otherwise: a page with more wants a pattern."""
MAX_PATTERNS: Final = 8
"""Patterns of one stream: each is tried against every event that is new to the hub."""

Allowed = bool | Iterable[str] | Mapping[str, float | bool | None]
"""What `authorize=` returns: True (all), False (none), the topics allowed, or topic → ``since``.

In a mapping a topic with False is not allowed, with True or None allowed without a bound.

``since`` is Unix seconds: older events are neither replayed nor reported as missed; None for no bound.
"""

Authorize = Callable[[Identity, list[str]], Awaitable[Allowed]]


class Authorizer:
    """Decides which of the requested topics an identity may read, at every connect, resume and refresh.

    Topics that match ``public`` are open to everybody who may connect. The rest is decided by ``authorize``
    if there is one, else by the identity's grants and its own topic ``user/<subject>``.

    :param max_topics: topics of one stream; 0 for no bound.
    :raises InvalidInput: when a public pattern does not parse.
    """

    def __init__(
        self, authorize: Authorize | None = None, public: Sequence[str] = (), *, max_topics: int = MAX_TOPICS
    ) -> None:
        self._authorize = authorize
        self._max_topics = max_topics
        self._public = [Pattern.parse(text, "public_topics") for text in public]

    async def subscribe(self, identity: Identity, requested: Sequence[str], now: float) -> Subscription:
        """Grant the whole request or refuse it.

        :param requested: topics and patterns as text; empty for the identity's own topic.
        :param now: Unix seconds; a topic whose ``since`` lies ahead is not allowed yet.
        :raises InvalidInput: a topic does not parse, there are too many, or an anonymous caller named none.
        :raises Forbidden: lists in ``refused`` every topic that is not allowed.
        """
        patterns = self.parse(identity, requested)
        names = [name for name, pattern in patterns.items() if not self._is_public(pattern)]
        since: dict[str, float] = {}
        refused = names
        if names and identity.auth_method != "anonymous":
            if self._authorize is not None:
                allowed = await self._authorize(identity, names)
                refused = _refused(names, allowed)
                if isinstance(allowed, Mapping):
                    since = _bounds(names, allowed)
                    refused += [name for name, start in since.items() if start > now]
            else:
                refused = _not_granted(identity, patterns, names)
        if refused:
            raise Forbidden("not allowed to subscribe to: " + ", ".join(refused), refused=refused, code="topic_refused")
        topics = TopicSet(
            frozenset(name for name, pattern in patterns.items() if pattern.exact),
            frozenset(wide) if (wide := [p for p in patterns.values() if not p.exact]) else NO_PATTERNS,
        )
        return Subscription(identity, topics, since or NO_BOUNDS)

    def parse(self, identity: Identity, requested: Sequence[str]) -> dict[str, Pattern]:
        """Parse a request; an empty one means the identity's own topic."""
        if not requested:
            if identity.topic is None:
                raise InvalidInput("topic", "an anonymous stream must name the public topics it wants")
            requested = [identity.topic]
        if self._max_topics and len(requested) > self._max_topics:
            raise InvalidInput("topic", f"{len(requested)} topics requested, at most {self._max_topics} are allowed")
        patterns = {}
        for text in requested:
            pattern = Pattern.parse(text).bind(identity.subject)
            if pattern is None:
                raise InvalidInput("topic", "{sub} needs a signed-in subject")
            patterns[str(pattern)] = pattern
        if sum(not pattern.exact for pattern in patterns.values()) > MAX_PATTERNS:
            raise InvalidInput("topic", f"at most {MAX_PATTERNS} patterns are allowed in one stream")
        return patterns

    def _is_public(self, pattern: Pattern) -> bool:
        return any(public.covers(pattern) for public in self._public)


def _not_granted(identity: Identity, patterns: Mapping[str, Pattern], names: Iterable[str]) -> list[str]:
    others = [name for name in names if name != identity.topic]
    if not others:
        return others
    granted = identity.grants.bound("subscribe", identity.subject)
    return [name for name in others if not any(pattern.covers(patterns[name]) for pattern in granted)]


def _refused(names: Sequence[str], allowed: Allowed) -> list[str]:
    if isinstance(allowed, bool):
        return [] if allowed else list(names)
    if isinstance(allowed, str):
        raise TypeError("authorize= must return a bool, a list of topics or a mapping, not one string")
    if isinstance(allowed, Mapping):
        return [name for name in names if allowed.get(name, False) is False]
    inside = set(allowed)
    return [name for name in names if name not in inside]


def _bounds(names: Sequence[str], allowed: Mapping[str, float | bool | None]) -> dict[str, float]:
    """Read the ``since`` of each topic.

    :raises TypeError: one is no number.
    """
    bounds = {}
    for name in names:
        start = allowed.get(name)
        if start is None or isinstance(start, bool):
            continue
        if not isinstance(start, int | float) or not math.isfinite(start):
            raise TypeError(f"authorize= must give Unix seconds for {name!r}, not {start!r}")
        bounds[name] = float(start)
    return bounds
