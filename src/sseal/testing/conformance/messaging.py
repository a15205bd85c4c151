"""Checks of nodes and the mail between them (W42)."""

from __future__ import annotations

from .fixture import World, equal, eventually, expect, store_check
from .nodes import Node, node, nodes

MIB = 1024 * 1024


@store_check()
async def nodes_know_each_other(world: World) -> None:
    """Each finds all that are open, itself included, and not one that was closed."""
    crew = await nodes(world, 3)
    names = [one.name for one in crew]
    for one in crew:
        equal(sorted(await one.store.nodes()), names, f"the nodes that {one.name} knows")
    for _ in names[1:]:
        left = crew.pop()
        await left.store.close()
        equal(sorted(await crew[0].store.nodes()), [one.name for one in crew], "the nodes after one has left")


@store_check()
async def mail_reaches_its_node_once(world: World) -> None:
    """Only the node it is for, from any node, itself included; any bytes up to 1 MiB."""
    crew = await nodes(world, 3)
    sent: dict[str, list[bytes]] = {}
    for to in crew:
        bodies = sent[to.name] = [b"%s %s" % (one.name.encode(), to.name.encode()) for one in crew]
        for one, body in zip(crew, bodies, strict=True):
            equal(await one.store.send(to.name, body), True, f"send() from {one.name} to {to.name}")
    extra = [b"", bytes(range(256)), b"\xff" * MIB]
    for body in extra:
        equal(await crew[0].store.send(crew[-1].name, body), True, "send()")
    sent[crew[-1].name] += extra
    for one in crew:
        await _received(one, len(sent[one.name]))
    await _flushed(crew)
    for one in crew:
        letters = [letter for letter in one.heard.letters if letter != b"flush"]
        equal(sorted(letters), sorted(sent[one.name]), f"the mail of {one.name}")


async def _received(one: Node, count: int) -> None:
    await eventually(lambda: len(one.heard.letters) >= count, f"{one.name} gets its mail")


async def _flushed(crew: list[Node]) -> None:
    """Send two more rounds after everything else, so that what comes twice has come."""
    for _ in range(2):
        for one in crew:
            before = len(one.heard.letters)
            await one.store.send(one.name, b"flush")
            await _received(one, before + 1)


@store_check()
async def mail_to_nobody_is_told(world: World) -> None:
    """A node that never was, or has closed, is not known; what is sent to it reaches nobody."""
    crew = await nodes(world)
    equal(await crew[0].store.send("nobody", b"x"), False, "send() to a node that never was")
    if len(crew) > 1:
        await crew[1].store.close()
        equal(await crew[0].store.send(crew[1].name, b"x"), False, "send() to a node that has closed")
    await _flushed(crew[:1])
    equal([letter for one in crew for letter in one.heard.letters if letter == b"x"], [], "mail to nobody")


@store_check("shared")
async def a_broadcast_reaches_all_others(world: World) -> None:
    """Each other node that is open gets it once, whatever bytes it has; who has closed does not."""
    crew = await nodes(world, 4)
    left = crew.pop()
    await left.store.close()
    bodies = [b"", bytes(range(256)), b"\xff" * (32 * 1024)]
    for body in bodies:
        await crew[0].store.broadcast(body)
    for other in crew[1:]:
        await _received(other, len(bodies))
    await _flushed(crew)
    for other in crew[1:]:
        letters = [letter for letter in other.heard.letters if letter != b"flush"]
        equal(sorted(letters), sorted(bodies), f"what {other.name} heard")
    expect(left.heard.letters == [], "a closed node heard a broadcast")


@store_check("shared")
async def a_node_that_comes_back_gets_only_new_mail(world: World) -> None:
    """Mail is for the node that was there when it was sent."""
    one, other = await nodes(world)
    await other.store.close()
    await one.store.send(other.name, b"lost")
    again = await node(world, other.name)
    equal(await one.store.send(again.name, b"new"), True, "send() to a node that came back")
    await _received(again, 1)
    equal(again.heard.letters, [b"new"], "the mail of a node that came back")
    expect(other.heard.letters == [], "a closed node got mail")
