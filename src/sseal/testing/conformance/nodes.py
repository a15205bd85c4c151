"""Nodes on the store of a world: what they heard."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...storage.store import Store
from .fixture import World

__all__ = ["Ear", "Node", "node", "nodes"]


class Ear:
    """Writes down what a store tells its hub."""

    def __init__(self) -> None:
        self.signals = 0
        self.letters: list[bytes] = []

    def on_revocations(self) -> None:
        """Count the signals."""
        self.signals += 1

    def on_message(self, body: bytes) -> None:
        """Write the message down."""
        self.letters.append(body)


@dataclass(slots=True)
class Node:
    """An open store, the node it is, and what it heard."""

    name: str
    store: Store
    heard: Ear = field(default_factory=Ear)


async def nodes(world: World, size: int = 2) -> list[Node]:
    """Open several nodes on one store; one, where a store is not shared."""
    size = size if "shared" in world.promises else 1
    return [await node(world, f"node{number}") for number in range(size)]


async def node(world: World, name: str = "node") -> Node:
    """Open one more node on the store."""
    one = Node(name, await world.store())
    await one.store.open(name, one.heard)
    return one
