"""Publishing without a hub: from any thread, loop and process, into the log of hubs elsewhere (W40)."""

from __future__ import annotations

import asyncio
import gc
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from addresses import ADDRESSES
from sseal import Hub, HubSettings, Limits, storage
from sseal.clock import SystemClock
from sseal.errors import Conflict, InvalidInput, TooLarge, Unavailable
from sseal.position import Lineage
from sseal.publisher import Publisher, thread
from sseal.storage import Entry, Retention
from sseal.testing.conformance.hubs import Hub as Reader

THREAD = "sseal-publisher"


def threads() -> int:
    """Count the threads of publishers."""
    return sum(thread.name == THREAD for thread in threading.enumerate())


def no_thread_is_left() -> bool:
    """Tell whether the threads of publishers have ended, which comes a moment after what they report as their last."""
    deadline = time.monotonic() + 5.0
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    return threads() == 0


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Let no test leave a thread behind."""
    yield
    gc.collect()
    assert no_thread_is_left()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the address of a log that is not there yet."""
    return f"sqlite:///{tmp_path}/hub.db"


async def reader(url: str, *listen: str, retention: Retention | None = None) -> Reader:
    """Open the log as a hub does, which is to be closed."""
    one = Reader(storage.open(url, SystemClock()).broker(retention))
    await one.broker.open(one.recorder)
    await one.broker.listen(listen)
    return one


async def entries(url: str) -> list[Entry]:
    """Return what the log holds."""
    one = await reader(url)
    try:
        return await one.history("**")
    finally:
        await one.broker.close()


@pytest.fixture(params=ADDRESSES)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the address of an empty log on each engine that is shared."""
    with ADDRESSES[request.param](tmp_path) as address:
        yield address


async def test_what_is_published_reaches_the_hubs(shared: str) -> None:
    """An event gets its id, and every hub on the log is handed it, as if it were its own."""
    url = shared
    hub = await reader(url, "a", "b")
    async with Publisher(url) as publisher:
        position = await publisher.publish(["a", "b"], {"n": 1}, event="order", ttl=60, key="k", retry=1500)
        epoch, offset = position.split("-")
        await hub.wait_for(int(offset))
        assert epoch == hub.broker.lineage.epoch
    (entry,) = hub.given("b")
    assert (entry.topics, entry.type, entry.data, entry.retry) == (("a", "b"), "order", '{"n":1}', 1500)
    assert entry.expires_at == pytest.approx(entry.published_at + 60, abs=0.01)
    await hub.broker.close()


async def test_a_key_is_the_applications_own(url: str, tmp_path: Path) -> None:
    """A worker that repeats what the hub's process has published makes no second event, and the other way round."""
    hub = Hub(HubSettings(jwt_secret=("x" * 32,), broker=url))
    async with hub.lifespan(), Publisher(url) as publisher:
        first = await hub.publish("a", "x", key="k")
        assert await publisher.publish("a", "x", key="k") == first
        second = await publisher.publish("a", "y", key="l")
        assert await hub.publish("a", "y", key="l") == second
        with pytest.raises(Conflict):
            await publisher.publish("a", "z", key="k")
    assert len(await entries(url)) == 2


async def test_the_retention_of_the_hubs_holds(url: str) -> None:
    """A publisher trims the log as the hubs want it, and does not make its own rules."""
    hub = await reader(url, retention=Retention(count=5))
    async with Publisher(url) as publisher:
        for index in range(12):
            await publisher.publish("a", f"{index}")
    assert [entry.data for entry in await hub.history("a")] == ["7", "8", "9", "10", "11"]
    await hub.broker.close()


