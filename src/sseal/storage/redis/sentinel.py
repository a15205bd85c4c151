"""Where the primary is: at the address itself, or where a sentinel says."""

from __future__ import annotations

import msgspec
from redis.exceptions import RedisError

from .address import Address
from .connection import RedisConnection, make_connection
from .errors import Lost

__all__ = ["locate_primary"]


async def locate_primary(address: Address) -> tuple[str, int] | None:
    """Return host and port of the address, or what the first sentinel that answers says; None for a Unix socket.

    :raises Lost: no sentinel answers, or none knows the service.
    """
    if address.service is None:
        return address.hosts[0] if address.hosts else None
    problems = []
    for where in address.hosts:
        user, password = address.sentinel_username, address.sentinel_password
        sentinel = RedisConnection(make_connection(address, where, username=user, password=password))
        try:
            await sentinel.open()
            found = await sentinel.call("SENTINEL", "get-master-addr-by-name", address.service)
        except (Lost, RedisError) as error:
            problems.append(f"{where[0]}:{where[1]}: {error}")
            continue
        finally:
            sentinel.close()
            await sentinel.wait_closed()
        if found:
            host, port = msgspec.convert(found, tuple[bytes, bytes])
            return host.decode(), int(port)
        problems.append(f"{where[0]}:{where[1]}: does not know the service {address.service!r}")
    raise Lost("; ".join(problems))
