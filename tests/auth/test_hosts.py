"""Names a hub answers to (DNS rebinding)."""

from __future__ import annotations

import pytest

from sseal.auth.hosts import HostPolicy, host_of, normal_host
from sseal.errors import InvalidInput

KNOWN = ("app.example", "*.tenants.example")


@pytest.mark.parametrize(
    "header",
    [
        "app.example",
        "APP.example:8443",
        "app.example.",
        "app.example.:443",
        "a.tenants.example",
        "a.b.tenants.example",
        "localhost:8000",
        "x.localhost",
        "127.0.0.1",
        "192.0.2.7:80",
        "[::1]:8000",
        "[2001:db8::1]",
        None,
    ],
)
def test_known_names_this_machine_and_addresses_pass(header: str | None) -> None:
    """What cannot be pointed somewhere else needs no list; a request without Host is no browser's."""
    assert HostPolicy(KNOWN).allows(header)


@pytest.mark.parametrize(
    "header",
    [
        "evil.example",
        "app.example.evil.example",
        "evilapp.example",
        "tenants.example",
        "eviltenants.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "app.example@evil.example",
        "app.example:80:80",
        "app.example, evil.example",
        "[::1].evil.example",
        "",
    ],
)
def test_other_names_are_refused(header: str) -> None:
    """A name that only looks like a known one belongs to somebody else."""
    assert not HostPolicy(KNOWN).allows(header)


def test_a_hub_that_knows_no_name_answers_to_any() -> None:
    """Without a list there is nothing to compare with."""
    assert HostPolicy().allows("anything.example")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("App.Example", "app.example"),
        (" app.example. ", "app.example"),
        ("*.Example.com", "*.example.com"),
        ("[::1]", "::1"),
        ("192.0.2.7", "192.0.2.7"),
    ],
)
def test_a_host_is_written_in_one_way(text: str, host: str) -> None:
    """Case, a final dot and brackets make no difference."""
    assert normal_host(text) == host


@pytest.mark.parametrize(
    "text", ["", "*", "*.", "https://app.example", "app.example:443", "app.example/x", "a b", "*.*.example", "-a.b"]
)
def test_what_is_no_host_is_refused_with_its_field(text: str) -> None:
    """A scheme, a port or a path in the setting would match nothing, so it is said at start."""
    with pytest.raises(InvalidInput, match="without a port") as caught:
        normal_host(text, "allowed_hosts")
    assert caught.value.field == "allowed_hosts"


def test_the_host_of_an_address_has_no_port() -> None:
    """Origins and public_url name hosts."""
    assert host_of("https://App.Example:8443/x") == "app.example"
    assert host_of("nonsense") == ""