async def test_bad_input_is_named_and_opens_nothing(url: str, tmp_path: Path) -> None:
    """What is wrong is said before anything is opened; the hub's own topics and types stay its own."""
    async with Publisher(url, limits=Limits(data=10)) as publisher:
        for field, topic, data, event in (
            ("topic", "a/*", "", "e"),
            ("data", "a", object(), "e"),
            ("event", "a", "", "auth"),
        ):
            with pytest.raises(InvalidInput) as caught:
                await publisher.publish(topic, data, event=event)
            assert caught.value.field == field
        with pytest.raises(TooLarge):
            await publisher.publish("a", "x" * 11)
        with pytest.raises(InvalidInput, match="reserved"):
            await publisher.publish("$sseal/canary/x", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "says"),
    [("memory://", "would reach no stream"), ("memory://x", "nothing may follow"), ("x", "must be"), ("", "must be")],
)
def test_an_address_that_cannot_work_is_refused_at_once(address: str, says: str) -> None:
    """Before anybody relies on it, with what to give instead."""
    with pytest.raises(InvalidInput, match=says) as caught:
        Publisher(address)
    assert caught.value.field == "broker_url"


def test_a_password_is_shown_nowhere() -> None:
    """Neither in the representation nor in a refusal."""
    assert repr(Publisher("redis://me:s3cret@log.example:6379/0?a=s3cret")) == "Publisher('redis://log.example:6379/0')"
    with pytest.raises(InvalidInput) as caught:
        Publisher("rodis://me:s3cret@log.example")
    assert "s3cret" not in str(caught.value)


async def test_a_log_that_cannot_be_used_is_tried_again(tmp_path: Path) -> None:
    """An error of opening is told to whoever publishes, and the next one tries anew."""
    folder = tmp_path / "later"
    url = f"sqlite:///{folder}/hub.db"
    async with Publisher(url) as publisher:
        with pytest.raises(InvalidInput) as caught:
            await publisher.publish("a", "x")
        assert caught.value.field == "broker"
        folder.mkdir()
        assert (await publisher.publish("a", "x")).endswith("-1")


def test_threads_share_one_connection(url: str) -> None:
    """Sync views of a thread pool publish at the same time, each gets its own id, and nothing is lost."""
    with Publisher(url) as publisher, ThreadPoolExecutor(16) as pool:
        ids = list(pool.map(lambda index: publisher.publish_sync("a", f"{index}"), range(200)))
        assert threads() == 1
    assert len(set(ids)) == 200
    found = asyncio.run(entries(url))
    assert {f"{i}": int(position.split("-")[1]) for i, position in enumerate(ids)} == {e.data: e.offset for e in found}


def test_event_loops_share_one_connection(url: str) -> None:
    """Loops one after the other and at the same time, as async_to_sync makes them, need no connection each."""
    publisher = Publisher(url)

    def loop(number: int) -> list[str]:
        async def run() -> list[str]:
            return await asyncio.gather(*(publisher.publish("a", f"{number}.{index}") for index in range(5)))

        return asyncio.run(run())

    ids = [*loop(0), *loop(1), publisher.publish_sync("a", "sync")]
    with ThreadPoolExecutor(4) as pool:
        ids += [position for part in pool.map(loop, range(2, 10)) for position in part]
    assert threads() == 1
    publisher.close_sync()
    assert len(set(ids)) == len(asyncio.run(entries(url))) == 51


async def test_a_loop_is_not_stopped(url: str) -> None:
    """The sync form in a thread that runs an event loop is a mistake, and is told so with what to write instead."""
    publisher = Publisher(url)
    with pytest.raises(InvalidInput, match="await publish"):
        publisher.publish_sync("a", "x")
    assert threads() == 0


async def test_closing_is_for_good_and_may_be_repeated(url: str) -> None:
    """A closed publisher says so, opened or not."""
    for used in (True, False):
        publisher = Publisher(url)
        if used:
            await publisher.publish("a", "x")
        await publisher.close()
        await publisher.close()
        await asyncio.to_thread(publisher.close_sync)
        with pytest.raises(Unavailable) as caught:
            await publisher.publish("a", "x")
        assert caught.value.code == "broker_closed"
        assert no_thread_is_left()


