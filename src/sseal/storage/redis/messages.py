"""Messages between nodes: which nodes are alive, and a channel for each and one for all (W42)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ...errors import TooLarge
from .commands import Commands
from .replies import flag, nothing, texts
from .script import Script

__all__ = ["Messages"]

MAX_BODY: Final = 1024 * 1024
"""Bytes in a message to a node."""
_ALL: Final = "all"
"""The channel of broadcasts."""

_FOLDER: Final = Path(__file__).with_name("lua") / "store"
_BEAT: Final = Script.load(_FOLDER, "beat", nothing, flags="allow-oom")
_NODES: Final = Script.load(_FOLDER, "nodes", texts, flags="no-writes")
_SEND: Final = Script.load(_FOLDER, "send", flag, flags="allow-oom")


class Messages:
    """What this node tells others; see the methods of `sseal.storage.store.Store` by the same names.

    :param node_timeout: seconds after its last heartbeat for which a node counts as alive.
    """

    def __init__(self, commands: Commands, node_timeout: float) -> None:
        self.node = ""  # the name of this node; changed by the store
        self._commands = commands
        self._timeout = node_timeout

    @property
    def channels(self) -> tuple[str, str]:
        """The channels on which messages to this node come."""
        return _ALL, f"node:{self.node}"

    async def send(self, node: str, body: bytes) -> bool:
        """Hand a message to a node.

        :raises TooLarge: it is over 1 MiB.
        """
        if len(body) > MAX_BODY:
            raise TooLarge("body", f"has {len(body)} bytes, at most {MAX_BODY} go to a node")
        channel = f"{self._commands.link.channels}node:{node}"
        return await self._commands.run(_SEND, node, self._timeout, channel, body)

    async def broadcast(self, body: bytes) -> None:
        """Publish to all nodes, which a server does that takes no writes."""
        await self._commands.call("PUBLISH", f"{self._commands.link.channels}{_ALL}", body)

    async def nodes(self) -> list[str]:
        """Return the nodes that are alive."""
        return await self._commands.run(_NODES, self._timeout)

    async def show_alive(self) -> None:
        """Show that this node is alive.

        :raises Lost: the connection is gone.
        :raises redis.exceptions.ResponseError: the server's refusal.
        """
        await self._commands.link.run(_BEAT, self.node, self._timeout)

    async def leave(self) -> None:
        """Be no node any more; raises as `show_alive`."""
        link = self._commands.link
        await link.call("ZREM", f"{link.prefix}nodes", self.node)
