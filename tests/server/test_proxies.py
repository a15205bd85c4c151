"""The client behind proxies: only declared ones are believed, and only what they wrote themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from running import call, serving
from sseal.errors import InvalidInput
from sseal.server.proxies import ForwardedHeader, Proxies
from sseal.settings import config_errors, load, warnings_of

PROXY, INNER, CLIENT = "10.0.0.1", "10.0.0.2", "203.0.113.9"


async def seen(
    *headers: tuple[str, str],
    trusted: tuple[str, ...] = ("10.0.0.0/8",),
    header: ForwardedHeader = "x-forwarded",
    peer: str | None = PROXY,
) -> tuple[str | None, str]:
    """Return the client's address and the scheme an app sees."""
    found: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.update(scope)

    scope = {
        "type": "http",
        "scheme": "http",
        "client": None if peer is None else (peer, 1234),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }
    await Proxies(app, trusted, header)(scope, None, None)  # type: ignore[arg-type]
    return found["client"] and found["client"][0], found["scheme"]


def xff(value: str) -> tuple[str, str]:
    """Return the header that most proxies write."""
    return "x-forwarded-for", value


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (CLIENT, CLIENT),
        (f"{CLIENT}:4711", CLIENT),
        (f"198.51.100.1, {CLIENT}", CLIENT),  # the client wrote the first one
        (f"{CLIENT}, {INNER}", CLIENT),
        (f"198.51.100.1, {CLIENT}, {INNER}, {INNER}", CLIENT),
        (f"10.9.9.9, {CLIENT}", CLIENT),  # an address of ours, written by the client
        (f"{INNER}, 10.0.0.3", INNER),  # nobody but proxies: the first of them asked
        (f"{CLIENT}, unknown", PROXY),
        (f"{CLIENT}, unknown, {INNER}", INNER),
        ("", PROXY),
        (" , ", PROXY),
        ("localhost", PROXY),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        (f"::ffff:{CLIENT}", CLIENT),
        (f"{CLIENT}, ::ffff:{INNER}", CLIENT),
        ("1.2.3.4.5", PROXY),
        ("010.0.0.1", PROXY),
        ("1" * 60_000, PROXY),
        (",".join(["1.2.3.4"] * 5_000), "1.2.3.4"),
    ],
)
async def test_the_client_is_the_last_who_is_no_proxy(value: str, client: str) -> None:
    """Read from the right, where proxies wrote; nothing left of the first stranger counts."""
    assert (await seen(xff(value)))[0] == client


async def test_several_lines_are_one_list() -> None:
    """A proxy may add a line of its own instead of adding to the one that is there."""
    assert (await seen(xff("198.51.100.1"), xff(CLIENT), xff(INNER)))[0] == CLIENT


@pytest.mark.parametrize("peer", ["192.0.2.1", "11.0.0.1", "::1", None, "unix"])
async def test_nobody_else_is_believed(peer: str | None) -> None:
    """Whoever connects without being declared is the client, whatever it writes."""
    headers = (xff(CLIENT), ("x-forwarded-proto", "https"))
    assert await seen(*headers, peer=peer) == (peer, "http")


@pytest.mark.parametrize(
    ("trusted", "peer"),
    [("10.0.0.1", PROXY), ("10.0.0.1", "::ffff:10.0.0.1"), ("2001:db8::/32", "2001:db8::7"), ("::1", "::1")],
)
async def test_a_proxy_is_an_address_or_a_network(trusted: str, peer: str) -> None:
    """IPv4 and IPv6, and IPv4 as a socket of IPv6 shows it."""
    assert (await seen(xff(CLIENT), trusted=(trusted,), peer=peer))[0] == CLIENT


async def test_who_trusts_everybody_trusts_the_last_word_only() -> None:
    """With `*` the one who connects is believed, and nobody whom that one names: the client writes further left."""
    for peer in ("192.0.2.1", None):
        assert (await seen(xff(f"198.51.100.1, {CLIENT}"), trusted=("*",), peer=peer))[0] == CLIENT


@pytest.mark.parametrize(
    ("values", "scheme"),
    [
        (["https"], "https"),
        (["HTTPS"], "https"),
        (["http, https"], "https"),
        (["https", "http"], "http"),
        (["ftp"], "http"),
    ],
)
async def test_the_scheme_is_that_of_the_nearest_proxy(values: list[str], scheme: str) -> None:
    """The last word counts; what is no scheme of HTTP is none."""
    assert (await seen(*(("x-forwarded-proto", value) for value in values)))[1] == scheme


