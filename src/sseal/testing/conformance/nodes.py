"""Nodes on the store of a fixture: what they heard."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...storage.store import Store
from .fixture import ConformanceFixture

__all__ = ["Node", "StoreRecorder", "node", "nodes"]


class StoreRecorder:
    """Writes down what a store tells its hub."""

    def __init__(self) -> None:
        self.revocation_signals = 0
        self.messages: list[bytes] = []

    def on_revocations(self) -> None:
        """Count the signals."""
        self.revocation_signals += 1

    def on_message(self, body: bytes) -> None:
        """Write the message down."""
        self.messages.append(body)


@dataclass(slots=True)
class Node:
    """An open store, the node it is, and what it heard."""

    name: str
    store: Store
    recorder: StoreRecorder = field(default_factory=StoreRecorder)


async def nodes(fixture: ConformanceFixture, size: int = 2) -> list[Node]:
    """Open several nodes on one store; one, where a store is not shared."""
    size = size if "shared" in fixture.promises else 1
    return [await node(fixture, f"node{number}") for number in range(size)]


async def node(fixture: ConformanceFixture, name: str = "node") -> Node:
    """Open one more node on the store."""
    one = Node(name, await fixture.store())
    await one.store.open(name, one.recorder)
    return one
