"""The store in a SQLite file: one winner among processes, a bound, a restart, mail, nodes."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from sseal.errors import InvalidInput, TooLarge, Unavailable
from sseal.storage import Publication
from sseal.storage.sqlite import Database, SqliteBroker, SqliteStore, messages, records, revocations
from sseal.storage.sqlite import broker as broker_module
from sseal.subscription import TopicSet
from sseal.testing import ManualClock
from storage.sqlite_process import Recorder, children, eventually

T0 = 1_000_000.0
Opener = Callable[..., Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store lies."""
    return tmp_path / "store.db"


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands."""
    return ManualClock(wall=T0)


@pytest.fixture
async def opened(path: Path, clock: ManualClock) -> AsyncIterator[Opener]:
    """Open nodes on the file; they are closed at the end."""
    async with AsyncExitStack() as stack:

        async def open_one(node: str = "n1", **options: Any) -> tuple[SqliteStore, Recorder]:
            store, recorder = SqliteStore(Database(path, clock), clock, **options), Recorder()
            await store.open(node, recorder)
            stack.push_async_callback(store.close)
            return store, recorder

        yield open_one


async def test_a_record_lives_until_its_moment(opened: Opener, clock: ManualClock) -> None:
    """Up to its end it is there, at its end it is not, for every kind of reading."""
    store, _ = await opened()
    await store.put("k", b"\0v", T0 + 10)
    clock.advance(9.9)
    assert await store.get("k") == b"\0v"
    clock.advance(0.2)
    assert await store.get("k") is None
    assert await store.take("k") is None
    assert not await store.swap("k", b"\0v", b"w", T0 + 99)
    assert await store.swap("k", None, b"w", T0 + 99)


@pytest.mark.parametrize("command", ["take", "swap"])
async def test_of_eight_processes_one_wins_each_record(path: Path, command: str) -> None:
    """Reading and writing is one step in the file, whoever asks."""
    async with children(path, 8) as nodes:
        keys = [f"k{number}" for number in range(40)]
        await nodes[0].ask("fill", keys=keys)
        for node in nodes:
            await node.send(command, keys=keys)
        won = [key for node in nodes for key in await node.answer()]
    assert sorted(won) == sorted(keys)


async def test_counts_hold_across_processes(path: Path) -> None:
    """Each number is given once."""
    async with children(path, 4) as nodes:
        for node in nodes:
            await node.send("count", key="login\0", times=10)
        numbers = [number for node in nodes for number in await node.answer()]
    assert sorted(numbers) == list(range(1, 41))


async def test_a_count_starts_anew_when_its_time_is_over(opened: Opener, clock: ManualClock) -> None:
    """The time runs from the first."""
    store, _ = await opened()
    assert [await store.count("k", 10.0) for _ in range(3)] == [1, 2, 3]
    clock.advance(9.0)
    assert await store.count("k", 10.0) == 4
    clock.advance(1.0)
    assert await store.count("k", 10.0) == 1


async def test_calls_of_one_commit_see_one_another(opened: Opener) -> None:
    """Grouped or not, the outcome is that of some order."""
    store, _ = await opened()
    await store.put("k", b"v", T0 + 10)
    calls = [
        store.take("k"),
        store.take("k"),
        store.swap("k", None, b"w", T0 + 10),
        store.take("k"),
        store.count("c", 9),
    ]
    assert await asyncio.gather(*calls) == [b"v", None, True, b"w", 1]
    assert await store.get("k") is None


async def test_a_full_store_refuses_and_keeps_what_it_has(opened: Opener, clock: ManualClock) -> None:
    """New records are refused for now; old ones may be rewritten, and expired ones make room."""
    store, _ = await opened(max_records=2)
    await store.put("a", b"1", T0 + 10)
    await store.put("b", b"2", T0 + 99)
    with pytest.raises(Unavailable) as caught:
        await store.put("c", b"3", T0 + 99)
    assert caught.value.code == "store_full"
    await store.put("b", b"4", T0 + 99)
    clock.advance(10)
    await store.put("c", b"3", T0 + 99)
    assert [await store.get(key) for key in "abc"] == [None, b"4", b"3"]
    await store.take("b")
    await store.put("d", b"5", T0 + 99)
    await store.revoke(b"r", T0 + 99)
    await store.revoke(b"r", T0 + 99)
    with pytest.raises(Unavailable):
        await store.revoke(b"r", T0 + 99)


async def test_what_expired_is_swept_in_bounded_steps(
    opened: Opener, clock: ManualClock, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file does not grow with what is over, and no commit has to pay for all of it."""
    monkeypatch.setattr(records, "SWEEP_STEP", 10)
    store, _ = await opened()
    await asyncio.gather(*(store.put(f"k{number}", b"v", T0 + 10) for number in range(25)))
    clock.advance(10)
    sizes = []
    for _ in range(3):
        await store.put("k", b"v", T0 + 99)
        sizes.append(rows(path, "record"))
    assert sizes[-1] == 1
    assert sizes == sorted(sizes, reverse=True)
    assert rows(path, "record") == int(value(path, "SELECT records FROM store"))