@pytest.mark.parametrize(
    ("value", "client", "scheme"),
    [
        (f"for={CLIENT};proto=https;by={PROXY}", CLIENT, "https"),
        (f'For="{CLIENT}:4711";Proto=HTTPS', CLIENT, "https"),
        ('for="[2001:db8::1]:4711"', "2001:db8::1", "http"),
        (f"for=198.51.100.1, for={CLIENT};proto=https", CLIENT, "https"),
        (f"for={CLIENT};proto=https, for={INNER};proto=http", CLIENT, "https"),
        (f'for="198.51.100.1, for=10.0.0.9", for={CLIENT}', CLIENT, "http"),
        (r'for="203.0.\113.9";proto=https', CLIENT, "https"),
        ("for=unknown", PROXY, "http"),
        (f"for=_hidden, for={INNER}", INNER, "http"),
        ("proto=https", PROXY, "https"),
        (f"for={CLIENT} proto=https", PROXY, "http"),  # a semicolon is missing
        (f'for="{CLIENT}', PROXY, "http"),
        (f'for="198.51.100.1, for={CLIENT};proto=https', CLIENT, "https"),  # the client left a quote open
        (f'for=198.51.100.1;x=", for="{CLIENT}";proto=https', CLIENT, "https"),
        (f"::::, for={CLIENT}, for={INNER}", CLIENT, "http"),
        (f'for="198.51.100.1, for={INNER}", for={INNER}', INNER, "http"),  # all of one string, and no address
        (f"for={CLIENT},", PROXY, "http"),  # the nearest proxy did not say
        (";;", PROXY, "http"),
        ("", PROXY, "http"),
    ],
)
async def test_forwarded_says_the_same(value: str, client: str, scheme: str) -> None:
    """RFC 7239: parameters in any case, quoted or not; what cannot be read says nothing."""
    assert await seen(("forwarded", value), header="forwarded") == (client, scheme)


async def test_what_the_proxies_do_not_write_does_not_count() -> None:
    """A client could put the other header in, and a proxy that does not know it would pass it on."""
    forged = ("forwarded", "for=198.51.100.1;proto=https")
    assert await seen(xff(CLIENT), forged) == (CLIENT, "http")
    assert await seen(forged) == (PROXY, "http")
    forged = xff("198.51.100.1")
    assert await seen(("forwarded", f"for={CLIENT}"), forged, header="forwarded") == (CLIENT, "http")


@pytest.mark.parametrize("text", ["proxy.internal", "10.0.0.1/8", "10.0.0.0/33", "10.0.0", ""])
def test_what_is_no_network_is_refused(text: str) -> None:
    """Whoever names a proxy by something that would never match is told so, at the start."""
    with pytest.raises(InvalidInput, match="forwarded_allow_ips"):
        Proxies(None, (text,))  # type: ignore[arg-type]
    given = text or '[""]'
    settings = load(forwarded_allow_ips=given, assigned={"jwt_secret": "x" * 32})
    assert any("FORWARDED_ALLOW_IPS" in line for line in config_errors(settings))


def test_trusting_everybody_is_warned_of() -> None:
    """It may be right, where nobody but the proxy can connect; an operator should know what it means."""
    assert any("forwarded_allow_ips" in line for line in warnings_of(load(forwarded_allow_ips="*")))
    assert not any("forwarded_allow_ips" in line for line in warnings_of(load(forwarded_allow_ips="10.0.0.0/8")))


@pytest.mark.parametrize(
    ("settings", "headers", "client"),
    [
        ({}, {"X-Forwarded-For": f"198.51.100.1, {CLIENT}"}, CLIENT),
        ({"forwarded_header": "forwarded"}, {"Forwarded": f"for={CLIENT}", "X-Forwarded-For": "198.51.100.1"}, CLIENT),
        ({"forwarded_allow_ips": "10.0.0.0/8"}, {"X-Forwarded-For": CLIENT}, "127.0.0.1"),
    ],
)
def test_serve_logs_and_limits_the_client(
    tmp_path: Path, time_unit: float, settings: dict[str, str], headers: dict[str, str], client: str
) -> None:
    """Over a socket: the access log names the client, and its limits are its own."""
    limits = ("--set", "limits.failures_per_minute_per_address=1", "--log-level", "info")
    with serving(tmp_path, time_unit, *limits, **settings) as hub:
        bad = {"Authorization": "Bearer x", **headers}
        statuses = [call(f"{hub.url}/admin/stats", headers=bad)[0] for _ in range(3)]
        assert 429 in statuses[1:]  # or a minute ended in between
        other = {name: value.replace("113.9", "113.10") for name, value in bad.items()}
        assert call(f"{hub.url}/admin/stats", headers=other)[0] == (429 if client == "127.0.0.1" else 401)
        assert hub.wait_for_record(message="request", status=429)["client"] == client


async def test_a_proxy_that_was_not_declared_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """Behind a forgotten proxy everybody shares one address and its limits; the log says so, once."""
    passed: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["client"][0])

    proxies = Proxies(app, ("10.0.0.0/8",))
    for headers in ([], [xff(CLIENT)], [xff(CLIENT)]):
        raw = [(name.encode(), value.encode()) for name, value in headers]
        scope = {"type": "http", "scheme": "http", "client": ("192.0.2.1", 1), "headers": raw}
        await proxies(scope, None, None)  # type: ignore[arg-type]
    assert passed == ["192.0.2.1"] * 3
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert said[0].startswith("X-Forwarded-For is sent by 192.0.2.1, which is not in forwarded_allow_ips.")
