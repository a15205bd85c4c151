"""The topics and patterns a hub listens to, and the channels of the server that carry them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...subscription import TopicSet
from ...topics import is_pattern

__all__ = ["LOG_CHANNEL", "Interest", "channel_of", "topic_of"]

LOG_CHANNEL: Final = "log"
"""The channel on which every event is told: patterns need it."""
_TOPIC: Final = "t:"
"""What the channel of a topic begins with."""
_MAX_PATTERNS: Final = 64
"""Patterns looked for in what is told of every event; if there are more, the hub is handed everything."""


def channel_of(name: str) -> str:
    """Return the channel that carries a topic or pattern."""
    return LOG_CHANNEL if is_pattern(name) else f"{_TOPIC}{name}"


def topic_of(channel: str) -> str:
    """Return the topic of a channel other than `LOG_CHANNEL`."""
    return channel.removeprefix(_TOPIC)


class Interest:
    """What is listened to."""

    def __init__(self) -> None:
        self.patterns: set[str] = set()
        self._topics: set[str] = set()
        self.matches: Callable[[tuple[str, ...]], bool]  # whether an event of these topics is listened to
        self._compile()

    def add(self, name: str) -> str:
        """Listen to a topic or pattern; return its channel."""
        if is_pattern(name):
            self.patterns.add(name)
            self._compile()
        else:
            self._topics.add(name)
        return channel_of(name)

    def remove(self, name: str) -> str | None:
        """Listen to a topic or pattern no more; return its channel, unless another needs it."""
        if is_pattern(name):
            self.patterns.discard(name)
            self._compile()
            return None if self.patterns else LOG_CHANNEL
        self._topics.discard(name)
        return channel_of(name)

    def channels(self) -> set[str]:
        """Return the channels that carry all of it."""
        channels = {channel_of(topic) for topic in self._topics}
        if self.patterns:
            channels.add(LOG_CHANNEL)
        return channels

    def _compile(self) -> None:
        if len(self.patterns) > _MAX_PATTERNS:
            self.matches = lambda topics: True  # noqa: ARG005 - of any topics
            return
        patterns, topics = TopicSet.of(*self.patterns).matcher(), self._topics
        self.matches = lambda names: not topics.isdisjoint(names) or patterns(names)