async def test_records_survive_a_restart(opened: Opener) -> None:
    """So do sessions and families (W15); numbers of revocations go on."""
    store, _ = await opened()
    await store.put("session", b"alice", T0 + 99)
    assert await store.revoke(b"r", T0 + 99) == 1
    await store.close()
    store, _ = await opened("n2")
    assert await store.get("session") == b"alice"
    assert await store.revoke(b"s", T0 + 99) == 2
    assert await store.revocations(0) == [(1, b"r"), (2, b"s")]


async def test_every_node_hears_that_something_was_revoked(opened: Opener, clock: ManualClock) -> None:
    """The signal comes by the same wake-up as events (W17)."""
    one, first = await opened("n1")
    _, second = await opened("n2")
    before = (first.revocation_signals, second.revocation_signals)
    assert await one.revoke(b"a", T0 + 10) == 1
    await eventually(
        lambda: first.revocation_signals > before[0] and second.revocation_signals > before[1], "both hear of it"
    )
    clock.advance(10)
    assert await one.revoke(b"b", T0 + 99) == 2
    assert await one.revocations(0) == [(2, b"b")]
    assert await one.revocations(2) == []
    assert await one.revocations(77) == [(2, b"b")]


async def test_a_long_log_of_revocations_is_read_in_pages(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, no single read takes longer than one may."""
    monkeypatch.setattr(revocations, "PAGE", 3)
    store, _ = await opened()
    for number in range(8):
        await store.revoke(b"%d" % number, T0 + 99)
    assert [record for _, record in await store.revocations(0)] == [b"%d" % number for number in range(8)]
    assert [record for _, record in await store.revocations(2)] == [b"%d" % number for number in range(2, 8)]
    assert await store.revocations(8) == []


async def test_a_listener_that_fails_hears_again_until_it_has_heard(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revocation counts as told only when the hub took it; until then the store counts as lost (W17)."""
    store, recorder = await opened()
    await eventually(lambda: recorder.revocation_signals == 1, "the first look")
    tries, failing = 0, True

    def grew() -> None:
        nonlocal tries
        tries += 1
        if failing:
            raise ValueError("a fault of the hub")

    monkeypatch.setattr(recorder, "on_revocations", grew)
    await store.revoke(b"a", T0 + 10)
    await eventually(lambda: tries >= 3, "it is told again")
    assert store.lost_since is not None
    failing = False
    await eventually(lambda: store.lost_since is None, "it has heard")


async def test_a_history_that_takes_long_keeps_no_revocation_waiting(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tickets, revocations, nodes and mail are read beside it (W17)."""
    database = Database(path, clock)
    broker, store, recorder = SqliteBroker(database, clock), SqliteStore(database, clock), Recorder()
    await store.open("n", recorder)
    await broker.open(recorder)
    busy, release = threading.Event(), threading.Event()

    def stuck(connection: sqlite3.Connection, items: Any) -> list[None]:
        busy.set()
        release.wait(10.0)
        return [None for _ in items]

    monkeypatch.setattr(broker_module, "pages", stuck)
    reading = asyncio.create_task(broker.history(TopicSet.of("**"), 0, limit=1, since={}))
    try:
        await eventually(busy.is_set, "the history is being read")
        assert await store.revoke(b"r", T0 + 10) == 1
        assert await store.revocations(0) == [(1, b"r")]
        assert await store.get("k") is None
        assert await store.nodes() == ["n"]
        assert await broker.newest() == 0
    finally:
        reading.cancel()
        release.set()
        await broker.close()
        await store.close()


async def test_mail_that_cannot_be_taken_out_of_the_file_stops_nothing(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk reading goes on: events are delivered, nothing counts as lost, the mail arrives later."""
    database = Database(path, clock)
    broker, store, recorder = SqliteBroker(database, clock), SqliteStore(database, clock), Recorder()
    await store.open("n", recorder)
    await broker.open(recorder)
    take_all, tries = messages._take_all, 0

    def full(*_: object) -> list[bytes]:
        nonlocal tries
        tries += 1
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(messages, "_take_all", full)
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    connection.execute("INSERT INTO mail (node, body, expires_at) VALUES ('n', X'6869', ?)", (int(T0 * 1e6) + 10**7,))
    connection.close()
    for number in range(1, 4):
        assert await broker.publish([Publication(topics=("t",), type="m", data="")]) == [number]
        await eventually(lambda number=number: recorder.offsets[-1:] == [number], "delivery")
        await eventually(lambda number=number: tries >= number, "a try")
        assert store.lost_since is None
    monkeypatch.setattr(messages, "_take_all", take_all)
    await broker.publish([Publication(topics=("t",), type="m", data="")])
    await eventually(
        lambda: recorder.messages == [b"hi"], "with the next commit, at the latest a heartbeat, it is taken"
    )
    assert (recorder.reconnects, store.lost_since) == (0, None)
    await broker.close()
    await store.close()


async def test_mail_that_makes_a_hub_fail_is_over_and_the_next_arrives(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most once: it is neither told again nor does it end anything (W42)."""
    _, recorder = await opened("n1")
    other, _ = await opened("n2")
    take = recorder.on_message

    def on_message(body: bytes) -> None:
        if body == b"bad":
            raise ValueError("a fault of the hub")
        take(body)

    monkeypatch.setattr(recorder, "on_message", on_message)
    for body in (b"bad", b"good"):
        assert await other.send("n1", body)
    await eventually(lambda: recorder.messages == [b"good"], "the next letter")


async def test_mail_arrives_once_in_order_at_the_node_it_is_for(path: Path) -> None:
    """Own mail too; nobody else gets it (W42)."""
    async with children(path, 3) as nodes:
        for body in ("one", "two"):
            assert await nodes[0].ask("send_mail", node="node1", body=body) is True
        assert await nodes[0].ask("send_mail", node="node0", body="self") is True
        assert await nodes[0].ask("send_mail", node="nobody", body="lost") is False
        assert await nodes[1].ask("messages", number=2) == ["one", "two"]
        assert await nodes[0].ask("messages", number=1) == ["self"]
        assert await nodes[2].ask("messages", number=0) == []
    assert rows(path, "mail") == 0


async def test_unread_mail_is_bounded_and_expires(
    opened: Opener, path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that died a moment ago does not fill the file."""
    store, _ = await opened()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("INSERT INTO node VALUES ('gone', ?)", (int(T0 * 1e6),))
    connection.close()
    monkeypatch.setattr(messages, "MAX_WAITING", 2)
    assert await store.send("gone", b"1")
    assert await store.send("gone", b"2")
    with pytest.raises(Unavailable) as caught:
        await store.send("gone", b"3")
    assert caught.value.code == "mail_full"
    with pytest.raises(TooLarge):
        await store.send("gone", b"x" * (messages.MAX_BODY + 1))
    clock.advance(10.0)
    assert await store.send("gone", b"4")
    await eventually(lambda: rows(path, "mail") == 1, "the heartbeat removes what is over")
    clock.advance(5.0)
    assert await store.send("gone", b"5") is False


async def test_a_node_that_was_killed_leaves_and_one_that_closes_is_gone_at_once(
    opened: Opener, path: Path, clock: ManualClock
) -> None:
    """Alive is whose heartbeat is younger than 15 s; a node beats as long as it lives."""
    one, _ = await opened("n1")
    two, _ = await opened("n2")
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("INSERT INTO node VALUES ('killed', ?)", (int(T0 * 1e6),))
    connection.close()
    assert await one.nodes() == ["killed", "n1", "n2"]
    clock.advance(14.0)
    assert "killed" in await one.nodes()
    clock.advance(1.0)
    assert "killed" not in await one.nodes()
    beat = "SELECT min(beat) FROM node WHERE name <> 'killed'"
    await eventually(lambda: value(path, beat) >= int((T0 + 14) * 1e6), "both have said that they live")
    assert await one.nodes() == ["n1", "n2"]
    await two.close()
    assert await one.nodes() == ["n1"]


async def test_broker_and_store_share_a_file_and_may_close_in_any_order(path: Path, clock: ManualClock) -> None:
    """The last one closes it."""
    database = Database(path, clock)
    broker, store, recorder = SqliteBroker(database, clock), SqliteStore(database, clock), Recorder()
    await asyncio.gather(broker.open(recorder), store.open("n", recorder))
    await broker.close()
    await store.put("k", b"v", T0 + 9)
    await broker.open(recorder)
    await store.close()
    await store.close()
    with pytest.raises(Unavailable):
        await SqliteStore(Database(path, clock), clock).get("k")
    assert await broker.publish([Publication(topics=("t",), type="m", data="")]) == [1]
    assert broker.lineage.older == ()  # it was never closed by both, so it is one epoch
    await broker.close()


async def test_errors_name_the_setting_of_the_store(tmp_path: Path, clock: ManualClock) -> None:
    """The operator learns which of the two is wrong."""
    store = SqliteStore(Database(tmp_path / "missing" / "store.db", clock), clock)
    with pytest.raises(InvalidInput) as caught:
        await store.open("n", Recorder())
    assert caught.value.field == "store"


def rows(path: Path, table: str) -> int:
    """Return how many rows a table has."""
    return value(path, f"SELECT count(*) FROM {table}")  # noqa: S608 - a name of ours


def value(path: Path, select: str) -> int:
    """Return the one number of a query."""
    connection = sqlite3.connect(path, timeout=5.0)
    (number,) = connection.execute(select).fetchone()
    connection.close()
    return int(number)


async def test_a_file_of_an_earlier_build_gets_what_leases_need(opened: Opener, path: Path) -> None:
    """A file without the tables of leases is used as one with them, and keeps what it holds."""
    one, _ = await opened()
    await one.put("k", b"v", T0 + 60.0)
    await one.close()
    with closing(sqlite3.connect(path)) as file:
        file.executescript("DROP TABLE lease; DROP TABLE held;")
    two, _ = await opened()
    await two.renew("two", 60.0)
    assert await two.enter("two", {("s", "1"): b""}) == {"s": 1}
    assert await two.get("k") == b"v"


async def test_what_leases_hold_has_a_bound(opened: Opener) -> None:
    """One entry too many is refused with everything it came with; what is taken out makes room."""
    one, _ = await opened(max_records=2)
    await one.renew("a", 60.0)
    await one.enter("a", {("s", "1"): b"", ("s", "2"): b""})
    with pytest.raises(Unavailable, match="full"):
        await one.enter("a", {("t", "1"): b""})
    assert await one.enter("a", {("s", "1"): None}) == {"s": 1}
    assert await one.enter("a", {("t", "1"): b""}) == {"t": 1}


async def test_a_node_that_reads_no_mail_keeps_none_from_the_others(
    opened: Opener, path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks a hub that was killed a moment ago, again and again, does not part those that live."""
    monkeypatch.setattr(messages, "MAX_WAITING", 2)
    store, _ = await opened("n1")
    _, recorder = await opened("n2")
    with closing(sqlite3.connect(path, timeout=5.0)) as connection, connection:
        connection.execute("INSERT INTO node VALUES ('killed', ?)", (int(clock.wall() * 1e6),))
    for _ in range(2):
        assert await store.send("killed", b"x")
    with pytest.raises(Unavailable):
        await store.send("killed", b"x")
    assert await store.send("n2", b"hello")
    await eventually(lambda: recorder.messages == [b"hello"], "the letter")
