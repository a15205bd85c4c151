"""What is measured of sseal's logs: publishing, fan-out across two hubs, replay; see README.md."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from contestants import free_port, publisher
from log_engines import Engine, hub_command, hub_environment, hub_streams
from machine import LOAD_CPU, IncompleteError, Server, Servers, Span, Watch
from measure import STORM_AT_ONCE, Session

SPREAD = 200  # streams over several workers: few, so that it is the way there that takes time, not the writing
REPLAYS = 1000  # streams that come back to a full log
CROWD = 32  # publishers at once
RETAINED = 10_000  # events, sseal's default
BATCH = 100  # events of one POST, its limit
SIZE = 100  # bytes of an event
PATIENCE = 120  # seconds for a replay


@dataclass(slots=True)
class Bill:
    """What a stretch cost, in seconds of clock and of processor: each hub, and the engine's own server."""

    span: Span = field(default_factory=lambda: Span(0.0, 0.0, 0.0))
    hubs: list[float] = field(default_factory=list)
    engine: float = 0.0

    @property
    def busy(self) -> dict[str, float]:
        """How busy both processors were: the hubs', that of load generator and engine, and other work on the first."""
        clock = self.span.clock
        return {
            "server_busy": self.span.server / clock,
            "load_busy": (self.span.load + self.engine) / clock,
            "others_took": self.span.others / clock,
        }


