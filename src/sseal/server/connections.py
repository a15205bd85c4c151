"""The connections that are no streams: how many there may be, and how long each may take for what it does.

A stream has limits of its own (`sseal.limits`, and the hub's timers). Everything else, from ``accept`` to the last
byte of an answer, is held here until it ends or becomes a stream. One sweep looks at all of them four times a second,
which costs less than a timer per request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from ..extras import needed
from ..limits import address_key

with needed("sseal.server.uvicorn", "server"):
    from uvicorn.config import Config
    from uvicorn.server import ServerState

__all__ = ["HttpConnection", "HttpConnections", "HttpLimits", "connections_of", "proxies", "spare_descriptors"]

SWEEP_INTERVAL: Final = 0.25
"""Seconds between two looks at the clock."""
FIRST_REQUEST_TIMEOUT: Final = 1.0
"""Seconds in which nobody is closed to make room; a request that was sent has arrived by then."""
STORM: Final = 4
"""How many times `HttpLimits.connections` there may be for as long as that."""
WARNING_INTERVAL: Final = 60.0
"""Seconds between two warnings of the same kind; an attack must not fill the log."""

logger = logging.getLogger("sseal.server")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What a connection that is no stream may take. Durations are seconds; 0 switches a bound on a count off.

    :param head_timeout: for a request head, from the first byte on or from the accept.
    :param response_timeout: an answer that nobody reads: no byte of it was taken for so long.
    :param connections: all together. One more closes the one that has waited longest without a request.
    :param connections_per_address: of one client address, IPv6 by /64. One more is closed. Those of the proxies whose
        ``X-Forwarded-For`` counts are not counted: there are many clients behind each.
    :param proxies: addresses and networks of such proxies, beside those that uvicorn itself believes.
    :param closed: where to count what was closed, by reason.
    """

    head_timeout: float = 15.0
    response_timeout: float = 30.0
    connections: int = 4096
    connections_per_address: int = 512
    proxies: tuple[str, ...] = ()
    closed: dict[str, int] = field(default_factory=dict)


def proxies(named: Sequence[str]) -> Callable[[str], bool]:
    """Return a function that tells whether an address is one of these: addresses, networks, or ``*`` for all."""
    networks = []
    for text in named:
        with contextlib.suppress(ValueError):
            networks.append(ip_network(text, strict=False))

    @lru_cache(1024)
    def is_proxy(address: str) -> bool:
        if "*" in named or address in named:
            return True
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in networks)

    return is_proxy


class HttpConnection(Protocol):
    """A connection as the sweep sees it.

    :ivar due: when it has to be over with what it does, in the loop's time; 0.0 for no bound.
    """

    transport: asyncio.Transport
    due: float

    def expire(self) -> str:
        """Close it because its time is over; return why."""


class _Stall:
    """Since when how many bytes wait for a client to read them."""

    __slots__ = ("since", "size")

    def __init__(self, size: int, since: float) -> None:
        self.size = size
        self.since = since


