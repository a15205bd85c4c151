"""The bounds of a hub and the counting of rates."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from sseal.errors import InvalidInput
from sseal.limits import Limits, RateLimiter


def test_every_limit_has_a_default_and_a_reason() -> None:
    """Everything that can grow has a limit, and the docstring says why it is what it is."""
    for item in fields(Limits):
        assert getattr(Limits(), item.name) > 0
        assert f":param {item.name}:" in (Limits.__doc__ or "")


@pytest.mark.parametrize("name", [item.name for item in fields(Limits)])
@pytest.mark.parametrize("value", [-1, True, "5", None, float("nan")])
def test_a_limit_that_is_no_bound_is_refused(name: str, value: Any) -> None:
    """Negative, boolean, text and NaN are refused with the setting's name."""
    with pytest.raises(InvalidInput) as caught:
        Limits(**{name: value})
    assert caught.value.field == f"limits.{name}"


def test_a_rate_counts_per_name() -> None:
    """One name's excess is nobody else's, and names do not run into each other."""
    rates = RateLimiter()
    assert [rates.hit(2, "login", "alice") for _ in range(3)] == [True, True, False]
    assert rates.hit(2, "login", "bob")
    assert rates.hit(2, "connect", "alice")


def test_a_name_with_a_separator_is_not_two_names() -> None:
    """An issuer and a subject that together spell another pair are another pair."""
    rates = RateLimiter()
    assert rates.hit(1, "connect", "a/b", "c")
    assert rates.hit(1, "connect", "a", "b/c")


def test_zero_is_no_limit() -> None:
    """A bound of 0 is switched off."""
    rates = RateLimiter()
    assert all(rates.hit(0, "x") for _ in range(100))
    assert rates.allows(0, "x")


def test_asking_does_not_count() -> None:
    """A look at the rate leaves it as it is."""
    rates = RateLimiter()
    assert all(rates.allows(1, "x") for _ in range(5))
    assert rates.hit(1, "x")
    assert not rates.allows(1, "x")
