"""Addresses of engines: ``memory://``, ``sqlite:///file``, ``redis://host``."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote, urlsplit

from ..errors import InvalidInput

__all__ = ["REDIS_SCHEMES", "engine_of", "file_of", "shown"]

REDIS_SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_SCHEMES: Final = {"memory": "memory", "sqlite": "sqlite"} | dict.fromkeys(REDIS_SCHEMES, "redis")


def engine_of(address: str, field: str = "broker") -> str:
    """Return which engine an address names: ``memory``, ``sqlite`` or ``redis``.

    :raises InvalidInput: none of them; names the field, and no part of the address, which may hold a password.
    """
    scheme, found, rest = address.partition("://")
    engine = _SCHEMES.get(scheme.lower()) if found else None
    if engine is None:
        raise InvalidInput(field, "must be memory://, sqlite:///path/to/file or redis://host:6379")
    if engine == "memory" and rest:
        raise InvalidInput(field, "nothing may follow memory://")
    if engine == "sqlite":
        file_of(address, field)
    return engine


def file_of(address: str, field: str = "broker") -> str:
    """Return the path in ``sqlite:///relative/path`` or ``sqlite:////absolute/path``.

    :raises InvalidInput: there is none.
    """
    parts = urlsplit(address)
    path = unquote(parts.path)[1:]
    if parts.netloc or not path or parts.query or parts.fragment or "\0" in path:
        raise InvalidInput(field, "must be sqlite:///file for a file in the working directory, or sqlite:////path")
    return path


def shown(address: str) -> str:
    """Return an address as it may be logged: without user, password and options."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"
