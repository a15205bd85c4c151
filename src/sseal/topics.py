"""Topics and the patterns that grant or request them.

A topic is one or more segments joined by ``/``. A pattern is a topic in which a whole segment may be ``*``
(any one segment), ``{sub}`` (the subject, one literal segment) or, last only, ``**`` (one segment or more:
``a/**`` does not match ``a``). The characters ``*``, ``{`` and ``}`` stand nowhere else; a subject or any
other foreign text enters a topic through `literal` and nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from .errors import InvalidInput

__all__ = ["MAX_SEGMENTS", "MAX_TOPIC_LENGTH", "Pattern", "check_topic", "is_pattern", "literal", "user_topic"]

MAX_TOPIC_LENGTH: Final = 256
"""Characters in a topic or pattern: long enough for two UUIDs and words, short enough for an index key."""
MAX_SEGMENTS: Final = 32
"""Segments in a topic: bounds the walk through the pattern index."""

_SUBJECT = "{sub}"
_ESCAPED = frozenset("%/*{}")


def literal(text: str) -> str:
    """Percent-encode foreign text so that it is exactly one literal segment (W2).

    ``%``, ``/``, ``*``, ``{``, ``}`` and all control characters are encoded as UTF-8 bytes (RFC 3986
    section 2.1), everything else stays readable.

    :raises InvalidInput: when the text is empty or holds a lone surrogate.
    """
    if not text:
        raise InvalidInput("subject", "must not be empty")
    if text.isprintable() and _ESCAPED.isdisjoint(text):
        return text
    try:
        return "".join(
            char if char not in _ESCAPED and char.isprintable() else "".join(f"%{byte:02X}" for byte in char.encode())
            for char in text
        )
    except UnicodeEncodeError:
        raise InvalidInput("subject", "holds a lone surrogate, which is not a character") from None


@lru_cache(maxsize=64)
def user_topic(subject: str) -> str:
    """Return the topic that belongs to one subject: ``user/<subject as one literal segment>``.

    Remembered for as long as one connect asks for it again and again.
    """
    return f"user/{literal(subject)}"


def check_topic(text: str, field: str = "topic") -> str:
    """Return ``text`` if it is an exact topic.

    :raises InvalidInput: names ``field`` and what is wrong with it.
    """
    for segment in _segments(text, field):
        if "*" in segment or "{" in segment or "}" in segment:
            raise InvalidInput(field, f"segment {segment!r} is a pattern; an exact topic holds no '*', '{{' or '}}'")
    return text


def is_pattern(text: str) -> bool:
    """Tell whether ``text`` asks for more than one exact topic."""
    return "*" in text


@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed pattern. Build it with `Pattern.parse`; compare and hash it by its segments."""

    segments: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, field: str = "topic") -> Pattern:
        """Parse a pattern or an exact topic.

        :raises InvalidInput: names ``field`` and the segment that is wrong.
        """
        if isinstance(text, str) and len(text) <= MAX_TOPIC_LENGTH:
            return _remembered(text, field)
        return cls(tuple(_segments(text, field)))

    @classmethod
    def _parse(cls, text: str, field: str) -> Pattern:
        segments = tuple(_segments(text, field))
        for index, segment in enumerate(segments):
            if segment == "**" and index != len(segments) - 1:
                raise InvalidInput(field, "'**' may only be the last segment")
            if segment in ("*", "**", _SUBJECT):
                continue
            if "*" in segment or "{" in segment or "}" in segment:
                raise InvalidInput(field, f"segment {segment!r}: '*', '**' and '{{sub}}' must be a whole segment")
        return cls(segments)

    def bind(self, subject: str | None) -> Pattern | None:
        """Replace ``{sub}`` by the subject as one literal segment; None when there is no subject to put in."""
        if _SUBJECT not in self.segments:
            return self
        if not subject:
            return None
        name = literal(subject)
        return Pattern(tuple(name if segment == _SUBJECT else segment for segment in self.segments))

    @property
    def exact(self) -> bool:
        """Whether this pattern matches one topic only."""
        return "*" not in self.segments and "**" not in self.segments

    @property
    def regex(self) -> str:
        """A regular expression that matches the same topics."""
        return "/".join({"*": "[^/]+", "**": ".+"}.get(segment) or re.escape(segment) for segment in self.segments)

    def matches(self, topic: str) -> bool:
        """Tell whether an exact topic lies inside this pattern."""
        return self._covers(tuple(topic.split("/")))

    def covers(self, requested: Pattern) -> bool:
        """Tell whether everything ``requested`` can match lies inside this pattern."""
        return self._covers(requested.segments)

    def _covers(self, other: tuple[str, ...]) -> bool:
        mine = self.segments
        if mine[-1] == "**":
            fixed = mine[:-1]
            if len(other) <= len(fixed):
                return False
            other = other[: len(fixed)]
        else:
            fixed = mine
            if len(other) != len(fixed):
                return False
        return all(
            own != _SUBJECT and theirs != "**" and (own in ("*", theirs))
            for own, theirs in zip(fixed, other, strict=True)
        )

    def __str__(self) -> str:
        """Return the text this pattern was parsed from."""
        return "/".join(self.segments)


@lru_cache(maxsize=1024)
def _remembered(text: str, field: str) -> Pattern:
    """Parse; patterns come back with every connect. Errors are not remembered."""
    return Pattern._parse(text, field)  # noqa: SLF001 - same module


def _segments(text: str, field: str) -> list[str]:
    if not isinstance(text, str):
        raise InvalidInput(field, f"must be a string, not {type(text).__name__}")
    if not text:
        raise InvalidInput(field, "must not be empty")
    if len(text) > MAX_TOPIC_LENGTH:
        raise InvalidInput(field, f"has {len(text)} characters, at most {MAX_TOPIC_LENGTH} are allowed")
    if not text.isprintable():
        bad = next(char for char in text if not char.isprintable())
        raise InvalidInput(field, f"holds the character U+{ord(bad):04X}, which is not printable")
    segments = text.split("/")
    if "" in segments:
        raise InvalidInput(field, f"{text!r} has an empty segment")
    if len(segments) > MAX_SEGMENTS:
        raise InvalidInput(field, f"has {len(segments)} segments, at most {MAX_SEGMENTS} are allowed")
    return segments
