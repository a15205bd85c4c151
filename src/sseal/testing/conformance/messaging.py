"""Checks of nodes and the messages between them (W42)."""

from __future__ import annotations

from .fixture import ConformanceFixture, equal, eventually, expect, store_check
from .nodes import Node, node, nodes

MIB = 1024 * 1024


@store_check()
async def nodes_know_each_other(fixture: ConformanceFixture) -> None:
    """Each finds all that are open, itself included, and not one that was closed."""
    opened = await nodes(fixture, 3)
    names = [one.name for one in opened]
    for one in opened:
        equal(sorted(await one.store.nodes()), names, f"the nodes that {one.name} knows")
    for _ in names[1:]:
        left = opened.pop()
        await left.store.close()
        equal(sorted(await opened[0].store.nodes()), [one.name for one in opened], "the nodes after one has left")


@store_check()
async def a_message_reaches_its_node_once(fixture: ConformanceFixture) -> None:
    """Only the node it is for, from any node, itself included; any bytes up to 1 MiB."""
    opened = await nodes(fixture, 3)
    sent: dict[str, list[bytes]] = {}
    for to in opened:
        bodies = sent[to.name] = [b"%s %s" % (one.name.encode(), to.name.encode()) for one in opened]
        for one, body in zip(opened, bodies, strict=True):
            equal(await one.store.send(to.name, body), True, f"send() from {one.name} to {to.name}")
    extra = [b"", bytes(range(256)), b"\xff" * MIB]
    for body in extra:
        equal(await opened[0].store.send(opened[-1].name, body), True, "send()")
    sent[opened[-1].name] += extra
    for one in opened:
        await _received(one, len(sent[one.name]))
    await _flushed(opened)
    for one in opened:
        messages = [message for message in one.recorder.messages if message != b"flush"]
        equal(sorted(messages), sorted(sent[one.name]), f"the messages to {one.name}")


async def _received(one: Node, count: int) -> None:
    await eventually(lambda: len(one.recorder.messages) >= count, f"{one.name} gets its messages")


async def _flushed(opened: list[Node]) -> None:
    """Send two more rounds after everything else, so that what comes twice has come."""
    for _ in range(2):
        for one in opened:
            before = len(one.recorder.messages)
            await one.store.send(one.name, b"flush")
            await _received(one, before + 1)


@store_check()
async def a_message_to_nobody_is_told(fixture: ConformanceFixture) -> None:
    """A node that never was, or has closed, is not known; what is sent to it reaches nobody."""
    opened = await nodes(fixture)
    equal(await opened[0].store.send("nobody", b"x"), False, "send() to a node that never was")
    if len(opened) > 1:
        await opened[1].store.close()
        equal(await opened[0].store.send(opened[1].name, b"x"), False, "send() to a node that has closed")
    await _flushed(opened[:1])
    equal([message for one in opened for message in one.recorder.messages if message == b"x"], [], "mail to nobody")


@store_check("shared")
async def a_broadcast_reaches_all_others(fixture: ConformanceFixture) -> None:
    """Each other node that is open gets it once, whatever bytes it has; who has closed does not."""
    opened = await nodes(fixture, 4)
    left = opened.pop()
    await left.store.close()
    bodies = [b"", bytes(range(256)), b"\xff" * (32 * 1024)]
    for body in bodies:
        await opened[0].store.broadcast(body)
    for other in opened[1:]:
        await _received(other, len(bodies))
    await _flushed(opened)
    for other in opened[1:]:
        messages = [message for message in other.recorder.messages if message != b"flush"]
        equal(sorted(messages), sorted(bodies), f"what {other.name} was told")
    expect(left.recorder.messages == [], "a closed node heard a broadcast")


@store_check("shared")
async def a_node_that_comes_back_gets_only_new_messages(fixture: ConformanceFixture) -> None:
    """A message is for the node that was there when it was sent."""
    one, other = await nodes(fixture)
    await other.store.close()
    await one.store.send(other.name, b"lost")
    again = await node(fixture, other.name)
    equal(await one.store.send(again.name, b"new"), True, "send() to a node that came back")
    await _received(again, 1)
    equal(again.recorder.messages, [b"new"], "the messages to a node that came back")
    expect(other.recorder.messages == [], "a closed node got messages")
