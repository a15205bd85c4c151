"""Checks of nodes and the mail between them (W42)."""

from __future__ import annotations

from .fixture import ConformanceFixture, equal, eventually, expect, store_check
from .nodes import Node, node, nodes

MIB = 1024 * 1024


@store_check()
async def nodes_know_each_other(fixture: ConformanceFixture) -> None:
    """Each finds all that are open, itself included, and not one that was closed."""
    open_hubs = await nodes(fixture, 3)
    names = [one.name for one in open_hubs]
    for one in open_hubs:
        equal(sorted(await one.store.nodes()), names, f"the nodes that {one.name} knows")
    for _ in names[1:]:
        left = open_hubs.pop()
        await left.store.close()
        equal(sorted(await open_hubs[0].store.nodes()), [one.name for one in open_hubs], "the nodes after one has left")


@store_check()
async def mail_reaches_its_node_once(fixture: ConformanceFixture) -> None:
    """Only the node it is for, from any node, itself included; any bytes up to 1 MiB."""
    open_hubs = await nodes(fixture, 3)
    sent: dict[str, list[bytes]] = {}
    for to in open_hubs:
        bodies = sent[to.name] = [b"%s %s" % (one.name.encode(), to.name.encode()) for one in open_hubs]
        for one, body in zip(open_hubs, bodies, strict=True):
            equal(await one.store.send(to.name, body), True, f"send() from {one.name} to {to.name}")
    extra = [b"", bytes(range(256)), b"\xff" * MIB]
    for body in extra:
        equal(await open_hubs[0].store.send(open_hubs[-1].name, body), True, "send()")
    sent[open_hubs[-1].name] += extra
    for one in open_hubs:
        await _received(one, len(sent[one.name]))
    await _flushed(open_hubs)
    for one in open_hubs:
        letters = [letter for letter in one.recorder.messages if letter != b"flush"]
        equal(sorted(letters), sorted(sent[one.name]), f"the mail of {one.name}")


async def _received(one: Node, count: int) -> None:
    await eventually(lambda: len(one.recorder.messages) >= count, f"{one.name} gets its mail")


async def _flushed(open_hubs: list[Node]) -> None:
    """Send two more rounds after everything else, so that what comes twice has come."""
    for _ in range(2):
        for one in open_hubs:
            before = len(one.recorder.messages)
            await one.store.send(one.name, b"flush")
            await _received(one, before + 1)


@store_check()
async def mail_to_nobody_is_told(fixture: ConformanceFixture) -> None:
    """A node that never was, or has closed, is not known; what is sent to it reaches nobody."""
    open_hubs = await nodes(fixture)
    equal(await open_hubs[0].store.send("nobody", b"x"), False, "send() to a node that never was")
    if len(open_hubs) > 1:
        await open_hubs[1].store.close()
        equal(await open_hubs[0].store.send(open_hubs[1].name, b"x"), False, "send() to a node that has closed")
    await _flushed(open_hubs[:1])
    equal([letter for one in open_hubs for letter in one.recorder.messages if letter == b"x"], [], "mail to nobody")


@store_check("shared")
async def a_broadcast_reaches_all_others(fixture: ConformanceFixture) -> None:
    """Each other node that is open gets it once, whatever bytes it has; who has closed does not."""
    open_hubs = await nodes(fixture, 4)
    left = open_hubs.pop()
    await left.store.close()
    bodies = [b"", bytes(range(256)), b"\xff" * (32 * 1024)]
    for body in bodies:
        await open_hubs[0].store.broadcast(body)
    for other in open_hubs[1:]:
        await _received(other, len(bodies))
    await _flushed(open_hubs)
    for other in open_hubs[1:]:
        letters = [letter for letter in other.recorder.messages if letter != b"flush"]
        equal(sorted(letters), sorted(bodies), f"what {other.name} heard")
    expect(left.recorder.messages == [], "a closed node heard a broadcast")


@store_check("shared")
async def a_node_that_comes_back_gets_only_new_mail(fixture: ConformanceFixture) -> None:
    """Mail is for the node that was there when it was sent."""
    one, other = await nodes(fixture)
    await other.store.close()
    await one.store.send(other.name, b"lost")
    again = await node(fixture, other.name)
    equal(await one.store.send(again.name, b"new"), True, "send() to a node that came back")
    await _received(again, 1)
    equal(again.recorder.messages, [b"new"], "the mail of a node that came back")
    expect(other.recorder.messages == [], "a closed node got mail")
