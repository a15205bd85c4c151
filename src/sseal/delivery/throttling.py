"""Rates: how often in a minute a subject or an address may connect, fail, or ask for something.

Each rate holds for all hubs together; how exact that is says `sseal.delivery.limit_exchange`. How many streams may be
open at the same time is the matter of `sseal.delivery.stream_limits`.
"""

from __future__ import annotations

from typing import Final

from ..auth.family import hashed
from ..auth.identity import Identity
from ..clock import Clock
from ..errors import Policy, TooManyRequests
from ..limits import WINDOW, Limits, RateLimiter, address_key
from ..storage.store import Store

__all__ = ["Throttling"]

_FAILURES: Final = "failed-credentials-per-address"
_CONNECTS: Final = "connects-per-address"


class Throttling:
    """Counts what has a rate, and refuses one too many. Addresses are counted by their `address_key`.

    Where a server does not say who asks, the address is empty and has no rate: one rate for everybody would let one
    lock out all.

    :param store: counts exactly, for all hubs, what is rare and costly.
    :ivar rates: the counters of this hub, compared with other hubs.
    """

    def __init__(self, store: Store, clock: Clock, limits: Limits) -> None:
        self.rates = RateLimiter(clock)
        self._store = store
        self._limits = limits

    # -- addresses --------------------------------------------------------------------------------------

    def check_failed_credentials(self, address: str) -> None:
        """Refuse an address that has sent too many bad credentials, whatever it sends now.

        :raises TooManyRequests: too many of them in this minute.
        """
        if address:
            self.check(_FAILURES, self._limits.failures_per_minute_per_address, address_key(address))

    def count_failed_credential(self, address: str) -> None:
        """Count a credential of an address that was refused."""
        if address:
            self.rates.hit(self._limits.failures_per_minute_per_address, _FAILURES, address_key(address))

    def connect_from(self, address: str) -> None:
        """Count a connect of an address; a refused one counts too.

        :raises TooManyRequests: too many connects, or too many bad credentials, in this minute.
        """
        if not address:
            return
        key = address_key(address)
        self.check(_FAILURES, self._limits.failures_per_minute_per_address, key)
        connects = self._limits.connects_per_minute_per_address
        if not self.rates.hit(connects, _CONNECTS, key):
            raise self.exceeded(_CONNECTS, connects)

    # -- subjects; all of these raise `TooManyRequests` for one too many --------------------------------

    def connect(self, identity: Identity) -> None:
        """Count a connect of a subject; anonymous ones have no rate of their own."""
        if identity.subject is not None:
            rate = self._limits.connects_per_minute_per_subject
            self.spend("connects-per-subject", rate, identity.issuer, identity.subject)

    def ticket(self, identity: Identity) -> None:
        """Count a ticket that a subject asks for."""
        rate = self._limits.tickets_per_minute_per_subject
        self.spend("tickets-per-subject", rate, identity.issuer, str(identity.subject))

    def refresh(self, identity: Identity) -> None:
        """Count a refresh of a live stream; as many as tickets."""
        rate = self._limits.tickets_per_minute_per_subject
        self.spend("refreshes-per-subject", rate, identity.issuer, str(identity.subject))

    def publish(self, identity: Identity, events: int) -> None:
        """Count the events of one request."""
        rate = self._limits.publishes_per_minute_per_subject
        self.spend("publishes-per-subject", rate, identity.issuer, str(identity.subject), by=events)

    async def session(self, identity: Identity) -> None:
        """Count a session that a subject opens, exactly, at all hubs together.

        :raises Unavailable: the store cannot count now.
        """
        rate = self._limits.sessions_per_minute_per_subject
        names = (identity.issuer, str(identity.subject))
        self.spend("sessions-per-subject", rate, *names)
        if rate and await self.count("\0".join(("session", *names)), WINDOW, 1) > rate:
            raise self.exceeded("sessions-per-subject", rate)

    # -- anything ---------------------------------------------------------------------------------------

    def spend(self, what: str, per_minute: int, *names: str, by: int = 1) -> None:
        """Count something that has a rate.

        :param what: names the policy, such as ``connects-per-subject``.
        :param names: whose rate it is.
        :raises TooManyRequests: it was one too many; it does not count.
        """
        if not self.rates.hit(per_minute, what, *names, by=by):
            self.rates.hit(per_minute, what, *names, by=-by)
            raise self.exceeded(what, per_minute)

    def check(self, what: str, per_minute: int, *names: str) -> None:
        """Raise what `spend` would, without counting."""
        if not self.rates.allows(per_minute, what, *names):
            raise self.exceeded(what, per_minute)

    async def count(self, name: str, seconds: float, by: int = 1) -> int:
        """Count a name at all hubs, exactly; return how many it were since its first, at most ``seconds`` ago.

        :raises Unavailable: the store cannot be reached.
        """
        # Hashed, so that nobody chooses how long a key is.
        return await self._store.count(f"exact/{hashed(name)[:32]}", seconds, by)

    def exceeded(self, what: str, per_minute: int) -> TooManyRequests:
        """Return the refusal of one too many."""
        detail = f"too many {what.replace('-', ' ')} in a minute; at most {per_minute} are allowed"
        return TooManyRequests(
            detail, code="rate", retry_after=self.rates.reset, policy=Policy(what, per_minute, WINDOW)
        )
