"""The Origin rule: three questions, one table each (W11, W12)."""

from __future__ import annotations

import pytest

from sseal.auth.origin import Caller, OriginPolicy, is_loopback, normal_origin
from sseal.errors import InvalidInput

OWN, LISTED, FOREIGN = "https://hub.example", "https://app.example", "https://evil.example"
POLICY = OriginPolicy([LISTED])
NONE = None
SITES = ("same-origin", "same-site", "cross-site", "none", NONE, "bogus")

# What an Origin header alone decides, whatever Sec-Fetch-Site says.
WITH_ORIGIN = [
    # origin, cookie, explicit, ticket bound to LISTED, to OWN, to nothing
    (OWN, True, True, False, True, True),
    (LISTED, True, True, True, False, True),
    (FOREIGN, False, False, False, False, False),
    ("null", False, False, False, False, False),
    ("", False, False, False, False, False),
    ("https://hub.example:8443", False, False, False, False, False),
    ("http://hub.example", False, False, False, False, False),
    ("https://hub.example.evil.example", False, False, False, False, False),
    ("https://app.example/", False, False, False, False, False),
]


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize(("origin", "cookie", "explicit", "bound", "bound_own", "unbound"), WITH_ORIGIN)
def test_an_origin_that_is_present_decides(
    origin: str, cookie: bool, explicit: bool, bound: bool, bound_own: bool, unbound: bool, site: str | None
) -> None:
    """It is the same, on the list, or the ticket's; `null` never is (W11, W12)."""
    caller = Caller(origin=origin, own=OWN, fetch_site=site)
    assert POLICY.allows_cookie(caller) is cookie
    assert POLICY.allows_explicit(caller) is explicit
    assert POLICY.allows_ticket(caller, LISTED) is bound
    assert POLICY.allows_ticket(caller, OWN) is bound_own
    assert POLICY.allows_ticket(caller, None) is unbound


WITHOUT_ORIGIN = [
    # Sec-Fetch-Site, cookie, explicit, ticket
    ("same-origin", True, True, True),  # a same-origin EventSource sends no Origin
    ("same-site", False, False, False),
    ("cross-site", False, False, False),
    ("none", False, True, True),
    (NONE, False, True, True),  # plain http off loopback, and everything that is no browser
]


@pytest.mark.parametrize(("site", "cookie", "explicit", "ticket"), WITHOUT_ORIGIN)
@pytest.mark.parametrize("bound_to", [None, OWN, LISTED, FOREIGN])
def test_without_an_origin_the_fetch_site_decides(
    site: str | None, cookie: bool, explicit: bool, ticket: bool, bound_to: str | None
) -> None:
    """Cookies need `same-origin`; tickets pass unless the browser says another site sent them (W11)."""
    caller = Caller(origin=None, own=OWN, fetch_site=site)
    assert POLICY.allows_cookie(caller) is cookie
    assert POLICY.allows_explicit(caller) is explicit
    assert POLICY.allows_ticket(caller, bound_to) is ticket


def test_a_ticket_minted_by_a_null_origin_opens_nothing_there() -> None:
    """A sandboxed frame and another sandboxed frame are not the same page (W11)."""
    assert not POLICY.allows_ticket(Caller(origin="null", own=OWN, fetch_site=None), "null")


def test_a_ticket_may_come_from_the_very_page_that_asked() -> None:
    """A page off the list that holds a bearer token may mint a ticket and redeem it itself (W11)."""
    assert POLICY.allows_ticket(Caller(origin=FOREIGN, own=OWN, fetch_site=None), FOREIGN)


def test_without_a_host_no_origin_is_our_own() -> None:
    """An HTTP/1.0 request names no host to compare with."""
    assert not POLICY.known(Caller(origin=OWN, own=None, fetch_site=None))
    assert POLICY.known(Caller(origin=LISTED, own=None, fetch_site=None))


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("https://app.example", "https://app.example"),
        ("https://app.example/", "https://app.example"),
        ("HTTPS://APP.example:443", "https://app.example"),
        ("http://app.example:80", "http://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://localhost:5173", "http://localhost:5173"),
    ],
)
def test_an_origin_is_brought_to_the_form_browsers_send(text: str, normal: str) -> None:
    """Lower case, no default port, no slash (RFC 6454 section 6.2)."""
    assert normal_origin(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "https://*.example.com",
        "https://*",
        "null",
        "",
        "app.example",
        "//app.example",
        "ftp://app.example",
        "https://",
        "https://app.example/path",
        "https://app.example?x=1",
        "https://app.example#x",
        "https://me@app.example",
        "https://app.example:port",
        "https://app.example:99999",
        "file:///x",
    ],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    """A wildcard would let every site read with the user's cookies; the rest would never match."""
    with pytest.raises(InvalidInput) as caught:
        OriginPolicy([text])
    assert caught.value.field == "allowed_origins"


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("app.localhost", True),
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("127.evil.example.com", False),
        ("127.0.0", False),
        ("128.0.0.1", False),
        ("0.0.0.0", False),
        ("192.168.0.1", False),
        ("notlocalhost", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine_only(host: str, here: bool) -> None:
    """Names that merely begin like loopback are other machines (W23)."""
    assert is_loopback(host) is here
