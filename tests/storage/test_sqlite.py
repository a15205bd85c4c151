"""The log in a SQLite file: order, durability, epochs, retention, and everything that can go wrong with a file."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sseal.errors import Conflict, InvalidInput, Unavailable
from sseal.position import Position
from sseal.storage import CANARY_ROOT, IdempotencyKey, Publication, Retention
from sseal.storage.sqlite import Database, SqliteBroker, append, history, retention, writer
from sseal.storage.sqlite import worker as workers
from sseal.subscription import TopicSet
from sseal.testing import ManualClock
from storage.sqlite_process import Recorder, children, eventually

NOTHING: dict[str, float] = {}
Opener = Callable[..., Any]


def make(*topics: str, data: str = "", key: str | None = None, digest: bytes = b"d", **options: Any) -> Publication:
    """Return a draft."""
    claim = None if key is None else IdempotencyKey(scope=("iss", "sub"), key=key, digest=digest)
    return Publication(topics=topics or ("t",), type="message", data=data, key=claim, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log lies."""
    return tmp_path / "log.db"


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands."""
    return ManualClock(wall=1000.0)


@pytest.fixture
async def opened(path: Path, clock: ManualClock) -> AsyncIterator[Opener]:
    """Open hubs on the file; they are closed at the end."""
    async with AsyncExitStack() as stack:

        async def open_one(keep: Retention | None = None, *, at: Path = path) -> tuple[SqliteBroker, Recorder]:
            broker, recorder = SqliteBroker(Database(at, clock), clock, keep), Recorder()
            await broker.open(recorder)
            stack.push_async_callback(broker.close)
            return broker, recorder

        yield open_one


async def publish(broker: SqliteBroker, number: int, *topics: str, **options: Any) -> list[int]:
    """Publish so many events."""
    return await broker.publish([make(*topics, **options) for _ in range(number)])


async def read(broker: SqliteBroker, *topics: str, after: int = 0, limit: int = 1000, **since: float) -> Any:
    """Read one page."""
    return await broker.history(TopicSet.of(*topics), after, limit=limit, since=since)


# -- order ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 4])
async def test_processes_that_publish_at_once_see_one_order(path: Path, number: int) -> None:
    """Everything published anywhere is delivered everywhere, once, in the same order (W28)."""
    each = 200
    async with children(path, number) as hubs:
        for index, hub in enumerate(hubs):
            await hub.send("publish", count=each, name=f"p{index}", together=5)
        published = [await hub.answer() for hub in hubs]
        seen = [await hub.ask("delivered", upto=number * each) for hub in hubs]
    assert sorted(offset for offsets in published for offset in offsets) == list(range(1, number * each + 1))
    assert all([offset for offset, _, _ in entries] == list(range(1, number * each + 1)) for entries in seen)
    assert len({tuple(data for _, data, _ in entries) for entries in seen}) == 1


async def test_an_event_reaches_another_process_soon(path: Path) -> None:
    """A datagram wakes the other process; the figure is printed, the bound is loose for a busy machine."""
    async with children(path, 2) as (one, other):
        await other.ask("listen_only")
        await one.ask("publish", count=300, name="p", pause=0.002)
        seen = await other.ask("delivered", upto=300)
    waits = sorted(at - float(data.split()[2]) for _, data, at in seen)
    sys.stdout.write(f"publish to delivery elsewhere: p50 {waits[150] * 1e3:.2f} ms, p99 {waits[297] * 1e3:.2f} ms\n")
    assert waits[150] < 0.25


async def test_lost_datagrams_delay_and_lose_nothing(path: Path) -> None:
    """The version of the file is looked at as well."""
    async with children(path, 2) as (one, other):
        await one.ask("mute")
        await one.ask("publish", count=20, name="p", pause=0.01)
        seen = await other.ask("delivered", upto=20)
    assert [offset for offset, _, _ in seen] == list(range(1, 21))


async def test_a_batch_is_appended_whole_and_read_back(opened: Opener) -> None:
    """Offsets follow one another; the own events come back from the file like all others (W27, W28)."""
    broker, recorder = await opened()
    publications = [make("a", "b", data="x\0\u00e9\n", retry=700), make("b", ttl=5.0)]
    assert await broker.publish(publications) == [1, 2]
    await eventually(lambda: broker.head == 2, "delivery")
    page = await read(broker, "a", "b")
    assert [(e.offset, e.topics, e.data, e.retry) for e in page.entries] == [
        (1, ("a", "b"), "x\0\u00e9\n", 700),
        (2, ("b",), "", None),
    ]
    assert page.entries[1].expires_at == page.entries[1].published_at + 5.0
    assert recorder.offsets == [1, 2]
    assert await broker.publish([]) == []


async def test_a_lone_surrogate_fails_only_whoever_sent_it(opened: Opener) -> None:
    """What cannot be stored does not take the rest of its commit with it."""
    broker, _ = await opened()
    results = await asyncio.gather(
        broker.publish([make(data="fine")]),
        broker.publish([replace(make(), type="\ud800")]),
        broker.publish([make(data="too")]),
        return_exceptions=True,
    )
    assert isinstance(results[1], UnicodeEncodeError)
    assert sorted([*results[0], *results[2]]) == [1, 2]


async def test_a_publisher_without_a_hub_listens_to_nothing(path: Path, clock: ManualClock, opened: Opener) -> None:
    """It is no address others have to wake, and takes the retention the last hub stored."""
    hub, _ = await opened(Retention(count=3))
    broker = SqliteBroker(Database(path, clock), clock)
    await broker.open(None)
    await publish(broker, 5)
    await broker.close()
    assert addresses(path) == 1
    assert [e.offset for e in (await read(hub, "t")).entries] == [3, 4, 5]


# -- idempotency ------------------------------------------------------------------------------------------------


async def test_a_key_is_one_event_in_all_processes(path: Path) -> None:
    """Claimed in the transaction that appends (W20)."""
    async with children(path, 4) as hubs:
        for hub in hubs:
            await hub.send("publish_key", key="k", digest="same")
        assert [await hub.answer() for hub in hubs] == [[1]] * 4
        assert await hubs[0].ask("publish_key", key="k", digest="other") == "idempotency_conflict"
        assert await hubs[1].ask("publish", count=1, name="next") == [2]


async def test_a_conflict_appends_nothing_of_its_call_and_all_of_the_others(opened: Opener) -> None:
    """Calls of one commit do not know of one another."""
    broker, _ = await opened()
    await broker.publish([make(key="k")])
    calls = [
        broker.publish([make(), make(key="k", digest=b"other")]),
        broker.publish([make(key="n"), make(key="n")]),
        broker.publish([make(key="m"), make(key="m", digest=b"other")]),
        broker.publish([make(key="k"), make()]),
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[0], Conflict)
    assert isinstance(results[2], Conflict)
    assert [results[1], results[3]] == [[2, 2], [1, 3]]
    assert await broker.newest() == 3


async def test_keys_are_forgotten_after_a_day_and_when_there_are_too_many(
    opened: Opener, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered has a bound (W20)."""
    monkeypatch.setattr(append, "MAX_KEYS", 3)
    broker, _ = await opened()
    assert await broker.publish([make(key="k")]) == [1]
    clock.advance(24 * 3600.0 - 1)
    assert await broker.publish([make(key="k")]) == [1]
    clock.advance(2)
    assert await broker.publish([make(key="k")]) == [2]
    await broker.publish([make(key=f"k{number}") for number in range(3)])
    assert await broker.publish([make(key="k")]) == [6]
    assert await broker.publish([make(key="k2")]) == [5]


