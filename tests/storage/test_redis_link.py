"""Getting to a Redis or Valkey server: addresses, passwords, TLS, sentinels, and servers that cannot be used."""

from __future__ import annotations

import asyncio
import logging
import signal
import string
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redis_logs import open_redis_hubs, publication, until
from redis_servers import ENGINES, RedisServer, authority, redis_server, sentinels
from sseal.clock import SystemClock
from sseal.errors import InvalidInput, Unavailable
from sseal.storage.address import redact_url
from sseal.storage.redis import Link, RedisBroker
from sseal.storage.redis.address import Address
from sseal.storage.redis.connection import REPLY_TIMEOUT
from sseal.storage.redis.server import check_server
from sseal.storage.redis.store import RedisStore


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each kind of server."""
    name: str = request.param
    return name


@pytest.fixture
def server(engine: str, tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own."""
    with redis_server(tmp_path / "redis", engine) as running:
        yield running


async def opened(url: str) -> int:
    """Open a log at an address, publish one event, and return its offset."""
    link = Link(url, SystemClock())
    broker = RedisBroker(link, SystemClock())
    await broker.open(None)
    try:
        (offset,) = await broker.publish([publication("a")])
        return offset
    finally:
        await broker.close()


def test_an_address_is_taken_apart() -> None:
    """Host, port, database, user, password and prefix are where they belong, percent-decoded."""
    address = Address.parse("redis://ann:p%40ss%2F@example:7000/3?prefix=app")
    assert address.hosts == (("example", 7000),)
    assert (address.username, address.password, address.db, address.prefix) == ("ann", "p@ss/", 3, "app:")
    assert Address.parse("redis://").hosts == (("localhost", 6379),)
    assert Address.parse("redis://[::1]:7000").hosts == (("::1", 7000),)
    assert Address.parse("redis://:secret@h").password == "secret"
    assert Address.parse("unix:///run/redis.sock?db=2").path == "/run/redis.sock"
    several = Address.parse("redis+sentinel://ann:p@h1:1,h2/main/4?sentinel_password=s")
    assert (several.hosts, several.service, several.db) == ((("h1", 1), ("h2", 26379)), "main", 4)
    assert several.sentinel_password == "s"
    secure = Address.parse(f"rediss://h?ssl_ca_certs={__file__}&ssl_check_hostname=false")
    assert secure.tls == {"ssl_ca_certs": __file__, "ssl_check_hostname": False}


@pytest.mark.parametrize(
    "text",
    [
        "http://h",
        "redis://h:port",
        "redis://h:99999",
        "redis://h/x",
        "redis://h?prefix=",
        "redis://h?prefix=a:b",
        "redis://h?timeout=1",
        "redis://h?ssl_ca_certs=x",
        "rediss://h?ssl_cert_reqs=maybe",
        "rediss://h?ssl_check_hostname=perhaps",
        "redis://:hunter#2@h",
        "unix://",
        "redis+sentinel://h1:1",
    ],
)
def test_a_bad_address_is_refused_with_its_reason(text: str) -> None:
    """The error names the setting and the fault."""
    with pytest.raises(InvalidInput) as caught:
        Address.parse(text, "store")
    assert caught.value.field == "store"


def test_no_password_is_shown() -> None:
    """What is logged of an address holds neither user, password nor options."""
    address = Address.parse("redis+sentinel://ann:hunter2@h1:1,h2:2/main/0?sentinel_password=hunter3")
    assert str(address) == "redis+sentinel://h1:1,h2:2/main/0"
    assert "hunter" not in repr(address)


FORMS = ("redis://:{}@host", "redis://ann:{}@host:7000/2", "unix://:{}@/run/s", "redis+sentinel://:{}@h1,h2/main")


def what_is_shown(address: str) -> str:
    """Return all that anybody may see of an address, good or bad."""
    try:
        parsed = Address.parse(address)
    except InvalidInput as error:
        return f"{error} {redact_url(address)} {error.__cause__}"
    return f"{parsed} {parsed!r} {redact_url(address)}"


