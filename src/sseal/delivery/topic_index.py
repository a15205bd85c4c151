"""Which streams read which topic: groups of equal subscription sets, found by topic and by pattern."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from ..stream.connection import Connection
from ..subscription import TopicSet
from ..topics import Pattern

__all__ = ["MAX_LISTED", "Group", "TopicIndex"]

MAX_MATCHES: Final = 10_000
"""Topics whose matching patterns are remembered; a miss costs one try per pattern."""

MAX_LISTED: Final = 16
"""Topics whose streams are kept as a list, eight bytes each."""

_Key = TypeVar("_Key", str, Pattern)


class Group:
    """The streams of one subscription set; they share the bytes of what they read."""

    __slots__ = ("members", "topics")

    def __init__(self, topics: TopicSet) -> None:
        self.topics = topics
        self.members: dict[str, Connection] = {}


class PatternTree:
    """Patterns by their segments, so that a topic is tried against few of many."""

    __slots__ = ("branches", "pattern")

    def __init__(self) -> None:
        self.branches: dict[str, PatternTree] = {}
        self.pattern: Pattern | None = None

    def add(self, pattern: Pattern) -> None:
        """Let a pattern be found."""
        node = self
        for segment in pattern.segments:
            node = node.branches.setdefault(segment, PatternTree())
        node.pattern = pattern

    def remove(self, pattern: Pattern) -> None:
        """Let it be found no more; leaves no empty branch behind."""
        path = [self]
        for segment in pattern.segments:
            path.append(path[-1].branches[segment])
        path[-1].pattern = None
        for node, segment in zip(reversed(path[:-1]), reversed(pattern.segments), strict=True):
            child = node.branches[segment]
            if child.pattern is not None or child.branches:
                break
            del node.branches[segment]

    def matching(self, topic: str) -> list[Pattern]:
        """Return every pattern that matches an exact topic."""
        found: list[Pattern] = []
        nodes = [self]
        for segment in topic.split("/"):
            ends = [node.branches["**"].pattern for node in nodes if "**" in node.branches]
            found += [pattern for pattern in ends if pattern is not None]
            nodes = [n.branches[name] for n in nodes for name in (segment, "*") if name in n.branches]
        return found + [node.pattern for node in nodes if node.pattern is not None]


class TopicIndex:
    """Finds the groups that read an event."""

    def __init__(self) -> None:
        self._groups: dict[TopicSet, Group] = {}
        self._exact: dict[str, list[Group]] = {}  # the groups that read a topic by name
        self._patterns: dict[Pattern, list[Group]] = {}  # the groups that read by a pattern
        self._matches: dict[str, list[Pattern]] = {}  # remembered: the patterns that match a topic
        self._tree = PatternTree()  # all patterns
        self._listed: dict[tuple[str, ...], list[Connection]] = {}  # remembered: the streams that read some topics

    def add(self, connection: Connection) -> None:
        """Let a stream be found."""
        self._listed.clear()
        topics = connection.subscription.topics
        group = self._groups.get(topics)
        if group is None:
            group = self._groups[topics] = Group(topics)
            for name in topics.exact:
                self._exact.setdefault(name, []).append(group)
            for pattern in topics.patterns:
                if pattern not in self._patterns:
                    self._matches.clear()
                    self._tree.add(pattern)
                self._patterns.setdefault(pattern, []).append(group)
        group.members[connection.id] = connection

    def remove(self, connection: Connection) -> None:
        """Let a stream be found no more; unknown is fine."""
        self._listed.clear()
        topics = connection.subscription.topics
        group = self._groups.get(topics)
        if group is None or group.members.pop(connection.id, None) is None or group.members:
            return
        del self._groups[topics]
        for name in topics.exact:
            _discard(self._exact, name, group)
        for pattern in topics.patterns:
            if _discard(self._patterns, pattern, group):
                self._matches.clear()
                self._tree.remove(pattern)

    def groups(self, topics: tuple[str, ...]) -> Iterable[Group]:
        """Return every group that reads an event listed under these topics, each once."""
        if len(topics) == 1 and not self._patterns:
            return self._exact.get(topics[0], ())
        found: dict[int, Group] = {}
        for topic in topics:
            for group in self._exact.get(topic, ()):
                found[id(group)] = group
            for pattern in self._matching(topic) if self._patterns else ():
                for group in self._patterns[pattern]:
                    found[id(group)] = group
        return found.values()

    def streams(self, topics: tuple[str, ...]) -> list[Connection]:
        """Return every stream that reads an event listed under these topics; not to be changed.

        The list is kept until a stream comes or leaves: groups and their dictionaries are out of the processor's
        caches when an event comes.
        """
        listed = self._listed.get(topics)
        if listed is None:
            listed = [stream for group in self.groups(topics) for stream in group.members.values()]
            if len(self._listed) >= MAX_LISTED:
                self._listed.clear()
            self._listed[topics] = listed
        return listed

    @property
    def topic_count(self) -> int:
        """Count the distinct topics and patterns that have readers."""
        return len(self._exact) + len(self._patterns)

    def _matching(self, topic: str) -> list[Pattern]:
        patterns = self._matches.get(topic)
        if patterns is None:
            if len(self._matches) >= MAX_MATCHES:
                self._matches.clear()
            patterns = self._matches[topic] = self._tree.matching(topic)
        return patterns


def _discard(index: dict[_Key, list[Group]], key: _Key, group: Group) -> bool:
    """Remove a group under a key; tell whether the key went with it."""
    groups = index[key]
    groups.remove(group)
    if groups:
        return False
    del index[key]
    return True
