"""Which names a hub answers to: a page whose name was pointed at this machine must not read from it (DNS rebinding)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from ..errors import InvalidInput
from .origin import is_loopback

__all__ = ["HostPolicy", "host_of", "normal_host"]

_NAME: Final = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


def normal_host(text: str, field: str = "allowed_hosts") -> str:
    """Return a host name, or ``*.`` and a domain, in lower case.

    :raises InvalidInput: it has a scheme, a port or a path, or is no host.
    """
    host = text.strip().lower().rstrip(".")
    if not _is_address(host) and _NAME.fullmatch(host) is None:
        raise InvalidInput(field, f"{text!r} is not a host like app.example.com or *.example.com, without a port")
    return host.strip("[]")


def host_of(url: str) -> str:
    """Return the host of an address or origin, in lower case and without its port."""
    return (urlsplit(url).hostname or "").rstrip(".")


class HostPolicy:
    """Decides by the Host header of a request.

    Addresses and this machine's own names always pass: they cannot be pointed somewhere else.

    :param allowed: host names; ``*.example.com`` stands for all names below one. None at all: any host.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        names = {normal_host(text) for text in allowed}
        self._exact = frozenset(name for name in names if not name.startswith("*."))
        self._below = tuple(name[1:] for name in names if name.startswith("*."))  # suffixes, with their dot
        self._any = not names  # every host passes

    def allows(self, header: str | None) -> bool:
        """Tell whether a request for this host, port included, is answered; one that names none is no browser's."""
        if self._any or header is None:
            return True
        host = header if header.endswith("]") else re.sub(r":[0-9]*$", "", header)
        host = host.lower().rstrip(".").strip("[]")
        return host in self._exact or host.endswith(self._below) or is_loopback(host) or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
