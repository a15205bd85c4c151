"""The waits after failures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseal.client.backoff import Backoff
from sseal.errors import InvalidInput

unit = st.floats(0, 1)


def test_the_ceiling_doubles_up_to_the_maximum() -> None:
    """With the largest random number the waits are the ceilings themselves."""
    backoff = Backoff(minimum=0.5, base=1, maximum=6)
    assert [backoff.next(1.0) for _ in range(5)] == [1, 2, 4, 6, 6]


def test_the_jitter_is_full() -> None:
    """The smallest random number gives the minimum however often things failed, half gives the middle."""
    backoff = Backoff(minimum=0.5, base=1, maximum=6)
    assert [backoff.next(0.0) for _ in range(3)] == [0.5, 0.5, 0.5]
    assert backoff.next(0.5) == pytest.approx((0.5 + 6) / 2)


def test_reset_starts_over() -> None:
    """After something worked, the next failure waits as little as the first."""
    backoff = Backoff()
    first = backoff.next(1.0)
    backoff.next(1.0)
    backoff.reset()
    assert backoff.next(1.0) == first


@given(st.lists(unit, max_size=80))
def test_every_wait_is_within_its_bounds(numbers: list[float]) -> None:
    """No sequence of random numbers leads below the minimum, above the maximum or to an overflow."""
    backoff = Backoff(minimum=0.2, base=1, maximum=30)
    assert all(0.2 <= backoff.next(number) <= 30 for number in numbers)


@pytest.mark.parametrize("bounds", [(2, 1, 3), (0, 5, 3), (-1, 1, 2), (0, 0, 0), (0, 1, float("inf"))])
def test_bounds_that_make_no_sense_are_refused(bounds: tuple[float, float, float]) -> None:
    """A backoff that exists is valid."""
    with pytest.raises(InvalidInput, match="backoff"):
        Backoff(minimum=bounds[0], base=bounds[1], maximum=bounds[2])


@pytest.mark.parametrize("number", [-0.1, 1.1, float("nan")])
def test_a_number_that_is_no_fraction_is_refused(number: float) -> None:
    """The random number is from 0 to 1."""
    with pytest.raises(InvalidInput, match="random01"):
        Backoff().next(number)
