"""Makes connections to where an address leads, through sentinels if it names some."""

from __future__ import annotations

from typing import Any

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from .address import Address
from .connection import PATIENCE, Wire
from .errors import Lost

__all__ = ["connection_to", "locate"]


def connection_to(address: Address, where: tuple[str, int] | None) -> AbstractConnection:
    """Return a connection to the server at ``where`` (None: the address' Unix socket), not yet connected."""
    return _make(address, where, username=address.username, password=address.password, db=address.db)


def _make(address: Address, where: tuple[str, int] | None, **login: Any) -> AbstractConnection:
    # No retries, no timeouts for reads, no answers in the newer protocol: `Wire` decides these (W8, W9).
    options = {**login, "retry": Retry(NoBackoff(), 0), "socket_timeout": None, "protocol": 2}
    options |= {"socket_connect_timeout": PATIENCE, "driver_info": None}
    if where is None:
        return UnixDomainSocketConnection(path=address.path or "", **options)
    options |= {"host": where[0], "port": where[1]}
    if address.tls is None:
        return Connection(**options)
    options |= address.tls
    return SSLConnection(**options)


def _nobody(why: str) -> None:
    """Nobody but the caller wants to know that a sentinel hung up."""
    del why


async def locate(address: Address) -> tuple[str, int] | None:
    """Return where the primary is: the host of the address, or what the first sentinel that answers says.

    :raises Lost: no sentinel answers, or none knows the service.
    """
    if address.service is None:
        return address.hosts[0] if address.hosts else None
    problems = []
    for where in address.hosts:
        login = {"username": address.sentinel_username, "password": address.sentinel_password}
        wire = Wire(_make(address, where, **login), _nobody)
        try:
            await wire.open()
            found = await wire.call("SENTINEL", "get-master-addr-by-name", address.service)
        except (Lost, RedisError) as error:
            problems.append(f"{where[0]}:{where[1]}: {error}")
            continue
        finally:
            wire.close()
            await wire.closed()
        if found:
            return found[0].decode(), int(found[1])
        problems.append(f"{where[0]}:{where[1]}: does not know the service {address.service!r}")
    raise Lost("; ".join(problems))