# -- history ----------------------------------------------------------------------------------------------------


async def test_pages_merge_topics_by_offset(opened: Opener) -> None:
    """No page passes over an event of another topic (W7)."""
    broker, _ = await opened()
    await broker.publish([make("a" if number % 3 else "b") for number in range(20)])
    for limit in (1, 3, 7, 50):
        seen, after, more = [], 0, True
        while more:
            page = await broker.history(TopicSet.of("a", "b"), after, 18, limit=limit, since=NOTHING)
            seen += [entry.offset for entry in page.entries]
            after, more = page.upto, page.more
        assert seen == list(range(1, 19))


@pytest.mark.parametrize("far", [0, 1500])
async def test_patterns_are_read_in_bounded_steps_or_through_the_index(opened: Opener, far: int) -> None:
    """Whichever way is taken, the same events come back, once."""
    broker, _ = await opened()
    await publish(broker, far, "noise")
    await broker.publish([make("a/1"), make("b"), make("a/2/3"), make("a/1", "a/2"), make(f"{CANARY_ROOT}/n")])

    async def all_of(*topics: str) -> list[int]:
        seen, after, more = [], 0, True
        while more:
            page = await read(broker, *topics, after=after)
            seen += [entry.offset - far for entry in page.entries]
            after, more = page.upto, page.more
        return [offset for offset in seen if offset > 0]

    assert await all_of("a/**") == [1, 3, 4]
    assert await all_of("a/*") == [1, 4]
    assert await all_of("a/*", "b") == [1, 2, 4]
    assert await all_of("*/2/*") == [3]
    assert await all_of("**") == [1, 2, 3, 4]


