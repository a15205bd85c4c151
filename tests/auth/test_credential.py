"""Which credential of a request counts: the first way present decides alone (W13)."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from sseal.auth.credential import AUTH_METHODS, Credential, CredentialPolicy
from sseal.auth.last_event_id import LastEventId
from sseal.errors import InvalidInput

ALL = frozenset(AUTH_METHODS)
TOKEN = "abcdefghijklmnopqrstuvwxyz"
RESUME = LastEventId.parse(f"{TOKEN}_k3v9x0aa-7")
POLICY = CredentialPolicy(auth_methods=ALL, session_cookie="sess", jwt_cookie="app")

CARRIED: dict[str, dict[str, Any]] = {
    "bearer": {"headers": [(b"authorization", b"Bearer B")]},
    "ticket": {"query": [("ticket", "T")]},
    "resume": {"last_event_id": RESUME},
    "cookie": {"headers": [(b"cookie", b"sess=S")]},
    "query": {"query": [("token", "Q")]},
    "custom": {},
}


def find(*auth_methods: str, policy: CredentialPolicy = POLICY, accepted: frozenset[Any] = ALL) -> Credential | None:
    """Look into a request that carries these ways."""
    headers = [pair for auth_method in auth_methods for pair in CARRIED[auth_method].get("headers", [])]
    query = [pair for auth_method in auth_methods for pair in CARRIED[auth_method].get("query", [])]
    return policy.find(accepted, headers, query, last_event_id=RESUME if "resume" in auth_methods else None)


def test_the_order_of_the_ways_is_the_published_one() -> None:
    """Bearer, ticket, resume, cookie, query, your own."""
    assert AUTH_METHODS == ("bearer", "ticket", "resume", "cookie", "query", "custom")


@pytest.mark.parametrize("auth_method", AUTH_METHODS)
def test_each_way_is_found_alone(auth_method: str) -> None:
    """What one request carries by one way is found there."""
    found = find(auth_method)
    assert found is not None
    assert found.auth_method == auth_method


@pytest.mark.parametrize(("first", "second"), list(combinations(AUTH_METHODS, 2)))
def test_of_two_ways_the_first_decides(first: str, second: str) -> None:
    """The later way is not looked at, whatever it holds (W13)."""
    found = find(second, first)
    assert found is not None
    assert found.auth_method == first
    expected = RESUME.token if (first, second) == ("ticket", "resume") else None
    assert found.fallback == expected  # only a ticket takes a resume token along, for its own family


@pytest.mark.parametrize(("first", "second"), list(combinations(AUTH_METHODS, 2)))
def test_a_way_that_is_off_or_not_accepted_is_not_a_credential(first: str, second: str) -> None:
    """A way that is switched off, or no good for this endpoint, is passed over (W13)."""
    off = CredentialPolicy(auth_methods=ALL - {first}, session_cookie="sess", jwt_cookie="app")  # type: ignore[operator]
    for found in (find(first, second, policy=off), find(first, second, accepted=ALL - {first})):  # type: ignore[operator]
        assert found is not None
        assert found.auth_method == second


def test_nothing_is_nothing() -> None:
    """A request without any credential has none, if the app has no own way."""
    policy = CredentialPolicy(auth_methods=ALL - {"custom"}, session_cookie="sess", jwt_cookie="app")
    assert policy.find(ALL, []) is None


@pytest.mark.parametrize("header", [b"Basic QTpC", b"Digest x", b"Negotiate x", b"Bearerish x", b"Bear x", b""])
def test_another_scheme_is_no_credential(header: bytes) -> None:
    """A staging site behind HTTP Basic does not break bearer's neighbours (W13)."""
    found = POLICY.find(ALL, [(b"authorization", header), (b"cookie", b"sess=S")])
    assert found is not None
    assert found.auth_method == "cookie"


@pytest.mark.parametrize("header", [b"Bearer X", b"bearer X", b"BEARER  X ", b" Bearer X"])
def test_the_scheme_is_read_without_case(header: bytes) -> None:
    """RFC 9110 section 11.1: schemes are case-insensitive."""
    assert POLICY.find(ALL, [(b"authorization", header)]) == Credential("bearer", "X")


