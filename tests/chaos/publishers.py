"""The publishers: one request after the other, each awaited, and each outcome written down."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

from .calls import Address, Answer, NotSentError, request
from .readers import issue, position_of
from .record import Outcome, Publish

__all__ = ["Publisher"]

REST: Final = 0.2
"""Seconds before a publisher that was refused, or knows nothing, goes on."""
STUBBORN: Final = 25.0
"""Seconds for which an event with a key is repeated."""
WEIGHTS: Final = (20, 200, 1500)
"""Bytes an event carries beside its payload."""


class Publisher:
    """Publishes one event after the other.

    :param addresses: hubs in the order they are tried; after a failure the next one's turn comes.
    :param choose: returns the topics of the next event.
    :param keyed: send each event with a key of its own, and repeat it while its outcome is unknown.
    :param pause: mean seconds between two events.
    """

    def __init__(
        self,
        name: str,
        addresses: Sequence[Address],
        choose: Callable[[], tuple[str, ...]],
        rng: random.Random,
        *,
        keyed: bool,
        pause: float,
    ) -> None:
        self.name = name
        self.published: list[Publish] = []
        self._addresses = list(addresses)
        self._choose = choose
        self._dice = rng
        self._keyed = keyed
        self._pause = pause
        self._token = issue(name)

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until told to stop; what was begun is brought to an end."""
        while not stop.is_set():
            await self.publish(self._choose())
            await asyncio.sleep(self._dice.expovariate(1.0) * self._pause)

    async def publish(self, topics: tuple[str, ...]) -> Publish:
        """Publish one event and return what came of it."""
        number = len(self.published)
        payload = f"{self.name}.{number}"
        key = payload if self._keyed else None
        publish = Publish(payload, self.name, number, topics, key, time.monotonic())
        self.published.append(publish)
        end = publish.began + STUBBORN
        doubt = False
        while True:
            reply, answer = await self._post(publish)
            if reply == "acknowledged":
                _acknowledge(publish, answer)
                return publish
            doubt = doubt or reply == "unknown"
            publish.outcome = "unknown" if doubt else "refused"
            self._addresses.append(self._addresses.pop(0))
            await asyncio.sleep(REST)
            if not doubt or key is None or time.monotonic() > end:
                return publish

    async def insist(self, topics: tuple[str, ...]) -> Publish:
        """Publish until it is acknowledged; what was refused before counts as an event of its own."""
        end = time.monotonic() + STUBBORN
        while (publish := await self.publish(topics)).outcome != "acknowledged":
            assert time.monotonic() < end, f"nothing can be published to {topics}"
        return publish

    async def _post(self, publish: Publish) -> tuple[Outcome, Answer | None]:
        body: dict[str, object] = {"data": f"{publish.payload} {'x' * self._dice.choice(WEIGHTS)}"}
        if publish.key is not None:
            body = {"data": f"{publish.payload} {'x' * WEIGHTS[publish.number % len(WEIGHTS)]}", "key": publish.key}
        body |= {"topics": list(publish.topics)} if len(publish.topics) > 1 else {"topic": publish.topics[0]}
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        try:
            answer = await request(self._addresses[0], "POST", "/events", headers=headers, body=body)
        except NotSentError:
            return "refused", None
        except OSError:
            return "unknown", None
        return _reply(answer), answer


def _acknowledge(publish: Publish, answer: Answer | None) -> None:
    assert answer is not None
    (event_id,) = answer.problem["ids"]
    publish.outcome = "acknowledged"
    publish.position = position_of(event_id)


def _reply(answer: Answer) -> Outcome:
    """Return what an answer says of the outcome. A refusal without a code is a proxy's, which knows nothing."""
    if answer.status == 201:
        return "acknowledged"
    code = answer.problem.get("code")
    assert answer.status in (429, 500, 502, 503, 504), f"a publish was answered {answer}"
    if answer.status in (429, 503) and code not in (None, "outcome_unknown", "internal"):
        return "refused"
    return "unknown"