class HttpConnections:
    """The connections of one server that are no streams.

    :param all_connections: all connections of the server, streams included.
    :param is_proxy: tells which addresses are proxies.
    """

    def __init__(self, all_connections: Sized, limits: HttpLimits, is_proxy: Callable[[str], bool]) -> None:
        self._all_connections = all_connections
        self._limits = limits
        self._is_proxy = is_proxy
        self._loop = asyncio.get_running_loop()
        self._capacity = _capacity()  # connections this process has descriptors for, streams included
        self._held: dict[HttpConnection, str] = {}  # each with the key of its address, "" for a proxy's
        self._waiting: dict[HttpConnection, float] = {}  # those without a request, since when; the oldest first
        self._addresses: dict[str, int] = {}  # how many each address has, by its key
        self._stalls: dict[HttpConnection, _Stall] = {}  # those whose client has left bytes unread
        self._sweeping = False  # the next sweep is scheduled
        self._warned: dict[str, float] = {}  # when each reason was logged last

    def __len__(self) -> int:
        return len(self._held)

    def enter(self, connection: HttpConnection, address: str) -> bool:
        """Take a connection in that waits for its first request; return False if it has to be closed."""
        limits = self._limits
        key = "" if self._is_proxy(address) else address_key(address)
        of_address = self._addresses.get(key, 0)
        if key and limits.connections_per_address and of_address >= limits.connections_per_address:
            self.note("too_many_of_address", "a client address has too many connections; more are closed at once")
            return False
        now = self._loop.time()
        if limits.connections and len(self._held) >= limits.connections:
            # Thousands that come back at once after a restart have not had the time to say what they want.
            room = self._drop_waiting("too_many_connections", before=now - FIRST_REQUEST_TIMEOUT)
            if not room and len(self._held) >= STORM * limits.connections:
                return False
        if len(self._all_connections) >= self._capacity and not self._drop_waiting("descriptors", before=now):
            return False
        self._held[connection] = key
        self._waiting[connection] = now
        self._addresses[key] = of_address + 1
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(SWEEP_INTERVAL, self._sweep)
        return True

    def leave(self, connection: HttpConnection) -> None:
        """Forget a connection: it has ended, or is a stream now."""
        key = self._held.pop(connection, None)
        if key is None:
            return
        self._waiting.pop(connection, None)
        self._stalls.pop(connection, None)
        left = self._addresses[key] - 1
        if left:
            self._addresses[key] = left
        else:
            del self._addresses[key]

    def on_request(self, connection: HttpConnection) -> None:
        """Called when a connection has a request."""
        self._waiting.pop(connection, None)

    def on_idle(self, connection: HttpConnection) -> None:
        """Called when a connection waits for a request again."""
        if connection in self._held:
            self._waiting.pop(connection, None)  # so that it comes last: who has waited longest comes first
            self._waiting[connection] = self._loop.time()

    def on_progress(self, connection: HttpConnection) -> None:
        """Called when a client has read what waited for it."""
        self._stalls.pop(connection, None)

    def note(self, reason: str, text: str, *, level: int = logging.WARNING) -> None:
        """Count something, and log it unless that was done a moment ago."""
        times = self._count(reason)
        now = self._loop.time()
        if now - self._warned.get(reason, -WARNING_INTERVAL) >= WARNING_INTERVAL:
            self._warned[reason] = now
            logger.log(level, text, extra={"reason": reason, "times": times})

    def _count(self, reason: str) -> int:
        closed = self._limits.closed
        closed[reason] = closed.get(reason, 0) + 1
        return closed[reason]

    def _drop_waiting(self, reason: str, *, before: float) -> bool:
        """Close the connection that has waited longest without a request, since then or before; return whether."""
        oldest = next(iter(self._waiting), None)
        self.note(
            reason,
            f"{len(self._held)} connections that are no streams and {len(self._all_connections)} in all are as many as "
            f"{'the open files of this process' if reason == 'descriptors' else 'limits.http_connections'} allow; "
            "those that wait longest without a request are closed",
        )
        if oldest is None or self._waiting[oldest] > before:
            return False
        self.leave(oldest)
        oldest.transport.abort()
        return True

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in list(self._held):
            if connection.due and now >= connection.due:
                connection.due = 0.0
                self._count(connection.expire())
            elif size := connection.transport.get_write_buffer_size():
                self._check_stall(connection, size, now)
            elif connection in self._stalls:
                del self._stalls[connection]
        self._sweeping = bool(self._held)
        if self._sweeping:
            self._loop.call_later(SWEEP_INTERVAL, self._sweep)

    def _check_stall(self, connection: HttpConnection, size: int, now: float) -> None:
        """Close a connection whose client has taken nothing for too long of what waits for it."""
        stall = self._stalls.get(connection)
        if stall is None or size < stall.size:
            self._stalls[connection] = _Stall(size, now)
        elif now - stall.since >= self._limits.response_timeout:
            self.note("response_timeout", "a client does not read its answer; closed", level=logging.INFO)
            connection.transport.abort()
        else:
            stall.size = size  # the app has written more; that nobody reads is as long ago as before


_of_server: WeakKeyDictionary[ServerState, HttpConnections] = WeakKeyDictionary()


def connections_of(state: ServerState, config: Config, limits: HttpLimits) -> HttpConnections:
    """Return the connections of a server, which has one state for all its protocols."""
    found = _of_server.get(state)
    if found is None:
        named = config.forwarded_allow_ips if config.proxy_headers else []
        addresses = named.split(",") if isinstance(named, str) else named or []
        found = HttpConnections(
            state.connections, limits, proxies([*limits.proxies, *(each.strip() for each in addresses)])
        )
        _of_server[state] = found
    return found


def spare_descriptors(allowed: int) -> int:
    """Return how many of the open files allowed are left to everything but connections: files, the broker."""
    return min(256, allowed // 4)


def _capacity() -> int:
    """Return how many connections this process has descriptors for.

    At the very limit the kernel would say so, but to the event loop: uvloop closes the newcomers without a word.
    """
    if sys.platform == "win32":
        return sys.maxsize
    import resource

    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if allowed == resource.RLIM_INFINITY else allowed - spare_descriptors(allowed)
