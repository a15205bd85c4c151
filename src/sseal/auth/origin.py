"""The Origin rule: which page a request came from, and whether its ambient credential counts (W11, W12)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import InvalidInput

__all__ = ["Caller", "OriginPolicy", "advice", "is_loopback", "normal_origin"]

_DEFAULT_PORTS = {"http": 80, "https": 443}


def normal_origin(text: str, field: str = "allowed_origins") -> str:
    """Return an origin in the form browsers send (RFC 6454 section 6.2).

    :raises InvalidInput: for a wildcard, a path, a missing scheme or host, or a scheme that is not http(s).
    """
    if text == "*":
        raise InvalidInput(field, "'*' would let every site read with the user's cookies; list the origins")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise InvalidInput(field, f"{text!r} is not an origin like https://app.example.com") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "*" in text:
        raise InvalidInput(field, f"{text!r} is not an origin like https://app.example.com")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
        raise InvalidInput(field, f"{text!r} holds more than scheme, host and port")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    suffix = "" if port is None or port == _DEFAULT_PORTS[parts.scheme] else f":{port}"
    return f"{parts.scheme}://{host}{suffix}"


def advice(origin: str | None) -> str:
    """Return what an operator can do about an Origin that was refused, for the end of a line of the log.

    It is empty for an Origin that no setting lets in: none, ``null``, and what is no origin.
    """
    try:
        listed = normal_origin(origin or "")
    except InvalidInput:
        return ""
    return f"; if that page is yours, add {listed} to allowed_origins (SSEAL_ALLOWED_ORIGINS)"


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address (without port) is this machine."""
    host = host.strip("[]").lower().rstrip(".")
    return host in ("localhost", "::1") or host.endswith(".localhost") or _is_loopback_ipv4(host)


def _is_loopback_ipv4(host: str) -> bool:
    parts = host.split(".")
    return len(parts) == 4 and parts[0] == "127" and all(part.isascii() and part.isdigit() for part in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What a request says of the page it came from.

    :param origin: the Origin header, None when absent.
    :param own: the origin the request was sent to, from scheme and Host; None if there is none, or no Origin
        to compare it with.
    :param fetch_site: the Sec-Fetch-Site header, None when absent.
    """

    origin: str | None
    own: str | None
    fetch_site: str | None


class OriginPolicy:
    """The allow-list and the three questions asked of it."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self.allowed = frozenset(normal_origin(text) for text in allowed)

    def known(self, caller: Caller) -> bool:
        """Tell whether the Origin that is present is the hub's own or on the list; ``null`` never is."""
        if caller.origin is None or caller.origin == "null":
            return False
        return caller.origin in self.allowed or (caller.own is not None and caller.origin == caller.own)

    def allows_cookie(self, caller: Caller) -> bool:
        """Tell whether a cookie counts: a known Origin, or none and ``Sec-Fetch-Site: same-origin``."""
        if caller.origin is not None:
            return self.known(caller)
        return caller.fetch_site == "same-origin"

    def allows_explicit(self, caller: Caller) -> bool:
        """Tell whether a request without cookies counts: no Origin passes unless it says it is cross-site."""
        if caller.origin is not None:
            return self.known(caller)
        return caller.fetch_site not in ("same-site", "cross-site")

    def allows_ticket(self, caller: Caller, bound_to: str | None) -> bool:
        """Tell whether a ticket may be redeemed: from the very Origin that asked for it, if one did."""
        if caller.origin is None:
            return caller.fetch_site not in ("same-site", "cross-site")
        if bound_to is not None:
            return caller.origin == bound_to and caller.origin != "null"
        return self.known(caller)