async def test_a_close_lets_what_runs_finish(url: str) -> None:
    """What was being published has its id, and is in the log."""
    publisher = Publisher(url)
    await publisher.publish("a", "first")
    running = [asyncio.create_task(publisher.publish("a", f"{index}")) for index in range(50)]
    await asyncio.sleep(0)
    await publisher.close()
    ids = await asyncio.gather(*running)
    assert len(set(ids)) == 50
    assert len(await entries(url)) == 51


# -- with a log that does as it is told -------------------------------------------------------------------------


class Stub:
    """A broker that opens and publishes when a test lets it."""

    def __init__(self) -> None:
        self.lineage = Lineage("abcdefgh")
        self.opened = 0
        self.published: list[str] = []
        self.cancelled = 0
        self.closed = threading.Event()
        self.may_open = threading.Event()
        self.may_publish = threading.Event()
        self.error: Exception | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    async def open(self, intake: object) -> None:
        """Open when allowed."""
        assert intake is None
        self.loop = asyncio.get_running_loop()
        self.opened += 1
        await self._until(self.may_open)
        if self.error is not None:
            raise self.error

    async def publish(self, publications: list[SimpleNamespace]) -> list[int]:
        """Publish when allowed."""
        await self._until(self.may_publish)
        self.published += [publication.data for publication in publications]
        return [len(self.published)]

    async def close(self) -> None:
        """Note it."""
        self.closed.set()

    async def reached(self) -> None:
        """Return when all that was submitted before this waits for the log: the publisher's loop takes it in order."""
        async with asyncio.timeout(5.0):
            while self.loop is None:
                await asyncio.sleep(0.002)
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop))

    async def _until(self, event: threading.Event) -> None:
        try:
            while not event.is_set():
                await asyncio.sleep(0.002)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@dataclass
class Opened:
    """A storage with this log in it."""

    log: Stub

    def broker(self) -> Stub:
        """Return the log."""
        return self.log


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    """Let publishers open this log."""
    made = Stub()
    monkeypatch.setattr(thread.storage, "open", lambda address, clock: Opened(made))
    return made


async def started(publisher: Publisher, count: int) -> list[asyncio.Task[str]]:
    """Publish several and return what waits."""
    tasks = [asyncio.create_task(publisher.publish("a", f"{index}")) for index in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_all_who_wait_share_one_attempt_to_open(stub: Stub) -> None:
    """A log out of reach is not asked by each of them in turn, and its error is told to all."""
    stub.error = Unavailable("not in reach", code="broker_lost")
    async with Publisher("sqlite:///x") as publisher:
        waiting = await started(publisher, 20)
        await stub.reached()
        stub.may_open.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {getattr(result, "code", None) for result in results} == {"broker_lost"}
        assert stub.opened == 1
        stub.error = None
        stub.may_publish.set()
        assert await publisher.publish("a", "x") == "abcdefgh-1"
        assert stub.opened == 2


async def test_one_who_gives_up_does_not_stop_the_opening(stub: Stub) -> None:
    """The others wait for the same attempt."""
    stub.may_publish.set()
    async with Publisher("sqlite:///x") as publisher:
        first, second = await started(publisher, 2)
        await stub.reached()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        stub.may_open.set()
        assert await second == "abcdefgh-1"
        assert stub.opened == 1
        assert stub.published == ["1"]


async def test_one_who_gives_up_is_not_waited_for(stub: Stub) -> None:
    """A cancelled publish is withdrawn from the log, if it still can be."""
    stub.may_open.set()
    async with Publisher("sqlite:///x") as publisher:
        (task,) = await started(publisher, 1)
        await stub.reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5.0):
            while not stub.cancelled:
                await asyncio.sleep(0.002)
        stub.may_publish.set()
        assert await publisher.publish("a", "x") == "abcdefgh-1"
        assert stub.published == ["x"]


