"""Everything that can grow has a limit; each default cites its reason."""

from __future__ import annotations

from dataclasses import dataclass, fields
from ipaddress import IPv6Address

from .clock import Clock, SystemClock
from .errors import InvalidInput

__all__ = ["Limits", "RateLimiter", "address_key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one hub. 0 switches a bound off where that makes sense.

    :param streams: open streams; 19,000 leaves a thousand descriptors of the usual 20,000 for the rest.
    :param streams_per_subject: streams of one subject; one more ends the oldest (W45: tabs are many).
    :param streams_per_address: streams of one client address; offices share one.
    :param connects_per_minute_per_subject: a native EventSource with ten tabs reconnecting every 3 s makes 200.
    :param connects_per_minute_per_address: twenty such users behind one address.
    :param logins_per_minute_per_user: guesses at one password.
    :param logins_per_minute_per_address: guesses at many.
    :param tickets_per_minute_per_subject: tickets minted; as many as connects.
    :param sessions_per_minute_per_subject: session cookies for bearer tokens, at all hubs together: each may become a
        revocation, which every hub remembers for the life of a session.
    :param http_connections: connections that are no streams; one more closes the one that has waited longest without
        a request. Requests take milliseconds: 4,096 at once are some hundred thousand a second.
    :param http_connections_per_address: those of one client address, proxies not counted; one more is closed. A browser
        opens six to a host, offices share an address.
    :param body: bytes of a request body; an array of a hundred ordinary events fits.
    :param batch: events of one POST; more are as fast in a second request.
    :param data: bytes of one event's data, encoded: 256 KiB is what readers take in one piece without a stall.
    :param event_topics: topics of one event.
    :param key: characters of an idempotency key: a UUID or a hash, with room.
    :param ttl: seconds an event may ask to live; the log's retention ends it earlier anyway.
    :param replays: streams that read the broker's history at the same time; the others wait their turn.
    """

    streams: int = 19_000
    streams_per_subject: int = 20
    streams_per_address: int = 2_000
    connects_per_minute_per_subject: int = 240
    connects_per_minute_per_address: int = 4_800
    logins_per_minute_per_user: int = 10
    logins_per_minute_per_address: int = 60
    tickets_per_minute_per_subject: int = 240
    sessions_per_minute_per_subject: int = 30
    http_connections: int = 4096
    http_connections_per_address: int = 512
    body: int = 1024 * 1024
    batch: int = 100
    data: int = 256 * 1024
    event_topics: int = 16
    key: int = 128
    ttl: float = 7 * 24 * 3600.0
    replays: int = 32

    def __post_init__(self) -> None:
        """Refuse negative bounds."""
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:  # NaN too
                raise InvalidInput(f"limits.{item.name}", f"must be a number of at least 0, not {value!r}")


class RateLimiter:
    """How often something may happen per minute, per name. In the memory of one process.

    A fixed window: counts start anew each minute, which frees them all. Names are kept as 64-bit hashes, so that
    nobody chooses how much a name costs: 10,000 names are 0.6 MiB. (The `limits` package holds 209 bytes a name
    for a minute and starts timer threads in the server, both of which show in the memory of a hub that people
    connect to; for counters shared by several hubs it is the better choice.)
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._minute = 0
        self._counts: dict[int, int] = {}

    def hit(self, per_minute: int, *names: str) -> bool:
        """Count one more; tell whether it was within the rate. 0 means no limit."""
        if not per_minute:
            return True
        key = self._key(names)
        count = self._counts.get(key, 0) + 1
        self._counts[key] = count
        return count <= per_minute

    def allows(self, per_minute: int, *names: str) -> bool:
        """Tell whether one more would be within the rate, without counting it."""
        return not per_minute or self._counts.get(self._key(names), 0) < per_minute

    def _key(self, names: tuple[str, ...]) -> int:
        """Return the key of a name in the minute of now; ``hash`` of text is seeded anew in every process."""
        minute = int(self._clock.monotonic() // 60.0)
        if minute != self._minute:
            self._minute = minute
            self._counts = {}
        return hash(names)


def address_key(text: str) -> str:
    """Return what limits per client address count: an IPv4 address, or the /64 of an IPv6 address.

    Whoever has one address of a /64 usually has all 2^64 of them. IPv4 in IPv6 clothes (``::ffff:192.0.2.1``) counts as
    IPv4. What is no address is returned as it is.
    """
    if ":" not in text:
        return text
    try:
        address = IPv6Address(text.partition("%")[0])
    except ValueError:
        return text
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"