@example("123/topsecret")
@example("pa/ssword")
@example("se?cret=1")
@example("se?prefix=secret")
@example("a?sentinel_password=se@cret")
@example("sec[ret")
@example("secr\u2100et")
@example("secr#et@cret")
@given(st.text(st.sampled_from(string.printable), max_size=24))
def test_no_part_of_a_password_is_shown_however_it_is_written(password: str) -> None:
    """Unescaped characters make an address bad or good, and in either case the password is not shown."""
    for form in FORMS:
        seen = what_is_shown(form.format(password))
        usual = form + "".join(what_is_shown(form.format(other)) for other in ("0", "/", "[", "\t"))
        parts = {password[start : start + 4] for start in range(len(password) - 3)}
        assert not [part for part in parts if part in seen and part not in usual]


async def test_a_server_that_is_not_there_is_unavailable(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """The first open says so at once and may be repeated."""
    server.end()
    link = Link(f"redis://ann:hunter2@127.0.0.1:{server.port}", SystemClock())
    broker = RedisBroker(link, SystemClock())
    with caplog.at_level(logging.DEBUG), pytest.raises(Unavailable) as caught:
        await broker.open(None)
    assert "hunter2" not in str(caught.value) + caplog.text
    assert caught.value.detail == "the log cannot be reached"  # where it is stands in the log only
    assert f"127.0.0.1:{server.port}" in " ".join(str(vars(record)) for record in caplog.records)
    with pytest.raises(Unavailable) as caught:
        await RedisStore(Link(server.url, SystemClock(), "store"), SystemClock()).open("one", Deaf())
    assert (caught.value.detail, caught.value.code) == ("the store cannot be reached", "store_lost")
    server.start()
    link = Link(server.url, SystemClock())
    broker = RedisBroker(link, SystemClock())
    await broker.open(None)
    await broker.close()


async def test_a_server_that_accepts_and_says_nothing_is_unavailable() -> None:
    """Opening gives up after two seconds."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        start = time.monotonic()
        with pytest.raises(Unavailable):
            await opened(f"redis://127.0.0.1:{port}")
        assert time.monotonic() - start < 6.0


async def test_a_wrong_password_says_what_to_do(engine: str, tmp_path: Path) -> None:
    """Wrong, missing and right passwords, of the default user and of one with rights of its own."""
    with redis_server(tmp_path / "redis", engine, "--save", "", "--requirepass", "s:e/c") as server:
        host = f"127.0.0.1:{server.port}"
        for login in ("", ":wrong@", "ann:wrong@"):
            with pytest.raises(InvalidInput) as caught:
                await opened(f"redis://{login}{host}")
            assert caught.value.field == "broker"
            assert "password" in caught.value.problem
            assert "wrong@" not in caught.value.problem
        assert await opened(f"redis://:s%3Ae%2Fc@{host}") == 1
        acl = ("ACL", "SETUSER", "ann", "on", ">secret", "~sseal:*", "&sseal:*", "+@all", "-@dangerous", "+info")
        assert server.command_as("s:e/c", *acl) == "OK"
        assert await opened(f"redis://ann:secret@{host}") == 2
        with pytest.raises(InvalidInput):
            await opened(f"redis://ann:secret@{host}?prefix=other")
        server.command_as("s:e/c", "ACL", "SETUSER", "ann", "-info")
        with pytest.raises(InvalidInput, match="info"):
            await opened(f"redis://ann:secret@{host}")


async def test_a_server_that_evicts_is_refused(server: RedisServer) -> None:
    """An eviction policy deletes events and revocations silently (W26)."""
    server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(InvalidInput, match="noeviction"):
        await opened(server.url)
    link = Link(server.url, SystemClock(), "store")
    with pytest.raises(InvalidInput) as caught:
        await RedisStore(link, SystemClock()).open("one", Deaf())
    assert caught.value.field == "store"


class Deaf:
    """Hears nothing."""

    def on_revocations(self) -> None:
        """Nobody cares."""

    def on_message(self, body: bytes) -> None:
        """Nobody reads it."""


def test_old_servers_and_clusters_are_refused() -> None:
    """Redis before 7.0 and cluster mode are named as what they are; any Valkey is new enough."""
    with pytest.raises(InvalidInput, match=r"6\.2\.1"):
        check_server(b"redis_version:6.2.1\r\nrole:master\r\n", "broker")
    with pytest.raises(InvalidInput, match="cluster"):
        check_server(b"redis_version:7.2.0\r\ncluster_enabled:1\r\nrole:master\r\n", "broker")
    with pytest.raises(Unavailable):
        check_server(b"redis_version:7.2.0\r\nrole:slave\r\n", "broker")
    assert (
        check_server(b"redis_version:6.0.0\r\nserver_name:valkey\r\nrun_id:x\r\nrole:master\r\n", "broker").run_id
        == "x"
    )


async def test_databases_and_prefixes_do_not_see_each_other(server: RedisServer) -> None:
    """Two logs on one server are two logs, also in what they tell their hubs."""
    async with open_redis_hubs(server) as redis_hubs:
        hub = await redis_hubs.hub()
        await hub.broker.listen(["**"])
        for url in (f"redis://127.0.0.1:{server.port}/1", f"{server.url}?prefix=other"):
            assert await opened(url) == 1
        await hub.broker.publish([publication("a")])
        await hub.until(1)
        assert hub.told == [("entry", 1)]


async def test_a_unix_socket_works(engine: str, tmp_path: Path) -> None:
    """A server on the same machine may be reached without a port."""
    place = tmp_path / "s"
    with redis_server(tmp_path / "redis", engine, "--save", "", "--unixsocket", str(place)):
        assert await opened(f"unix://{place}") == 1
        assert await opened(f"unix://{place}?db=1") == 1


async def test_tls_checks_the_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A certificate is verified; one that cannot be is refused, and so is a file that is none."""
    ca, options = authority(tmp_path)
    with redis_server(tmp_path / "redis", "redis", "--save", "", *options, tls=True) as server:
        host = f"127.0.0.1:{server.port}"
        assert await opened(f"rediss://{host}?ssl_ca_certs={ca}") == 1
        with caplog.at_level(logging.WARNING), pytest.raises(Unavailable):
            await opened(f"rediss://{host}")
        assert "certificate" in " ".join(str(vars(record)) for record in caplog.records)
        with pytest.raises(InvalidInput, match="no file"):
            await opened(f"rediss://{host}?ssl_ca_certs={tmp_path / 'none'}")


async def test_broker_and_store_share_one_link(server: RedisServer) -> None:
    """The first opens it, the last closes it, and a return reaches both."""
    clock = SystemClock()
    async with open_redis_hubs(server) as redis_hubs:
        hub = await redis_hubs.hub()
        store = RedisStore(hub.link, clock)
        await store.open("one", Deaf())
        await hub.broker.listen(["a"])
        assert int(server.command("INFO", "clients").split("connected_clients:")[1].split()[0]) == 4
        hub.link.lose("for the test")
        assert store.lost_since is not None
        await until(lambda: store.lost_since is None)
        await store.put("k", b"v", clock.wall() + 60)
        await hub.broker.publish([publication("a")])
        await hub.until(1)
        await hub.broker.close()
        assert await store.take("k") == b"v"
        await store.close()
        assert hub.link.lost_since is None


async def test_the_store_hears_of_revocations_after_a_return(server: RedisServer) -> None:
    """Signals missed while cut off are made up for; calls meanwhile fail in time (W17)."""

    class Counting(Deaf):
        revocation_signals = 0

        def on_revocations(self) -> None:
            """Count."""
            self.revocation_signals += 1

    counting = Counting()
    link = Link(server.url, SystemClock(), "store")
    store = RedisStore(link, SystemClock(), heartbeat_interval=3600.0)
    await store.open("one", counting)
    server.freeze()
    start = time.monotonic()
    with pytest.raises(Unavailable):
        await store.get("k")
    assert time.monotonic() - start < 4.0
    server.thaw()
    await until(lambda: store.lost_since is None)
    assert counting.revocation_signals == 1
    assert await store.get("k") is None
    await store.close()


async def test_an_answer_that_has_arrived_is_read_before_the_server_is_given_up(server: RedisServer) -> None:
    """It was this process that was held up, not the server."""
    link = Link(server.url, SystemClock(), "store")
    store = RedisStore(link, SystemClock(), heartbeat_interval=3600.0)
    await store.open("one", Deaf())
    assert link._connections is not None
    asked = asyncio.create_task(store.get("k"))
    while not any(one._waiting for one in link._connections) or any(one._out for one in link._connections):
        await asyncio.sleep(0)
    time.sleep(REPLY_TIMEOUT + 0.3)
    assert await asked is None
    assert store.lost_since is None
    await store.close()


async def test_a_full_store_says_so(server: RedisServer) -> None:
    """Out of memory has a code of its own; taking and revoking still work (W17)."""
    link = Link(server.url, SystemClock(), "store")
    store = RedisStore(link, SystemClock())
    await store.open("one", Deaf())
    later = SystemClock().wall() + 60
    await store.put("k", b"v", later)
    server.command("CONFIG", "SET", "maxmemory", "1")
    for work in (store.put("l", b"v", later), store.swap("l", None, b"v", later)):
        with pytest.raises(Unavailable) as caught:
            await work
        assert caught.value.code == "store_full"
    assert await store.revoke(b"v", later) == 1
    assert await store.revocations(0) == [(1, b"v")]
    assert await store.nodes() == ["one"]
    assert await store.send("one", b"x")
    assert await store.take("k") == b"v"
    await store.close()


async def test_sentinels_lead_to_the_new_primary(engine: str, tmp_path: Path) -> None:
    """When the primary dies the hub follows to the one that is promoted, in a new epoch (W10)."""
    with redis_server(tmp_path / "one", engine) as primary, redis_server(tmp_path / "two", engine) as replica:
        replica.command("REPLICAOF", "127.0.0.1", str(primary.port))
        # A sentinel asks a primary for its replicas when it meets it, and from then on every ten seconds.
        await until(lambda: "state=online" in primary.command("INFO", "replication"))
        with sentinels(tmp_path, engine, primary) as ports:
            await follow_the_sentinels(primary, replica, ports)


async def follow_the_sentinels(primary: RedisServer, replica: RedisServer, ports: list[int]) -> None:
    """End the primary under a hub that asks sentinels for its address, and let the hub follow."""
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    async with open_redis_hubs(primary) as redis_hubs:
        hub = await redis_hubs.hub(url=f"redis+sentinel://{hosts}/main/0")
        await hub.broker.listen(["a"])
        await hub.broker.publish([publication("a")] * 3)
        await until(lambda: replica.command("HGET", "sseal:meta", "head") == "3")
        for port in ports:  # whichever leads the failover has to know whom to promote
            await until(lambda port=port: "slaves=1" in RedisServer.ask(port, "INFO", "sentinel"), patience=30.0)
        await hub.until(3)
        old = hub.broker.lineage.epoch
        primary.end(signal.SIGKILL)
        await until(lambda: hub.broker.lost_since is None and hub.broker.lineage.epoch != old, patience=40.0)
        assert hub.broker.lineage.older[0] == (old, 3)
        assert await hub.broker.publish([publication("a")]) == [4]
        await hub.until(4)
        assert hub.offsets == [1, 2, 3, 4]
