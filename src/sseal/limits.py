"""Everything that can grow has a limit; each default cites its reason."""

from __future__ import annotations

import functools
import hashlib
import ipaddress
from dataclasses import dataclass, fields
from typing import Final, Literal, get_args

import msgspec

from .clock import Clock, SystemClock
from .errors import InvalidInput

__all__ = ["WINDOW", "Limits", "OnTooMany", "RateLimiter", "address_key"]

WINDOW: Final = 60
"""Seconds in which a rate is counted; then it starts anew."""
MAX_SHARED: Final = 10_000
"""Names whose rate is compared with other hubs at once; who makes more of them has used up other limits before."""
LONGEST_ADDRESS: Final = 64
"""Characters of an address: IPv6 has 45, and the name of an interface follows. Who says more, says what it likes."""
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""Where a translator puts the whole IPv4 Internet (RFC 6052): the address is in the last four bytes."""

OnTooMany = Literal["replace_oldest", "refuse"]
"""What becomes of one more stream of a subject that has as many as it may."""


def address_key(text: str) -> str:
    """Return what a client address counts as in limits: an IPv4 address itself, of an IPv6 address its /64.

    A /64 is what one household or one server is given: 2^64 addresses that cost nothing. IPv4 in an IPv6 form (mapped,
    6to4, through NAT64) is the IPv4 address. What is no address, such as the name of a socket, stays as it is.
    """
    if ":" not in text or len(text) > LONGEST_ADDRESS:
        return text[:LONGEST_ADDRESS]
    return _ipv6_key(text)


@functools.lru_cache(maxsize=4096)
def _ipv6_key(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text.partition("%")[0])
    except ValueError:
        return text
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address in _NAT64:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return str(inner or ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one hub; what they say of a subject or an address holds for all hubs on one store together.

    0 switches a bound off where that makes sense. How exact the common ones are: see `sseal.delivery.limit_exchange`.

    :param streams: open streams of one hub; 19,000 leaves a thousand descriptors of the usual 20,000 for the rest.
    :param streams_per_subject: streams of one subject; see ``on_too_many`` (W45: tabs are many).
    :param on_too_many: one more stream of a subject ends the oldest, or is refused (W45).
    :param streams_per_address: streams of one client address; offices share one.
    :param topics_per_stream: topics of one stream: a page with more wants a pattern.
    :param connects_per_minute_per_subject: a native EventSource with ten tabs reconnecting every 3 s makes 200.
    :param connects_per_minute_per_address: twenty such users behind one address.
    :param logins_per_minute_per_user: failed logins with one name from one address; ten times as many from
        anywhere slow the name down.
    :param logins_per_minute_per_address: failed logins from one address, whatever the name.
    :param failures_per_minute_per_address: refused credentials of one address, on every endpoint that takes one: an
        office of 300 whose sessions all ended, each page trying four times.
    :param publishes_per_minute_per_subject: events published over HTTP: 1,000 a second is a fifth of what one hub
        takes, and no back end that is not told to be one needs more.
    :param tickets_per_minute_per_subject: tickets minted; as many as connects.
    :param sessions_per_minute_per_subject: session cookies, by login and for bearer tokens, at all hubs together: each
        is a record, and may become a revocation, which every hub remembers for the life of a session.
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
    on_too_many: OnTooMany = "replace_oldest"
    streams_per_address: int = 2_000
    topics_per_stream: int = 64
    connects_per_minute_per_subject: int = 240
    connects_per_minute_per_address: int = 4_800
    logins_per_minute_per_user: int = 10
    logins_per_minute_per_address: int = 60
    failures_per_minute_per_address: int = 1_200
    publishes_per_minute_per_subject: int = 60_000
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
        """Refuse negative bounds, and what is no choice."""
        if self.on_too_many not in get_args(OnTooMany):
            choice = " or ".join(get_args(OnTooMany))
            raise InvalidInput("limits.on_too_many", f"must be {choice}, not {self.on_too_many!r}")
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "on_too_many":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:  # NaN too
                raise InvalidInput(f"limits.{item.name}", f"must be a number of at least 0, not {value!r}")


class RateLimiter:
    """How often something may happen per minute, per name: what happened here, and what is known of other hubs.

    A fixed window: counts start anew each minute of the clock, the same for all hubs, which frees them all. Names are
    kept as 64-bit hashes, so that nobody chooses how much a name costs: 10,000 names are 0.6 MiB. (The `limits` package
    holds 209 bytes a name for a minute and starts timer threads in the server, both of which show in the memory of a
    hub that people connect to.)

    A name is worth comparing with other hubs once it has used up a quarter of its fair part of a limit here: what all
    hubs together leave out stays below a quarter of the limit, and whoever does nothing unusual costs no exchange.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._wall = (clock or SystemClock()).wall
        self._minute = 0  # whose counts these are, in minutes since the Unix epoch
        self._begins = self._ends = 0.0  # of the minute, Unix seconds
        self._counts: dict[int, int] = {}
        self._hubs = 1  # how many take part in the limits
        self._shared: dict[int, _Shared] = {}  # names that are compared, those compared longest ago first

    def hit(self, per_minute: int, *names: str, by: int = 1) -> bool:
        """Count; tell whether it was within the rate. 0 means no limit.

        :param by: how many; a negative number takes back what was counted.
        """
        if not per_minute:
            return True
        key = self._key(names)
        count = max(0, self._counts.get(key, 0) + by)  # what is taken back may have been counted in the minute before
        self._counts[key] = count
        if self._hubs > 1 and count * 4 * self._hubs >= per_minute:
            self._share(key, names)
        return count + self._elsewhere(key) <= per_minute

    def allows(self, per_minute: int, *names: str) -> bool:
        """Tell whether one more would be within the rate, without counting it."""
        if not per_minute:
            return True
        key = self._key(names)
        return self._counts.get(key, 0) + self._elsewhere(key) < per_minute

    @property
    def reset(self) -> float:
        """Seconds until all counts start anew."""
        return WINDOW - self._wall() % WINDOW

    # -- comparing with other hubs ----------------------------------------------------------------------

    def among(self, hubs: int) -> None:
        """Be one of so many hubs; alone, nothing is compared."""
        self._hubs = hubs
        if hubs == 1:
            self._shared = {}

    def uncompared(self, most: int) -> list[tuple[int, str, int]]:
        """Return names to compare: key, name for the store, by how much it has changed since; 0 only to ask.

        Those that have changed come first, and of each kind those that were not compared for longest.
        """
        self._key(())  # a new minute has no old names
        names = [
            (key, f"{self._minute}/{shared.name}", self._counts.get(key, 0) - shared.sent)
            for key, shared in self._shared.items()
        ]
        return sorted(names, key=lambda each: not each[2])[:most]

    def learn(self, key: int, name: str, by: int, total: int) -> None:
        """Take what all hubs together have counted, ``by`` of it just added by this one."""
        shared = self._shared.get(key)
        if shared is None or name != f"{self._minute}/{shared.name}":
            return  # of the minute before
        shared.sent += by
        shared.elsewhere = max(0, total - shared.sent)
        # Compared last comes last, so that when there is too much to compare everybody has a turn.
        self._shared[key] = self._shared.pop(key)

    def _share(self, key: int, names: tuple[str, ...]) -> None:
        if key not in self._shared and len(self._shared) < MAX_SHARED:
            self._shared[key] = _Shared(hashlib.sha256(msgspec.json.encode(names)).hexdigest()[:32])

    def _elsewhere(self, key: int) -> int:
        shared = self._shared.get(key) if self._shared else None
        return 0 if shared is None else shared.elsewhere

    def _key(self, names: tuple[str, ...]) -> int:
        """Return the key of a name in the minute of now; ``hash`` of text is seeded anew in every process."""
        if not self._begins <= (now := self._wall()) < self._ends:
            self._minute = int(now // WINDOW)
            self._begins = self._minute * WINDOW
            self._ends = self._begins + WINDOW
            self._counts = {}
            self._shared = {}
        return hash(names)


@dataclass(slots=True)
class _Shared:
    """A name that is compared with other hubs.

    :param name: what it is called in the store, the same at every hub.
    :param sent: what the store was told of what happened here.
    :param elsewhere: what had happened at other hubs when that was compared last.
    """

    name: str
    sent: int = 0
    elsewhere: int = 0
