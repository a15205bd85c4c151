"""Who the client is, behind proxies that were declared: ``X-Forwarded-*``, or RFC 7239 ``Forwarded``.

uvicorn's own middleware does not know ``Forwarded``, takes the leftmost address, which the client writes, when every
proxy is trusted, and takes whatever stands there for an address.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, Literal

from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import InvalidInput
from ..limits import LONGEST_ADDRESS

__all__ = ["ForwardedHeader", "Proxies", "parse_networks"]

ForwardedHeader = Literal["x-forwarded", "forwarded"]
"""What the proxies write. Only one: what a proxy does not write, the client may."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Hop = tuple[str, str]
"""Whom a proxy was asked by, and by which scheme, as it wrote them; empty when it did not say."""

_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR: Final = re.compile(rf'({_NAME})=({_NAME}|"(?:[^"\\]|\\.)*")')
_ELEMENT: Final = re.compile(rf"\s*(?:{_PAIR.pattern})?(?:\s*;\s*(?:{_PAIR.pattern})?)*\s*")
_COMMAS: Final = 4
"""Commas that one element of ``Forwarded`` may hold in quoted strings; no proxy writes any."""

logger = logging.getLogger("sseal.server")


class Proxies:
    """ASGI middleware that puts the client a trusted proxy speaks for into ``scope["client"]`` and ``["scheme"]``.

    The list of hops is read from its right end, where the nearest proxy wrote, up to the first address that is no
    trusted proxy: everything left of it was written by who is not trusted.

    :param trusted: addresses and networks of proxies; ``*`` trusts whoever connects, and nobody behind.
    :param header: what the proxies write.
    :raises InvalidInput: an entry is neither.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[str], header: ForwardedHeader = "x-forwarded") -> None:
        self._app = app
        self._any = "*" in trusted  # whoever connects is a proxy
        networks = parse_networks(each for each in trusted if each != "*")
        # Reads the addresses from the header, the nearest last.
        self._hops = _x_forwarded if header == "x-forwarded" else _forwarded
        self._trusts = lru_cache(maxsize=4096)(lambda address: any(address in network for network in networks))
        # The other header: it is no use to anybody, and logged.
        self._unheard = b"x-forwarded-for" if header == "x-forwarded" else b"forwarded"
        self._warned = False  # of the other header, once

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http":
            peer = _address(scope["client"][0]) if scope.get("client") else None
            if self._any or (peer is not None and self._trusts(peer)):
                self._apply(scope)
            elif not self._warned and any(name == self._unheard for name, _ in scope["headers"]):
                self._warned = True
                self._warn(scope)
        await self._app(scope, receive, send)

    def _warn(self, scope: Scope) -> None:
        """Say once that somebody not declared speaks for others: behind a forgotten proxy all share one address."""
        peer = scope["client"][0] if scope.get("client") else "somebody without an address"
        logger.warning(
            "%s is sent by %s, which is not in forwarded_allow_ips. If that is your proxy, add it: until then all its "
            "clients share one address and its limits. Anybody else may have sent it, too",
            self._unheard.decode().title(),
            peer,
        )

    def _apply(self, scope: Scope) -> None:
        for client, scheme in self._hops(scope["headers"]):
            if scheme in ("http", "https"):
                scope["scheme"] = scheme
            address = _address(client)
            if address is None:
                return  # a proxy that does not say: who asked is the last one known
            scope["client"] = (str(address), 0)
            if not self._trusts(address):
                return


def parse_networks(texts: Iterable[str]) -> list[Network]:
    """Return networks; an address is a network of one.

    :raises InvalidInput: one is neither.
    """
    networks: list[Network] = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise InvalidInput(
                "forwarded_allow_ips", f"{text!r} is neither an address nor a network such as 10.0.0.0/8 ({error})"
            ) from None
    return networks


def _address(text: str) -> Address | None:
    """Return an address as a proxy writes it, with a port or not; IPv4 in IPv6 form is IPv4. None if it is none."""
    text = text.strip()
    return _parsed(text) if len(text) <= 2 * LONGEST_ADDRESS else None  # what is longer would fill the cache


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Address | None:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _joined(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> str:
    return ",".join(value.decode("latin-1") for name, value in headers if name == wanted)


def _x_forwarded(headers: Sequence[tuple[bytes, bytes]]) -> Iterator[Hop]:
    """Yield the hops of ``X-Forwarded-For``, the nearest first; the scheme is that of the nearest proxy."""
    scheme = _joined(headers, b"x-forwarded-proto").rpartition(",")[2].strip().lower()
    for client in reversed(_joined(headers, b"x-forwarded-for").split(",")):
        yield client, scheme
        scheme = ""


def _forwarded(headers: Sequence[tuple[bytes, bytes]]) -> Iterator[Hop]:
    """Yield the hops of ``Forwarded`` (RFC 7239 section 4), the nearest first, as far as they can be read.

    What stands left of a hop may be the client's: a quote that it leaves open must not hide who it is, else its
    requests would count as the proxy's own.
    """
    text = _joined(headers, b"forwarded")
    while text:
        start, match = len(text), None
        for _ in range(1 + _COMMAS):
            start = text.rfind(",", 0, start)
            match = _ELEMENT.fullmatch(text, start + 1)
            if match is not None or start < 0:
                break
        if match is None:
            return
        pairs = {name.lower(): _unquoted(value) for name, value in _PAIR.findall(match[0])}
        yield pairs.get("for", ""), pairs.get("proto", "").lower()
        text = text[: max(0, start)]


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
