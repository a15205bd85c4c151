"""Logins: guesses at passwords are refused where they come from, and slow a name down, but lock nobody out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from ..delivery.throttling import Throttling
from ..errors import CredentialInvalid, TooManyRequests, Unavailable
from ..limits import WINDOW, Limits, address_key

if TYPE_CHECKING:
    from ..identity_sources.accounts import Account, Accounts

__all__ = ["FROM_ANYWHERE", "MAX_SLOWED", "LoginThrottle"]

FROM_ANYWHERE: Final = 10
"""Times `limits.logins_per_minute_per_user` that a name may fail from anywhere before it is slowed down."""
MAX_SLOWED: Final = 256
"""Logins that wait at once. Beyond it, who has failed before is refused, and who has not waits no longer."""
SHORTEST_WAIT: Final = 0.5
"""Seconds that a login waits whose name is under attack; twice as long with every failure of its address."""
LONGEST_WAIT: Final = 8.0

logger = logging.getLogger("sseal.audit")


class LoginThrottle:
    """Checks passwords within what `limits` allows.

    A login counts as failed from its begin on, and is taken back when it did not: so a thousand at once are no way
    around. Each hub's own counters come first and spare the store, whose counters are those of all hubs.

    :param accounts: what checks a password.
    :param sleep: how to wait; for tests.
    """

    def __init__(
        self,
        accounts: Accounts,
        throttling: Throttling,
        limits: Limits,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._accounts = accounts
        self._throttling = throttling
        self._limits = limits
        self._sleep = sleep
        self._slowed = 0  # logins that wait now
        # Those who have failed take no more places in the queue of passwords than are worked on at once.
        self._suspects = asyncio.Semaphore(accounts.threads)

    async def verify(self, address: str, username: str, password: str) -> Account:
        """Return the account if the password is right; see `Accounts.verify` for the other errors.

        :raises TooManyRequests: the address has failed too often, with this name or with any.
        """
        attempt = _Attempt(self._throttling, self._limits, address_key(address), username[:256])
        try:
            failures = await attempt.begin()
            if not attempt.under_attack:
                account = await self._accounts.verify(username, password)
            elif failures:
                account = await self._slowly(failures, username, password)
            else:
                if self._slowed < MAX_SLOWED:
                    await self._wait(SHORTEST_WAIT)
                account = await self._accounts.verify(username, password)
        except CredentialInvalid:
            raise
        except BaseException:
            await attempt.take_back()
            raise
        await attempt.take_back()
        return account

    async def _slowly(self, failures: int, username: str, password: str) -> Account:
        """Check a password of a name under attack, for an address that has failed with it."""
        if self._slowed >= MAX_SLOWED:
            raise TooManyRequests("too many logins at once", retry_after=LONGEST_WAIT)
        await self._wait(min(SHORTEST_WAIT * 2.0**failures, LONGEST_WAIT))
        async with self._suspects:
            return await self._accounts.verify(username, password)

    async def _wait(self, seconds: float) -> None:
        self._slowed += 1
        try:
            await self._sleep(seconds)
        finally:
            self._slowed -= 1


class _Attempt:
    """One login, as it is counted.

    :ivar under_attack: whether its name has failed so often from anywhere that it is slowed down.
    """

    def __init__(self, throttling: Throttling, limits: Limits, address: str, name: str) -> None:
        self._throttling = throttling
        self._per_user = limits.logins_per_minute_per_user
        # Where the server does not say who asks, one bound for everybody would let one lock out all.
        self._bounds = [
            (bound, names)
            for bound, names in (
                (limits.logins_per_minute_per_address, ("failed-logins-per-address", address)),
                (limits.logins_per_minute_per_user, ("failed-logins-per-name-and-address", address, name)),
            )
            if bound and address
        ]
        self._anywhere = ("failed-logins-per-name", name)
        self._here: list[tuple[int, tuple[str, ...]]] = []  # what was counted at this hub: bounds and names
        self._counted: list[tuple[str, ...]] = []  # what was counted in the store
        self.under_attack = False

    async def begin(self) -> int:
        """Count it; return how often its address has failed with its name before in this minute.

        :raises TooManyRequests: too often; what one bound refuses is taken back from all.
        """
        for bound, names in self._bounds:
            self._here.append((bound, names))
            if not self._throttling.rates.hit(bound, *names):
                raise self._exceeded(bound, names)
        failures = 0
        for bound, names in self._bounds:
            failures = await self._count(names)
            if failures > bound:
                raise self._exceeded(bound, names)
        if not self._per_user:
            return 0
        self.under_attack = await self._count(self._anywhere) > FROM_ANYWHERE * self._per_user
        return max(0, failures - 1)

    async def take_back(self) -> None:
        """Count it no more."""
        for bound, names in self._here:
            self._throttling.rates.hit(bound, *names, by=-1)
        try:
            for names in self._counted:
                await self._throttling.count("\0".join(names), WINDOW, -1)
        except Unavailable as error:  # the login was what it was; the count ends with its minute
            logger.warning("a login stays counted as failed: %s", error)

    async def _count(self, names: tuple[str, ...]) -> int:
        number = await self._throttling.count("\0".join(names), WINDOW)
        self._counted.append(names)
        return number

    def _exceeded(self, bound: int, names: tuple[str, ...]) -> TooManyRequests:
        error = self._throttling.exceeded(names[0], bound)
        error.retry_after = WINDOW  # from the first failure on, which may be of this second
        return error
