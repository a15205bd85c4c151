"""How events are written down in the server, in a call of a script and in a message."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import msgspec

from ...subscription import TopicSet
from ...topics import Pattern
from ..broker import Entry, IdempotencyKey, Publication
from .connection import Reply

__all__ = ["Message", "calls_of", "entries_of", "query_of"]

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[str, str, int | None]).decode
_SPECIAL: Final = re.compile(r"([^\w/])", re.ASCII)


def calls_of(calls: Sequence[Sequence[Publication]]) -> list[bytes]:
    """Return the arguments publish.lua takes for some calls: what they are, then the blob of every publication."""
    blobs: list[bytes] = []
    shape = []
    for publications in calls:
        call: list[tuple[tuple[str, ...], float, str, str]] = []
        for publication in publications:
            # Lua's MessagePack knows no binary strings, so the blobs are arguments of their own.
            blobs.append(_encode((publication.type, publication.data, publication.retry)))
            key, digest = (
                ("", "") if publication.key is None else (_hash(publication.key), publication.key.digest.hex())
            )
            call.append((publication.topics, -1 if publication.ttl is None else publication.ttl, key, digest))
        shape.append(call)
    return [_encode(shape), *blobs]


def _hash(key: IdempotencyKey) -> str:
    # So that no text of a publisher ever stands in the name of a key, and each is of one length.
    return hashlib.sha256(_encode((key.scope, key.key))).hexdigest()[:40]


def entries_of(reply: Reply) -> list[Entry]:
    """Return the events of a reply that consists of items of the stream ``log``."""
    # To check the type of every part costs a tenth of what a page does, and only scripts of ours write items.
    items = cast("list[tuple[bytes, list[bytes]]]", reply)
    return [
        _entry(int(number.partition(b"-")[0]), topics, at, expires, blob)
        for number, (_, topics, _, at, _, expires, _, blob) in items
    ]


def _entry(offset: int, topics: bytes, at: bytes, expires: bytes, blob: bytes) -> Entry:
    kind, data, retry = _decode(blob)
    return Entry(
        offset, tuple(topics.decode().split("\n")), kind, data, float(at), float(expires) if expires else None, retry
    )


@dataclass(frozen=True, slots=True)
class Message:
    """What a hub is told of one event on one channel.

    :param previous: the offset before it on that channel.
    """

    epoch: str
    offset: int
    previous: int
    body: bytes

    @classmethod
    def parse(cls, data: bytes) -> Message:
        """Take apart what publish.lua has put together."""
        epoch, offset, previous, body = data.split(b" ", 3)
        return cls(epoch.decode(), int(offset), int(previous), body)

    def entry(self) -> Entry | None:
        """Return the event itself, or None when it is so long that it has to be read from the log."""
        at, expires, length, rest = self.body.split(b" ", 3)
        end = int(length)
        return _entry(self.offset, rest[:end], at, expires, rest[end:]) if len(rest) > end else None

    def topics(self) -> tuple[str, ...]:
        """Return the topics of the event."""
        _, _, length, rest = self.body.split(b" ", 3)
        return tuple(rest[: int(length)].decode().split("\n"))


def query_of(topics: TopicSet, since: Mapping[str, float]) -> bytes:
    """Return what history.lua takes for a set of topics."""
    exact, patterns = sorted(topics.exact), sorted(topics.patterns, key=str)
    return _encode(
        (
            exact,
            [since.get(topic, 0.0) for topic in exact],
            [_lua(pattern) for pattern in patterns],
            [since.get(str(pattern), 0.0) for pattern in patterns],
        )
    )


def _lua(pattern: Pattern) -> str:
    """Return a pattern as Lua writes it; it works on bytes, which '/' is one of in UTF-8."""
    wild = {"*": "[^/]+", "**": ".+"}
    return f"^{'/'.join(wild.get(segment) or _escaped(segment) for segment in pattern.segments)}$"


def _escaped(segment: str) -> str:
    return _SPECIAL.sub(lambda found: f"%{found[0]}" if found[0].isascii() else found[0], segment)
