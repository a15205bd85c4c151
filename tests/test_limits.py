"""The bounds of a hub and the counting of rates."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from sseal.errors import InvalidInput
from sseal.limits import MAX_SHARED, Limits, RateLimiter, address_key
from sseal.testing import ManualClock


def test_every_limit_has_a_default_and_a_reason() -> None:
    """Everything that can grow has a limit, and the docstring says why it is what it is."""
    for item in fields(Limits):
        assert item.name == "on_too_many" or getattr(Limits(), item.name) > 0
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


def test_the_first_choice_of_too_many_streams_is_to_replace() -> None:
    """Tabs are many and forgotten: the newest is the one somebody looks at (W45)."""
    assert Limits().on_too_many == "replace_oldest"
    assert Limits(on_too_many="refuse").on_too_many == "refuse"


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:c000:207", "192.0.2.7"),
        ("64:ff9b::192.0.2.7", "192.0.2.7"),
        ("2002:c000:207:1::1", "192.0.2.7"),
        ("x" * 65, "x" * 64),
        (":" * 65, ":" * 64),
        ("", ""),
        ("unix:", "unix:"),
        ("testclient", "testclient"),
        (":::", ":::"),
    ],
)
def test_an_address_counts_as_what_one_household_has(address: str, key: str) -> None:
    """IPv4 by itself in any form, IPv6 by /64; what is no address stays what it is."""
    assert address_key(address) == key


def test_what_is_taken_back_does_not_count() -> None:
    """A hit that was none leaves room for another."""
    rates = RateLimiter()
    assert rates.hit(2, "x", by=2)
    assert not rates.hit(2, "x")
    rates.hit(2, "x", by=-2)
    assert rates.hit(2, "x")


def test_a_rate_starts_anew_with_the_minute_of_the_clock() -> None:
    """The same minute at all hubs, and the time until then is told."""
    clock = ManualClock(wall=1_800_000_000.0 + 45.0)
    rates = RateLimiter(clock)
    assert [rates.hit(1, "x"), rates.hit(1, "x")] == [True, False]
    assert rates.reset == 15.0
    clock.advance(15.0)
    assert rates.hit(1, "x")


def test_only_what_is_much_is_compared_with_other_hubs() -> None:
    """A quarter of the fair part of a limit, counted here, is worth it; alone nothing is."""
    rates = RateLimiter(ManualClock())
    for _ in range(50):
        rates.hit(80, "alone")
    rates.among(2)
    for _ in range(9):
        rates.hit(80, "x")
    assert rates.uncompared(10) == []
    rates.hit(80, "x")
    ((_, name, by),) = rates.uncompared(10)
    assert by == 10
    other = RateLimiter(ManualClock())
    other.among(2)
    other.hit(80, "x", by=70)
    ((key, same, by),) = other.uncompared(10)
    assert (same, by) == (name, 70)
    other.learn(key, same, by, 80)
    assert not other.allows(80, "x")
    assert other.uncompared(10) == [(key, name, 0)]
    assert other.hit(90, "x")


def test_what_another_minute_has_told_is_not_learned() -> None:
    """An answer that comes after its minute counts for nobody."""
    clock = ManualClock()
    rates = RateLimiter(clock)
    rates.among(2)
    rates.hit(4, "x")
    ((key, name, by),) = rates.uncompared(10)
    clock.advance(60.0)
    rates.hit(4, "x")
    rates.learn(key, name, by, 100)
    assert rates.allows(4, "x")


def test_names_that_are_compared_have_a_bound() -> None:
    """However many names are used up, what is kept of them is bounded."""
    rates = RateLimiter(ManualClock())
    rates.among(2)
    for number in range(MAX_SHARED + 5):
        rates.hit(1, str(number))
    assert len(rates.uncompared(2 * MAX_SHARED)) == MAX_SHARED


def test_what_is_taken_back_after_its_minute_is_no_credit() -> None:
    """Logins begun in one minute and good in the next leave nobody more guesses than others have."""
    clock = ManualClock(wall=59.9)
    rates = RateLimiter(clock)
    assert all(rates.hit(5, "login", "a") for _ in range(5))
    clock.advance(0.2)
    for _ in range(5):
        rates.hit(5, "login", "a", by=-1)
    assert [rates.hit(5, "login", "a") for _ in range(6)] == [True] * 5 + [False]