async def test_waiting_is_bounded(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of publishes that wait the next is refused, and goes through when others have."""
    monkeypatch.setattr(thread, "MAX_WAITING", 3)
    async with Publisher("sqlite:///x") as publisher:
        waiting = await started(publisher, 3)
        with pytest.raises(Unavailable) as caught:
            await publisher.publish("a", "x")
        assert caught.value.code == "busy"
        stub.may_open.set()
        stub.may_publish.set()
        await asyncio.gather(*waiting)
        deadline = time.monotonic() + 5.0
        while time.monotonic() < deadline:
            try:
                await publisher.publish("a", "x")
                break
            except Unavailable:
                await asyncio.sleep(0.002)
        assert len(stub.published) == 4


@pytest.mark.parametrize(("opens", "code"), [(True, "outcome_unknown"), (False, "broker_closed")])
def test_a_close_takes_two_seconds_at_most(stub: Stub, opens: bool, code: str) -> None:
    """However long the log takes; and who waited is told whether it may have got in."""
    if opens:
        stub.may_open.set()
    publisher = Publisher("sqlite:///x")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(publisher.publish_sync, "a", "x")
        deadline = time.monotonic() + 5.0
        while not stub.opened and time.monotonic() < deadline:
            time.sleep(0.002)
        start = time.monotonic()
        publisher.close_sync()
        took = time.monotonic() - start
        assert 0.5 < took < thread.CLOSE_TIMEOUT + 0.5
        with pytest.raises(Unavailable) as caught:
            waiting.result(5.0)
    assert caught.value.code == code
    assert stub.closed.is_set()


def test_a_publisher_nobody_holds_ends_its_thread(stub: Stub) -> None:
    """One that was made for a single call and dropped leaves nothing behind; the fixture looks."""
    stub.may_open.set()
    stub.may_publish.set()
    Publisher("sqlite:///x").publish_sync("a", "x")
    gc.collect()
    assert stub.closed.wait(5.0)


# -- processes --------------------------------------------------------------------------------------------------


def program(text: str, *arguments: str) -> list[str]:
    """Run a program to its end, warnings being errors, and return what it printed.

    That asyncio found a callback slow, which the development mode reports, is the machine's affair.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", text, *arguments],
        capture_output=True,
        text=True,
        timeout=30.0,
        check=False,
    )
    told = [line for line in done.stderr.splitlines() if not re.match(r"Executing <.*> took [\d.]+ seconds$", line)]
    assert (done.returncode, told) == (0, [])
    return done.stdout.split()


ENDS = """
import sys
from sseal.publisher import Publisher

publisher = Publisher(sys.argv[1])
print(publisher.publish_sync("a", "x"))
"""


async def test_the_end_of_a_process_closes(url: str) -> None:
    """A script that forgets to close ends at once and cleanly, and its event is there."""
    start = time.monotonic()
    (position,) = await asyncio.to_thread(program, ENDS, url)
    assert time.monotonic() - start < 15.0
    (entry,) = await entries(url)
    assert position.endswith(f"-{entry.offset}")


FORKS = """
import os, sys, threading, warnings
from sseal.publisher import Publisher

warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)  # the thread of this program's own
publisher, unused = Publisher(sys.argv[1]), Publisher(sys.argv[1])
publisher.publish_sync("a", "before")
stop = threading.Event()
done = []

def busy():
    while not stop.is_set():
        done.append(publisher.publish_sync("a", "meanwhile"))

thread = threading.Thread(target=busy)
thread.start()
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        for index in range(10):
            publisher.publish_sync("a", f"child {number}.{index}")
        unused.publish_sync("a", f"child {number}.10")
        publisher.close_sync()
        unused.close_sync()
        os._exit(0)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
stop.set()
thread.join()
publisher.publish_sync("a", "after")
print(*codes, len(done))
"""


async def test_a_fork_makes_its_own_connection(shared: str) -> None:
    """Parent and children of a worker that forks while it publishes go on, and nothing of either is lost."""
    *codes, meanwhile = await asyncio.to_thread(program, FORKS, shared)
    assert codes == ["0", "0", "0"]
    found = [entry.data for entry in await entries(shared)]
    children = [text for text in found if text.startswith("child")]
    assert sorted(children) == sorted(f"child {number}.{index}" for number in range(3) for index in range(11))
    assert found.count("meanwhile") == int(meanwhile)
    assert (found[0], found[-1]) == ("before", "after")