async def test_a_page_of_large_events_is_cut_by_its_size(opened: Opener) -> None:
    """A reader of large events costs a few MiB at a time, not a limit of entries."""
    broker, recorder = await opened()
    for _ in range(6):
        await publish(broker, 4, data="x" * 250_000)
    page = await read(broker, "t", limit=500)
    assert len(page.entries) == 17
    assert page.more
    assert page.upto == 17
    assert len((await read(broker, "t", after=17)).entries) == 7
    await eventually(lambda: recorder.offsets == list(range(1, 25)), "delivery")


# -- retention --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [{"count": 2}, {"size": 300}, {"age": 5.0}])
async def test_every_bound_trims_the_oldest_and_remembers_what_was_lost(
    opened: Opener, clock: ManualClock, limits: dict[str, Any]
) -> None:
    """The newest trimmed offset of each topic is known, and when it was published (W25)."""
    broker, _ = await opened(Retention(**limits))
    await broker.publish([make("a", data="x" * 10), make("b", data="x" * 10)])
    clock.advance(6.0)
    await broker.publish([make("c", data="x" * 10), make("c", data="x" * 10)])
    lost = [(await read(broker, topic)).lost for topic in ("a", "b", "c", "*", "a/*")]
    assert lost == [1, 2, 0, 2, 0]
    assert (await read(broker, "b", after=2)).lost == 0
    assert (await read(broker, "b", b=1003.0)).lost == 0
    assert [entry.offset for entry in (await read(broker, "*")).entries] == [3, 4]


async def test_age_trims_without_anything_being_published(opened: Opener, clock: ManualClock) -> None:
    """Whoever reads is shown nothing that should be gone."""
    broker, _ = await opened(Retention(age=5.0))
    for _ in range(10):  # one after the other, as each has two seconds
        await publish(broker, 300)
    clock.advance(6.0)
    page = await read(broker, "t")
    assert (list(page.entries), page.lost, page.more) == ([], 3000, False)


async def test_offsets_are_never_used_again(opened: Opener, clock: ManualClock) -> None:
    """Also when retention has emptied the log (W10)."""
    broker, _ = await opened(Retention(age=5.0))
    await publish(broker, 3)
    clock.advance(6.0)
    await read(broker, "t")
    await broker.close()
    broker, _ = await opened(Retention(age=5.0))
    assert broker.head == 3
    assert await publish(broker, 1) == [4]


async def test_what_expired_by_itself_is_no_loss(opened: Opener, clock: ManualClock) -> None:
    """Its time was over before it was trimmed (W25)."""
    broker, _ = await opened(Retention(count=1))
    await publish(broker, 1, "a", ttl=5.0)
    assert len((await read(broker, "a")).entries) == 1
    clock.advance(5.0)
    assert len((await read(broker, "a")).entries) == 0
    await publish(broker, 1, "b")
    assert (await read(broker, "a")).lost == 0