class LogSession(Session):
    """An engine, some hubs on it and a load generator: ``with LogSession(...) as session``.

    :param disk: a directory on disk, for whatever the engine keeps.
    """

    def __init__(
        self, engine: Engine, streams: int, place: Path, disk: Path, *, hubs: int = 1, private: bool = True
    ) -> None:
        super().__init__(hub_streams(engine, private=private), streams, place)
        self._engine = engine
        self._disk = disk / self._place.name
        self._store: Server | None = None
        self._ports = [free_port() for _ in range(hubs)]
        self.port = self._ports[0]

    def __enter__(self) -> LogSession:
        """Start all of them."""
        self._place.mkdir()
        self._disk.mkdir()
        port = free_port()
        self._environment = hub_environment(self._engine.address(self._disk, port))
        try:
            if self._engine.server is not None:
                self._store = Server(self._engine.server(self._disk, port), self._place, {}, cpu=LOAD_CPU)
                self._store.wait_until_it_listens(port)
            self._start_hubs()
            self._begin(*self._ports)
        except BaseException:
            self._close_servers()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all of them."""
        self.load.close()
        self._close_servers()

    def _start_hubs(self) -> None:
        self.hubs: list[Server] = []
        self.server = Servers(self.hubs)
        for port in self._ports:
            self.hubs.append(Server(hub_command(self._engine, port), self._place, self._environment))
            self.hubs[-1].wait_until_it_listens(port)
        time.sleep(0.5)

    def _close_servers(self) -> None:
        for server in (*getattr(self, "hubs", ()), self._store):
            if server is not None:
                server.close()

    def measure(self, name: str, seconds: float, events: int) -> dict[str, Any]:
        """Take one of the steps below; see `sessions`."""
        if name == "publish":
            return self.publish(seconds)
        return self.replay(events) if name == "replay" else self.across(seconds)

    @contextlib.contextmanager
    def _metered(self) -> Iterator[Bill]:
        bill = Bill()
        hubs = [hub.cpu() for hub in self.hubs]
        engine = self._store.cpu() if self._store else 0.0
        with Watch(self.server, self.load) as watch:
            yield bill
        bill.span = watch.span
        bill.hubs = [hub.cpu() - before for hub, before in zip(self.hubs, hubs, strict=True)]
        bill.engine = self._store.cpu() - engine if self._store else 0.0

    # -- publishing ---------------------------------------------------------------------------------------

    def publish(self, seconds: float) -> dict[str, Any]:
        """Publish with one publisher, then with many, to a log that is full; one stream checks what arrives."""
        self._fill()
        self.prepare()
        self.open(1)
        self._publish_for(seconds / 4, CROWD)  # connections, caches
        alone = self._publish_for(seconds, 1)
        crowd = self._publish_for(seconds, CROWD)
        return {"alone": alone, "crowd": crowd}

    def _fill(self) -> None:
        """Publish as much as the log retains, so that from now on it has to let go of an event for each new one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        name, _, value = publisher().partition(": ")
        body = json.dumps([{"topic": "filling", "data": "x" * SIZE}] * BATCH)
        for _ in range(RETAINED // BATCH):
            connection.request("POST", "/events", body, {name: value, "Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 201:
                raise IncompleteError(f"the log cannot be filled: {answer.status} {text[:200]!r}")
        connection.close()

    def _publish_for(self, seconds: float, publishers: int) -> dict[str, Any]:
        self.load.do("reset")
        with self._metered() as bill:
            self.load.do(f"publish 0 1000000 common {publishers}")
            self.load.do(f"run {seconds}")
            self.load.do("quiet")
            self.load.do("wait 30")
        stats = self._stats()
        self._note(f"{publishers} publishers", stats)
        acked = max(1, stats["acked"])
        return {
            "per_second": stats["acked"] / bill.span.clock,
            "p50_ms": stats["posts"]["p50"],
            "p99_ms": stats["posts"]["p99"],
            "max_ms": stats["posts"]["max"],
            "cpu_us": bill.span.server / acked * 1e6,
            "engine_us": bill.engine / acked * 1e6 if self._store else None,
            **bill.busy,
            "refused": stats["refused"],
        }

    # -- several hubs -------------------------------------------------------------------------------------

    def across(self, seconds: float) -> dict[str, Any]:
        """Publish lone events at the first hub while the streams are spread over all, by us or by the kernel."""
        self.warm_up()
        self.prepare()
        self.open(self.streams)
        self.check()
        rate = self.pace()
        self.load.do("reset")
        with self._metered() as bill:
            self._publish(rate, max(1, round(rate * seconds)), "common")
            self.load.do("wait 15")
        stats = self._stats()
        self._note("across hubs", stats)
        pairs = zip(stats["hubs"], bill.hubs, strict=True)
        return {
            "streams": self.streams,
            "rate": round(rate, 2),
            "hubs": [
                {f"{name}_ms": hub[name] for name in ("p50", "p99", "max")}
                | {"cpu_us": cpu / max(1, hub["taken"]) * 1e6}
                for hub, cpu in pairs
            ],
            "engine_us": bill.engine / max(1, stats["acked"]) * 1e6 if self._store else None,
            **bill.busy,
        }

    # -- replay -------------------------------------------------------------------------------------------

    def replay(self, events: int) -> dict[str, Any]:
        """Let all streams come back to a log of so many events none of them has.

        First from the window of the hub that took them, which one stream kept warm; then, where the log lasts,
        from a hub that has just started and has to read the log itself.
        """
        self.prepare()
        self.open(self.streams)
        self.load.do("run 0.5")  # until all have the id they start from
        self.load.do("mark")
        self.load.do("drop 1")
        self.load.do(f"publish 0 {events} common {CROWD}")
        self.load.do("run 120 done")
        self.load.do("quiet")
        self.load.do("run 1")
        found: dict[str, Any] = {"events": events}
        found["warm"] = self._come_back("warm window", (self.streams - 1) * events)
        if self._engine.hubs:
            self.load.do("drop")
            self.server.close()
            self._start_hubs()
            self.load.do("mark back")
            found["cold"] = self._come_back("no window", self.streams * events)
        return found

    def _come_back(self, name: str, wanted: int) -> dict[str, Any]:
        self.load.do("reset")
        reads = self._history_reads()
        with self._metered() as bill:
            self.open(self.streams, STORM_AT_ONCE)
            self.load.do(f"wait {PATIENCE}")
        stats = self._stats()
        self._note(f"replay, {name}", stats)
        received = int(stats["received"])
        return {
            "streams": self.streams,
            "seconds": bill.span.clock,
            "deliveries_per_second": received / bill.span.clock,
            "cpu_us": bill.span.server / max(1, received) * 1e6,
            "engine_seconds": bill.engine if self._store else None,
            **bill.busy,
            "reads": self._history_reads() - reads,
            "lost": max(wanted - received, int(stats["missed"] + stats["behind"])),
            "doubled": int(stats["repeated"]),
        }

    def _history_reads(self) -> int:
        """Return how many pages the hub has read from the log, as its metrics tell."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        return sum(int(float(line.split()[1])) for line in lines if line.startswith("sseal_history_reads_total "))


def sessions(
    engines: dict[str, Engine], streams: int, place: Path, disk: Path
) -> Iterator[tuple[str, str, LogSession]]:
    """Yield what is measured: the step, the engine's name, and the session for it, not yet started."""
    whole = {key: engine for key, engine in engines.items() if engine.whole}
    for key, engine in engines.items():
        yield "publish", key, LogSession(engine, 1, place, disk)
    for key, engine in whole.items():
        if engine.hubs:
            yield "across", key, LogSession(engine, streams, place, disk, hubs=2)
    for key, engine in engines.items():
        if engine.workers > 1:
            yield "workers", key, LogSession(engine, min(streams, SPREAD), place, disk)
    for key, engine in whole.items():
        yield "replay", key, LogSession(engine, min(streams, REPLAYS), place, disk, private=False)


def most(row: dict[str, Any], name: str) -> float:
    """Return the largest such figure of all parts of a row."""
    parts = [row, *(part for part in row.values() if isinstance(part, dict))]
    return max(float(part.get(name, 0.0)) for part in parts)
