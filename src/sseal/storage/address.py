"""Addresses of engines: ``memory://``, ``sqlite:///file``, ``redis://host``."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote, urlsplit

from ..errors import InvalidInput

__all__ = ["REDIS_SCHEMES", "authority_of", "engine_of", "file_of", "redact_url"]

REDIS_SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_SCHEMES: Final = {"memory": "memory", "sqlite": "sqlite"} | dict.fromkeys(REDIS_SCHEMES, "redis")
_HOST: Final = r"(?:[A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
_PLACE: Final = re.compile(rf"{_HOST}(?:,{_HOST})*(?:/[0-9]{{0,5}})?")
_SERVICE: Final = re.compile(rf"{_HOST}(?:,{_HOST})*/[A-Za-z0-9._-]+(?:/[0-9]{{0,5}})?")
_SOCKET: Final = re.compile(r"/[^@?#]*")
"""What may be shown of an address: all of it is known to be no password."""


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
    problem = "must be sqlite:///file for a file in the working directory, or sqlite:////path"
    try:
        parts = urlsplit(address)
    except ValueError:  # its text may hold what looks like a host
        raise InvalidInput(field, problem) from None
    path = unquote(parts.path)[1:]
    if parts.netloc or not path or parts.query or parts.fragment or "\0" in path:
        raise InvalidInput(field, problem)
    return path


def authority_of(rest: str) -> tuple[str, str]:
    """Split what follows ``://`` before the first ``/``, ``?`` or ``#``: login and hosts, and everything else."""
    found = re.search(r"[/?#]", rest)
    return (rest, "") if found is None else (rest[: found.start()], rest[found.start() :])


def redact_url(address: str) -> str:
    """Return an address as it may be logged: without user, password and options.

    A password with an unescaped ``/``, ``?``, ``#`` or ``@`` moves what follows it to where the server and its
    database stand. So only the scheme is shown unless every character of the rest is where it belongs.
    """
    scheme, _, rest = address.partition("://")
    scheme = scheme.lower()
    if (engine := _SCHEMES.get(scheme)) is None:
        return "..."
    if engine == "redis":
        authority, place = authority_of(rest)
        rest = authority.rpartition("@")[2] + place.partition("?")[0]
        plain = _SOCKET if scheme == "unix" else _SERVICE if scheme.endswith("+sentinel") else _PLACE
        if "@" in place or not plain.fullmatch(rest):
            rest = "..."
    return f"{scheme}://{rest.partition('?')[0]}"