def test_an_empty_bearer_is_present_and_bad() -> None:
    """`Authorization: Bearer` without a token is a bad credential, not none (W13)."""
    assert POLICY.find(ALL, [(b"authorization", b"Bearer"), (b"cookie", b"sess=S")]) == Credential("bearer", "")


def test_an_empty_ticket_is_present_and_bad() -> None:
    """`?ticket=` is a bad ticket, not none (W13)."""
    assert POLICY.find(ALL, [(b"cookie", b"sess=S")], [("ticket", "")]) == Credential("ticket", "")


DOUBLED: list[tuple[dict[str, Any], str]] = [
    ({"headers": [(b"authorization", b"Bearer A"), (b"authorization", b"Bearer A")]}, "Authorization"),
    ({"headers": [(b"authorization", b"Basic A"), (b"authorization", b"Bearer A")]}, "Authorization"),
    ({"headers": [(b"authorization", b"Basic A"), (b"authorization", b"Basic A")]}, "Authorization"),
    ({"query": [("ticket", "a"), ("ticket", "a")]}, "ticket"),
    ({"query": [("ticket", "a")], "path_ticket": "a"}, "ticket"),
    ({"query": [("token", "a"), ("token", "b")]}, "token"),
    ({"headers": [(b"cookie", b"sess=a; sess=b")]}, "Cookie"),
    ({"headers": [(b"cookie", b"sess=a"), (b"cookie", b"sess=a")]}, "Cookie"),
    ({"headers": [(b"cookie", b"app=a; x=y; app=b")]}, "Cookie"),
]


@pytest.mark.parametrize(("carried", "field"), DOUBLED)
def test_a_credential_that_stands_twice_is_refused(carried: dict[str, Any], field: str) -> None:
    """Two headers, or two cookies of the name (cookie tossing), are malformed: nobody guesses which (W13)."""
    headers, query = carried.pop("headers", []), carried.pop("query", [])
    with pytest.raises(InvalidInput) as caught:
        POLICY.find(ALL, headers, query, **carried)
    assert caught.value.field == field


COOKIES = [
    (b"sess=a", "a", True),
    (b"app=b", "b", False),
    (b"app=b; sess=a", "a", True),  # our own session is read before the app's cookie (W23)
    (b"x=1; sess=a; y=2", "a", True),
    (b'sess="a"', "a", True),
    (b"sess=", "", True),
    (b"sess=a=b", "a=b", True),
    (b" sess = a ", "a", True),
]


@pytest.mark.parametrize(("header", "value", "session"), COOKIES)
def test_our_own_session_is_read_before_the_apps_cookie(header: bytes, value: str, session: bool) -> None:
    """Cookies are found by name, ours first (W23)."""
    assert POLICY.find(ALL, [(b"cookie", header)]) == Credential("cookie", value, session=session)


@pytest.mark.parametrize("header", [b"", b"x=1", b"SESS=a", b"sess2=a", b"__Host-sess=a"])
def test_other_cookies_are_no_credential(header: bytes) -> None:
    """Only the two names count, case and all."""
    found = POLICY.find(ALL, [(b"cookie", header)])
    assert found is not None
    assert found.auth_method == "custom"


def test_the_apps_cookie_may_be_off() -> None:
    """Without a name for the app's cookie there is only our session."""
    policy = CredentialPolicy(auth_methods=ALL - {"custom"}, session_cookie="sess")
    assert policy.find(ALL, [(b"cookie", b"app=b; None=c")]) is None


def test_only_what_a_browser_adds_by_itself_is_ambient() -> None:
    """Cookies, and whatever the app's own way reads, are subject to the Origin rule (W12)."""
    assert [auth_method for auth_method in AUTH_METHODS if Credential(auth_method, "").ambient] == ["cookie", "custom"]


def test_a_plain_position_is_no_credential() -> None:
    """A Last-Event-ID without a token proves nothing."""
    policy = CredentialPolicy(auth_methods=ALL - {"custom"}, session_cookie="sess")
    for text in ("k3v9x0aa-7", "foo_12", ""):
        assert policy.find(ALL, [], last_event_id=LastEventId.parse(text)) is None
