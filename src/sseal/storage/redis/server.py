"""What a server must be before anything is kept on it (W26)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...errors import InvalidInput, Unavailable

__all__ = ["Server", "check_server", "parse_info", "require_primary"]

_MINIMUM: Final = 7
"""Redis 7.0 is the first whose scripts are all or nothing when memory or the disk is full (``#!lua``)."""


@dataclass(frozen=True, slots=True)
class Server:
    """The process at the other end, as far as a log must know it.

    :param run_id: of this process; another one cannot prove that it has all the data (W10).
    :param replid: of its data set; another one when it was a replica meanwhile.
    """

    run_id: str
    replid: str


def parse_info(info: bytes) -> dict[str, str]:
    """Parse the answer to INFO."""
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines() if ":" in line)
    return {name: value.strip() for name, _, value in lines}


def check_server(info: bytes, field: str) -> Server:
    """Return the server that gave this INFO.

    :raises InvalidInput: it can never be used as it is set up; says what to change.
    :raises Unavailable: it cannot be used now: it is a replica.
    """
    known = parse_info(info)
    version = known.get("redis_version", "")
    valkey = "valkey_version" in known or known.get("server_name") == "valkey"
    if not valkey and int(version.partition(".")[0] or 0) < _MINIMUM:
        raise InvalidInput(field, f"the server is Redis {version}; Redis 7.0 or newer is needed, or Valkey")
    if known.get("cluster_enabled") == "1":
        raise InvalidInput(field, "the server is in cluster mode; one log needs one server, which Sentinel can replace")
    policy = known.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise InvalidInput(
            field,
            f"the server's maxmemory-policy is {policy}, which deletes events and revocations silently; "
            "set 'maxmemory-policy noeviction'",
        )
    require_primary(known)
    return Server(known.get("run_id", ""), known.get("master_replid", ""))


def require_primary(known: dict[str, str]) -> None:
    """Refuse what is no primary.

    :raises Unavailable: it is a replica.
    """
    if known.get("role", "master") != "master":
        raise Unavailable("the server is a replica; the primary is needed", code="broker_lost")