async def test_too_many_trimmed_topics_share_a_floor(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader of a topic that is not known any more is told of a gap rather than of none."""
    monkeypatch.setattr(retention, "MAX_TRIMMED", 2)
    broker, _ = await opened(Retention(count=1))
    for topic in ("a", "b", "c", "d", "d"):
        await publish(broker, 1, topic)
    lost = [(await read(broker, topic)).lost for topic in ("a", "b", "c", "d", "never", "x/*")]
    assert lost == [2, 2, 3, 4, 2, 2]


async def test_what_patterns_lost_is_found_or_told_beyond_a_bound(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly where few records are in question; of too many an honest gap at the bound, never silence (W25)."""
    monkeypatch.setattr(history, "LOST_SCAN", 3)
    broker, _ = await opened(Retention(count=1))
    for number in range(1, 11):
        await publish(broker, 1, f"x/{number}")
    await publish(broker, 1, "y/1")
    await publish(broker, 1, "last")
    wanted = {"none/**": 0, "y/*": 11, "*/9": 9, "*/2": 8, "*/none": 8}
    assert {pattern: (await read(broker, pattern)).lost for pattern in wanted} == wanted
    assert (await read(broker, "*/none", after=8)).lost == 0
    assert (await read(broker, "none/*", "*/10", "y/*")).lost == 11
    assert (await broker.history(TopicSet.of("y/*"), 0, limit=9, since={"y/*": 1001.0})).lost == 0


async def test_one_page_looks_through_a_bounded_part_of_what_was_trimmed(opened: Opener, path: Path) -> None:
    """With as many trimmed topics as are remembered and patterns that match none, in SQLite's own steps."""
    await opened(Retention(count=1))
    patterns = TopicSet.of(*(f"*/none{number}" for number in range(8)))
    asked = history.HistoryQuery(topics=patterns, after=0, upto=None, limit=500, since=NOTHING, now=10**15)
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        rows = ((f"topic/{number}", number, 0) for number in range(1, retention.MAX_TRIMMED + 1))
        connection.executemany("INSERT INTO trimmed VALUES (?, ?, ?)", rows)
        connection.execute("UPDATE log SET head = ?, records = ?", (retention.MAX_TRIMMED, retention.MAX_TRIMMED))
        connection.execute("COMMIT")
        connection.set_progress_handler(step, 1000)
        (page,) = history.pages(connection, [asked])
    assert page is not None
    assert page.lost == retention.MAX_TRIMMED - history.LOST_SCAN
    assert steps < 200


async def test_a_hub_that_fell_behind_retention_learns_what_it_missed(
    opened: Opener, path: Path, clock: ManualClock
) -> None:
    """What was trimmed before it was read is not silently passed over (W24)."""
    broker, recorder = await opened(Retention(count=10))
    await broker.publish([make() for _ in range(50)])
    await eventually(lambda: broker.head == 50, "delivery")
    assert recorder.gaps == [40]
    assert recorder.offsets == list(range(41, 51))
    assert await broker.listen(["t"]) == 40


async def test_canaries_are_delivered_and_nothing_else(opened: Opener) -> None:
    """They push nothing out, are never lost and never in the history; a few of each topic are kept."""
    broker, recorder = await opened(Retention(count=2))
    await publish(broker, 2, "a")
    await eventually(lambda: broker.head == 2, "delivery")
    for offset in range(3, 23):
        assert await publish(broker, 1, f"{CANARY_ROOT}/node") == [offset]
        await eventually(lambda offset=offset: broker.head == offset, "delivery")
    assert recorder.offsets == list(range(1, 23))
    page = await read(broker, "**", f"{CANARY_ROOT}/node")
    assert ([entry.offset for entry in page.entries], page.lost) == ([1, 2], 0)
    await publish(broker, 2, "a")
    assert (await read(broker, f"{CANARY_ROOT}/node")).lost == 0


# -- epochs -----------------------------------------------------------------------------------------------------


async def test_every_acknowledged_event_survives_kill_9(path: Path, opened: Opener) -> None:
    """A restart is a new epoch; positions of the old one up to its head are still good (W10)."""
    async with children(path, 1) as (hub,):
        await hub.send("publish_for_ever")
        acknowledged = [int(await hub.line()) for _ in range(100)]
        with sqlite3.connect(path) as connection:
            (epoch,) = connection.execute("SELECT epoch FROM log").fetchone()
        connection.close()
        hub.process.send_signal(signal.SIGKILL)
        while line := await hub.line():
            acknowledged.append(int(line))
    broker, _ = await opened()
    page = await read(broker, "t", limit=100_000)
    assert {entry.offset for entry in page.entries} >= set(acknowledged)
    assert broker.head >= acknowledged[-1]
    assert broker.lineage.epoch != epoch
    resolution = broker.lineage.resolve(Position(epoch, acknowledged[-1]), broker.head)
    assert (resolution.offset, resolution.reason) == (acknowledged[-1], None)


async def test_who_comes_later_joins_the_epoch(opened: Opener) -> None:
    """Only the first process on the file begins one."""
    one, _ = await opened()
    other, _ = await opened()
    assert one.lineage == other.lineage
    await one.close()
    third, _ = await opened()
    assert third.lineage == other.lineage
    await other.close()
    await third.close()
    fourth, _ = await opened()
    assert fourth.lineage.epoch != third.lineage.epoch
    assert fourth.lineage.older[0] == (third.lineage.epoch, 0)


async def test_the_lineage_is_bounded(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions of the oldest epochs are unknown some day."""
    monkeypatch.setattr("sseal.storage.sqlite.epochs.MAX_EPOCHS", 3)
    epochs = []
    for _ in range(6):
        broker, _ = await opened()
        epochs.append(broker.lineage.epoch)
        await broker.close()
    assert [epoch for epoch, _ in broker.lineage.older] == epochs[-2:-5:-1]


async def test_a_restored_backup_is_a_gap_for_whoever_was_further(path: Path, opened: Opener) -> None:
    """The offsets after the backup are used again, in another epoch (W10)."""
    broker, _ = await opened()
    await publish(broker, 5)
    await broker.close()
    shutil.copy(path, f"{path}-backup")
    broker, _ = await opened()
    await publish(broker, 5)
    far = Position(broker.lineage.epoch, 8)
    await broker.close()
    shutil.copy(f"{path}-backup", path)
    broker, _ = await opened()
    assert broker.head == 5
    assert await publish(broker, 1) == [6]
    assert broker.lineage.resolve(far, 6).reason == "other_epoch"


async def test_a_copied_file_is_another_log(path: Path, tmp_path: Path, opened: Opener) -> None:
    """Both go on in epochs of their own."""
    broker, _ = await opened()
    await publish(broker, 2)
    old = broker.lineage.epoch
    await broker.close()
    shutil.copy(path, tmp_path / "copy.db")
    one, _ = await opened()
    other, _ = await opened(at=tmp_path / "copy.db")
    assert one.lineage.epoch != other.lineage.epoch
    assert one.lineage.older[0] == other.lineage.older[0] == (old, 2)


async def test_a_backup_restored_under_open_hubs_turns_them_all(path: Path, opened: Opener) -> None:
    """Whoever notices begins a new epoch, once; the others take it over (W10)."""
    one, first = await opened()
    other, second = await opened()
    await publish(one, 5)
    copy(path, f"{path}-backup")
    old = one.lineage.epoch
    await publish(one, 5)
    await eventually(lambda: (one.head, other.head) == (10, 10), "delivery")
    await asyncio.to_thread(copy, f"{path}-backup", path)
    assert await one.newest() == 5
    assert first.epoch_changes == 1
    await eventually(lambda: second.epoch_changes >= 1 and one.lineage == other.lineage, "the same epoch everywhere")
    assert one.lineage.resolve(Position(old, 5), 5).reason is None
    assert one.lineage.resolve(Position(old, 8), 5).reason == "other_epoch"
    assert await publish(other, 1) == [6]
    await eventually(lambda: first.offsets[-1] == second.offsets[-1] == 6, "delivery in the new epoch")


class Turning(Recorder):
    """Notes how far the log counts as handed out when it turns."""

    def __init__(self) -> None:
        super().__init__()
        self.broker: SqliteBroker | None = None
        self.heads: list[int] = []

    def on_epoch_change(self) -> None:
        """Keep the head."""
        assert self.broker is not None
        self.heads.append(self.broker.head)


@pytest.fixture
async def turning(path: Path, clock: ManualClock) -> AsyncIterator[tuple[SqliteBroker, Turning]]:
    """A hub that is told of turns."""
    broker, recorder = SqliteBroker(Database(path, clock), clock), Turning()
    recorder.broker = broker
    await broker.open(recorder)
    yield broker, recorder
    await broker.close()


async def test_what_a_restored_backup_took_in_before_the_turn_is_delivered(
    path: Path, turning: tuple[SqliteBroker, Turning]
) -> None:
    """The new epoch counts as handed out up to where the old one ends, not up to its newest event (W10)."""
    broker, recorder = turning
    await publish(broker, 2, "p")
    copy(path, f"{path}-backup")
    await publish(broker, 2, "p")
    await eventually(lambda: broker.head == 4, "delivery")
    await asyncio.to_thread(copy, f"{path}-backup", path)
    assert await publish(broker, 2, "q", data="new") == [3, 4]
    await eventually(lambda: len(recorder.entries) >= 6, "delivery in the new epoch")
    assert recorder.heads == [2]
    assert [(offset, data) for offset, data, _ in recorder.entries[4:]] == [(3, "new"), (4, "new")]


async def test_of_a_log_with_nothing_in_common_only_what_comes_is_delivered(
    path: Path, opened: Opener, turning: tuple[SqliteBroker, Turning]
) -> None:
    """Whoever reads is sent to the history, which has the rest (W10)."""
    broker, recorder = turning
    await publish(broker, 2)
    other = path.with_name("other.db")
    stranger, _ = await opened(at=other)
    await publish(stranger, 7)
    await stranger.close()
    await asyncio.to_thread(copy, other, path)
    assert await broker.newest() == 7
    assert recorder.heads == [7]
    assert await publish(broker, 1) == [8]
    await eventually(lambda: recorder.offsets == [1, 2, 8], "delivery in the new log")


async def test_a_publisher_notices_a_restored_backup_by_itself(path: Path, clock: ManualClock) -> None:
    """It appends nothing under an epoch whose offsets were given already."""
    broker = SqliteBroker(Database(path, clock), clock)
    await broker.open(None)
    await publish(broker, 5)
    copy(path, f"{path}-backup")
    old = broker.lineage.epoch
    await publish(broker, 5)
    await asyncio.to_thread(copy, f"{path}-backup", path)
    assert await publish(broker, 1) == [6]
    assert broker.lineage.older[0] == (old, 5)
    await broker.close()


def copy(source: str | Path, target: str | Path) -> None:
    """Copy a file that is open, as ``.backup`` and ``.restore`` of the sqlite3 shell do."""
    one, other = sqlite3.connect(source, timeout=5.0), sqlite3.connect(target, timeout=5.0)
    one.backup(other)
    one.close()
    other.close()


# -- files that cannot be used ----------------------------------------------------------------------------------


async def refused(path: Path, clock: ManualClock) -> str:
    """Return why a file is refused."""
    broker = SqliteBroker(Database(path, clock), clock)
    with pytest.raises(InvalidInput) as caught:
        await broker.open(None)
    assert caught.value.field == "broker"
    await broker.close()
    return caught.value.problem


async def test_the_file_is_for_its_owner_only(path: Path, opened: Opener) -> None:
    """It holds identities."""
    broker, _ = await opened()
    await publish(broker, 1)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["log.db", "log.db-lock", "log.db-shm", "log.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


async def test_a_file_that_others_may_read_is_tightened(path: Path, opened: Opener) -> None:
    """It may have been copied there with the mode of any file."""
    broker, _ = await opened()
    await broker.close()
    path.chmod(0o644)
    await opened()
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


async def test_a_file_of_somebody_else_that_others_may_read_is_warned_of_once(
    path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Only its owner can change that; the log works all the same."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    broker, _ = await opened()
    await broker.close()
    path.chmod(0o644)
    monkeypatch.setattr(Path, "chmod", refuse)
    broker, _ = await opened()
    assert await publish(broker, 1) == [1]
    assert sum("chmod 600" in record.message for record in caplog.records) == 1


async def test_places_where_no_file_can_lie(tmp_path: Path, clock: ManualClock) -> None:
    """Each is refused with what to do."""
    assert "make it" in await refused(tmp_path / "missing" / "log.db", clock)
    assert "no file" in await refused(tmp_path, clock)
    with pytest.raises(InvalidInput, match="memory://"):
        Database(":memory:", clock)


async def test_a_directory_that_may_not_be_written(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the bits say, the system is asked."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "may not be written" in await refused(tmp_path / "log.db", clock)


async def test_files_of_others_are_left_alone(path: Path, clock: ManualClock, opened: Opener) -> None:
    """Another program's file, a newer version's, and what is no SQLite file."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    assert "another program" in await refused(path, clock)
    assert path.read_bytes() == before
    path.write_bytes(b"no database at all" * 1000)
    assert "damaged or no SQLite file" in await refused(path, clock)
    path.unlink()
    broker, _ = await opened()
    await broker.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "newer version" in await refused(path, clock)


async def test_a_damaged_file_is_refused_at_open(path: Path, clock: ManualClock, opened: Opener) -> None:
    """The whole file is checked by the first who opens it."""
    broker, _ = await opened()
    await publish(broker, 500, data="x" * 100)
    await broker.close()
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(os.urandom(8192))
    assert "damaged" in await refused(path, clock)


async def test_damage_found_later_stops_publishing_with_a_clear_error(
    path: Path, opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    """No exception reaches the loop, and the log says it once (W28)."""
    broker, _ = await opened()
    await publish(broker, 500, data="x" * 100)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    for _ in range(5):
        with pytest.raises(Unavailable) as caught:
            await publish(broker, 1)
        assert caught.value.code == "broker_failed"
    assert sum("damaged" in record.message for record in caplog.records) == 1
    await broker.close()


async def test_a_full_disk_refuses_until_there_is_room(opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    """What was there can be read meanwhile, nothing of what was refused is there later."""
    broker, recorder = await opened()
    await publish(broker, 10, data="x")
    await _in_writer(broker, "PRAGMA max_page_count = 1")  # it cannot be less than there are
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            await publish(broker, 50, data="y" * 10_000)
        assert caught.value.code == "disk_full"
    assert len((await read(broker, "t")).entries) == 10
    assert sum("full" in record.message for record in caplog.records) == 1
    await _in_writer(broker, "PRAGMA max_page_count = 1000000")
    assert await publish(broker, 2, data="z") == [11, 12]
    await eventually(lambda: recorder.offsets == list(range(1, 13)), "delivery")


async def _in_writer(broker: SqliteBroker, pragma: str) -> None:
    """Run a statement on the connection that writes."""

    def handler(connection: sqlite3.Connection, items: Any) -> list[Any]:
        return [connection.execute(pragma).fetchall() for _ in items]

    await broker._database.write(handler, None)


async def test_a_file_that_cannot_grow_refuses_and_recovers(path: Path) -> None:
    """A write that fails half way leaves nothing behind; RLIMIT_FSIZE of a process stands for the disk."""
    async with children(path, 2) as (hub, reader):
        assert await hub.ask("publish", count=3, name="a") == [1, 2, 3]
        await hub.ask("limit_files", size=max(file.stat().st_size for file in path.parent.iterdir()))
        codes = {await hub.ask("publish", count=1, name="b" * 100_000) for _ in range(3)}
        assert codes <= {"broker_failed", "disk_full"}
        await hub.ask("limit_files", size=0)
        assert await hub.ask("publish", count=1, name="c") == [4]
        assert [data.split()[0] for _, data, _ in await reader.ask("delivered", upto=4)] == ["a", "a", "a", "c"]


async def test_a_read_only_file_refuses_with_its_own_code(opened: Opener) -> None:
    """Reading goes on, and publishing too once it may be written again."""
    broker, _ = await opened()
    await publish(broker, 1)
    await _in_writer(broker, "PRAGMA query_only = 1")
    with pytest.raises(Unavailable) as caught:
        await publish(broker, 1)
    assert caught.value.code == "read_only"
    assert len((await read(broker, "t")).entries) == 1
    assert await publish(broker, 1) == [2]


@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_a_file_that_goes_away_stops_publishing(path: Path, opened: Opener, clock: ManualClock, how: str) -> None:
    """Nothing is acknowledged that goes into a file nobody will find again; put back, it goes on."""
    broker, recorder = await opened()
    await publish(broker, 1)
    await eventually(lambda: broker.head == 1, "delivery")
    path.rename(f"{path}-away")
    if how == "replaced":
        path.write_bytes(b"")
    with pytest.raises(Unavailable, match="deleted or replaced") as caught:
        await publish(broker, 1)
    assert caught.value.code == "broker_failed"
    await eventually(lambda: broker.lost_since is not None, "the loss is noticed")
    with pytest.raises(Unavailable):
        await broker._database.look()
    Path(f"{path}-away").rename(path)
    await eventually(lambda: broker.lost_since is None, "it is back")
    assert recorder.reconnects == 1
    assert await publish(broker, 1) == [2]
    await eventually(lambda: recorder.offsets == [1, 2], "delivery")


async def test_nothing_is_delivered_before_what_must_come_first_has_gone_well(
    path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a loss the revocations are heard first; while that fails, the log counts as lost (W17)."""
    broker, recorder = await opened()
    failing, tries = True, 0

    async def on_reconnect() -> None:
        nonlocal tries
        tries += 1
        if failing:
            raise Unavailable("the revocations cannot be read")

    monkeypatch.setattr(recorder, "on_reconnect", on_reconnect)
    path.rename(f"{path}-away")
    await eventually(lambda: broker.lost_since is not None, "the loss is noticed")
    Path(f"{path}-away").rename(path)
    assert await publish(broker, 1) == [1]
    await eventually(lambda: tries >= 3, "it is tried again")
    assert recorder.offsets == []
    assert broker.lost_since is not None
    failing = False
    await eventually(lambda: recorder.offsets == [1], "delivery")
    await eventually(lambda: broker.lost_since is None, "it is back")
    assert sum("cannot go on yet" in record.message for record in caplog.records) == 1


async def test_events_the_hub_failed_to_take_are_missed_and_not_lost(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their readers ask the history, and delivery goes on (W24)."""
    broker, recorder = await opened()
    take = recorder.on_entries

    def on_entries(entries: Any) -> None:
        if entries[0].data == "bad":
            raise ValueError("a fault of the hub")
        take(entries)

    monkeypatch.setattr(recorder, "on_entries", on_entries)
    await publish(broker, 1, data="bad")
    await eventually(lambda: recorder.gaps == [1], "the readers are told")
    await publish(broker, 1)
    await eventually(lambda: recorder.offsets == [2], "delivery")


# -- limits and ends --------------------------------------------------------------------------------------------


async def test_too_much_that_waits_is_refused(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue before the writing thread is bounded in jobs and in bytes."""
    broker, _ = await opened()
    monkeypatch.setattr(workers, "MAX_JOBS", 5)
    results = await asyncio.gather(*(publish(broker, 1) for _ in range(50)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, Unavailable)]
    assert refused
    assert {error.code for error in refused} == {"busy"}
    assert await broker.newest() == 50 - len(refused)
    monkeypatch.setattr(workers, "MAX_BYTES", 1000)
    with pytest.raises(Unavailable):
        await publish(broker, 1, data="x" * 2000)


async def test_a_writer_that_does_not_get_its_turn_says_so(
    path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A foreign program that holds the file locked makes publishing fail for now, and nothing is appended (W9)."""
    monkeypatch.setattr(writer, "BEGIN_TIMEOUT", 0.2)
    broker, _ = await opened()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable) as caught:
        await publish(broker, 1)
    assert caught.value.code == "busy"
    other.execute("ROLLBACK")
    other.close()
    assert await publish(broker, 1) == [1]


@pytest.mark.parametrize("begun", [False, True])
async def test_a_deadline_tells_whether_the_event_may_be_there(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    """What had not begun is withdrawn; of the rest the outcome is unknown (W9)."""
    broker, _ = await opened()
    await publish(broker, 1)
    monkeypatch.setattr(workers, "CALL_TIMEOUT", 1.0)
    busy, release = threading.Event(), threading.Event()

    def stuck(connection: sqlite3.Connection, items: Any) -> list[None]:
        busy.set()
        release.wait(10.0)
        return [None for _ in items]

    try:
        blocked = asyncio.create_task(broker._database.write(stuck, None))
        await eventually(busy.is_set, "the thread is busy")
        with pytest.raises(Unavailable) as caught:
            await (blocked if begun else publish(broker, 1))
        assert caught.value.code == ("outcome_unknown" if begun else "busy")
        with pytest.raises(Unavailable):
            await blocked
    finally:
        release.set()
    assert await broker.newest() == 1


@pytest.mark.parametrize("long", [False, True])
async def test_a_read_that_took_too_long_says_no_more_than_that(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, long: bool
) -> None:
    """There is nothing to repeat with a key, and no outcome to wonder about."""
    broker, _ = await opened()
    monkeypatch.setattr(workers, "CALL_TIMEOUT", 1.0)
    release = threading.Event()

    def stuck(connection: sqlite3.Connection, items: Any) -> list[None]:
        release.wait(10.0)
        return [None for _ in items]

    try:
        with pytest.raises(Unavailable, match="cannot be read now") as caught:
            await broker._database.read(stuck, None, long=long)
        assert caught.value.code == "busy"
    finally:
        release.set()


async def test_who_does_not_wait_any_more_harms_nobody(opened: Opener) -> None:
    """A cancelled caller leaves the threads alone."""
    broker, recorder = await opened()
    for wait in (broker.newest, broker._database.look, lambda: publish(broker, 1)):
        for _ in range(20):
            task = asyncio.ensure_future(wait())
            await asyncio.sleep(0)
            task.cancel()
    (offset,) = await publish(broker, 1)
    await eventually(lambda: broker.head == offset, "delivery")
    assert recorder.offsets == list(range(1, offset + 1))


async def test_closing_finishes_what_waits(opened: Opener, path: Path) -> None:
    """Every call is answered, with offsets or an error, and afterwards nothing is accepted."""
    broker, _ = await opened()
    calls = [asyncio.create_task(publish(broker, 1)) for _ in range(20)]
    await asyncio.sleep(0)
    await broker.close()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, list | Unavailable) for result in results)
    with pytest.raises(Unavailable):
        await publish(broker, 1)
    await broker.close()
    broker, _ = await opened()
    assert broker.head == sum(isinstance(result, list) for result in results)


async def test_closing_does_not_hold_up_the_loop(opened: Opener) -> None:
    """Threads are waited for by the side: one ends only when the loop has gone on meanwhile."""
    broker, _ = await opened()
    busy, release = threading.Event(), threading.Event()
    released: list[bool] = []

    def stuck(connection: sqlite3.Connection, items: Any) -> list[None]:
        busy.set()
        released.append(release.wait(4.0))
        return [None for _ in items]

    reading = asyncio.create_task(broker._database.read(stuck, None))
    await eventually(busy.is_set, "the thread is busy")
    closing = asyncio.create_task(broker.close())
    await asyncio.sleep(0.05)
    assert not closing.done()
    release.set()
    await closing
    await asyncio.gather(reading, return_exceptions=True)
    assert released == [True]


async def test_the_write_ahead_log_is_bounded(opened: Opener, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a reader of another program has kept it from being written back."""
    monkeypatch.setattr(writer, "WAL_LIMIT", 100_000)
    monkeypatch.setattr(writer, "WAL_CHECK_COMMITS", 1)
    broker, _ = await opened()
    await publish(broker, 1)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM event").fetchone()
    for _ in range(3):
        await publish(broker, 10, data="x" * 100_000)
    wal = Path(f"{path}-wal")
    assert wal.stat().st_size > 1_000_000
    reader.execute("COMMIT")
    reader.close()
    for _ in range(3):
        await publish(broker, 1)
    assert wal.stat().st_size < 200_000


async def test_an_address_nobody_answers_at_is_removed(path: Path) -> None:
    """A killed process costs one failed datagram."""
    async with children(path, 2) as (hub, killed):
        assert addresses(path) == 2
        killed.process.kill()
        await killed.process.wait()
        await hub.ask("publish", count=1, name="p")
        await eventually(lambda: addresses(path) == 1, "the address is struck out")


def addresses(path: Path) -> int:
    """Return how many processes are rung."""
    connection = sqlite3.connect(path)
    (number,) = connection.execute("SELECT count(*) FROM listener").fetchone()
    connection.close()
    return int(number)
