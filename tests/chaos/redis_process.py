"""Redis as a process of the stage: with or without its data, frozen, copied, promoted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path

from redis_servers import program
from servers import free_port

from .processes import Process, Processes

__all__ = ["Redis"]

SYNCING = 15.0
"""Seconds a replica may take to be up to date with an idle primary."""


class Redis(Process):
    """One ``redis-server`` that writes each command to its append-only file before it answers.

    :ivar data: its directory.
    """

    def __init__(self, name: str, folder: Path, *, replica_of: int | None = None) -> None:
        self.data = folder / name
        self.data.mkdir()
        port = free_port()
        command = [program("redis"), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(self.data)]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]
        # A replica that catches up from the buffer is the ordinary case; and nobody waits for others to join.
        command += ["--repl-diskless-sync-delay", "0", "--enable-debug-command", "local"]
        if replica_of is not None:
            command += ["--replicaof", "127.0.0.1", str(replica_of)]
        super().__init__(name, command, port, folder, dict(os.environ))

    async def ready(self) -> bool:
        """Tell whether it takes commands: it does not while it loads its data."""
        with contextlib.suppress(OSError):
            return await self.ask("PING") == "PONG"
        return False

    async def ask(self, *words: str) -> str:
        """Send one command and return the first line of its reply, or the text of one that has a length.

        :raises ConnectionError: it could not be asked, or answered with an error.
        """
        reader, writer = await asyncio.open_connection(self.address.host, self.address.port)
        try:
            parts = [word.encode() for word in words]
            request = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
            writer.write(b"*%d\r\n%s" % (len(parts), request))
            async with asyncio.timeout(5.0):
                line = (await reader.readline()).decode().strip()
                if line[:1] == "$":
                    return (await reader.readexactly(int(line[1:]))).decode()
        finally:
            writer.transport.abort()
        if line[:1] in ("-", ""):
            raise ConnectionError(f"{self.name} answered {line!r} to {words[0]}")
        return line[1:]

    async def info(self, section: str) -> dict[str, str]:
        """Return one section of INFO."""
        lines = (await self.ask("INFO", section)).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    async def crash(self, *, keep: bool) -> None:
        """Kill it and start it again, with its data or with none."""
        await self.end(signal.SIGKILL)
        if not keep:
            shutil.rmtree(self.data)
            self.data.mkdir()
        await self.start()

    def backup(self) -> None:
        """Copy its data as they are on disk now; the file is only appended to, and loads up to a cut-off end."""
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self.data, self._copy)

    async def unredeem(self) -> None:
        """Kill it, put the copy in the place of its data, and start it again."""
        await self.end(signal.SIGKILL)
        shutil.rmtree(self.data)
        shutil.copytree(self._copy, self.data)
        await self.start()

    @property
    def _copy(self) -> Path:
        return self.data.with_suffix(".backup")

    async def synced(self) -> None:
        """Wait until this replica has everything its primary had when asked."""
        end = asyncio.get_running_loop().time() + SYNCING
        while (await self.info("replication")).get("master_link_status") != "up":
            assert asyncio.get_running_loop().time() < end, f"{self.name} does not follow: {self.tail()}"
            await asyncio.sleep(0.05)


async def redis_on(processes: Processes, name: str = "redis", *, replica_of: int | None = None) -> Redis:
    """Start a server."""
    return await processes.add(Redis(name, processes.folder, replica_of=replica_of))
