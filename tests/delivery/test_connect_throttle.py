"""The throttle: connects in order of arrival, a few per turn of the loop."""

from __future__ import annotations

import asyncio
import time

from sseal.delivery.connect_throttle import AT_ONCE, SLICE, ConnectThrottle


async def test_a_lone_connect_does_not_wait() -> None:
    """With nobody in front one goes through without giving the loop away."""
    throttle = ConnectThrottle()
    entering = throttle.enter()
    try:
        entering.send(None)
    except StopIteration:
        passed = True
    else:
        passed = False
    assert passed
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_crowd_passes_in_order_and_leaves_time_for_others() -> None:
    """A thousand connects at once: others get their turn between any few of them."""
    throttle = ConnectThrottle()
    passed: list[int] = []

    async def connect(number: int) -> None:
        await throttle.enter()
        end = time.perf_counter() + SLICE / 4
        while time.perf_counter() < end:
            pass
        passed.append(number)

    tasks = [asyncio.create_task(connect(number)) for number in range(200)]
    between, seen = [], 0
    while len(passed) < 200:
        await asyncio.sleep(0)
        between.append(len(passed) - seen)
        seen = len(passed)
    await asyncio.gather(*tasks)
    assert passed == list(range(200))
    assert max(between) <= 2 * AT_ONCE + 2
    assert len(throttle) == 0


async def test_who_gives_up_is_passed_over() -> None:
    """A cancelled request takes nobody's turn."""
    throttle = ConnectThrottle()
    throttle._waiting.append(asyncio.get_running_loop().create_future())
    tasks = [asyncio.create_task(throttle.enter()) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    throttle._turn(asyncio.get_running_loop())
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), asyncio.CancelledError, type(None)]
