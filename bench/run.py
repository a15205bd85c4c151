"""Runs the benchmark: ``make bench``, or ``scripts/bench --help``. See README.md."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import report
from contestants import COALESCE_OFF, CONTESTANTS, Contestant
from log_engines import ENGINES, Engine, commit_times, file_system, log_directory, program_version
from logs import RETAINED, LogSession, most, sessions
from machine import LOAD_CPU, IncompleteError, compiled
from measure import Session, Step, certificate

ALTERNATED = ("c", "nchan", "sseal", "sseal-sealed", "sseal-plain", "sse-starlette")
PACKAGES: tuple[str, ...] = (
    "sseal",
    "uvicorn",
    "uvloop",
    "httptools",
    "granian",
    "starlette",
    "sse-starlette",
    "aiohttp-sse",
)
PACKAGES += ("aiohttp", "django", "django-eventstream", "fastapi", "redis")
LIMIT = 0.9  # a processor busier than that is what limits
UNPACED_SHARE = 3.0  # processor seconds that flat-out events may cost where nothing slows publishers down
BIG = 64 * 1024
REST = 32.0  # seconds of rest: two heartbeats of every stream


@dataclass
class Results:
    """What a run has found so far."""

    contestants: dict[str, dict[str, Any]] = field(default_factory=dict)
    saturated: dict[str, dict[str, float]] = field(default_factory=dict)
    idle: dict[str, Any] = field(default_factory=dict)
    stalled: dict[str, float] = field(default_factory=dict)
    logs: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def of(self, key: str) -> dict[str, Any]:
        """Return the row of a contestant."""
        return self.contestants.setdefault(key, {"label": CONTESTANTS[key].label, "note": CONTESTANTS[key].note})

    def judge(self, what: str, busy: float) -> None:
        """Say so when the load generator was the limit."""
        if busy > LIMIT:
            self.limits.append(f"{what}: the load generator's processor was {busy:.0%} busy; the server may do better")


class Run:
    """One run of everything that was asked for."""

    def __init__(self, options: argparse.Namespace, place: Path) -> None:
        self.results = Results()
        self._options = options
        self._place = place
        self._present: list[str] = []

    def all(self) -> None:
        """Measure."""
        everybody: dict[str, Contestant | Engine] = {**CONTESTANTS, **ENGINES}
        for key in self._options.only or everybody:
            lacking = everybody[key].lacks()
            if lacking is None:
                self._present.append(key)
            else:
                self.results.missing[key] = lacking
                say(f"MISSING: {everybody[key].label}: {lacking}")
        self._alternate([key for key in ALTERNATED if key in self._present])
        for key in [key for key in self._present if key in CONTESTANTS]:
            self._guarded(CONTESTANTS[key], lambda key=key: self._alone(key))
        if "sseal" in self._present:
            for name, coalesce, mosaic in (("own", True, False), ("own", False, False), ("mosaic", True, True)):
                self._saturate(name, coalesce, mosaic)
            self._saturate("mosaic", False, True)
            self._guarded(CONTESTANTS["sseal"], self._stalled)
            if self._options.idle:
                self._guarded(CONTESTANTS["sseal"], self._idle)
        if engines := {key: ENGINES[key] for key in self._present if key in ENGINES}:
            self._logs(engines)

    def _guarded(self, contestant: Contestant | Engine, step: Any) -> None:
        try:
            step()
        except IncompleteError as error:
            self.results.faults.append(f"{contestant.label}: {error}")
            say(f"INCOMPLETE: {contestant.label}: {error}")

    def _session(self, contestant: Contestant, *, mosaic: bool = False) -> Session:
        return Session(contestant, self._options.streams, self._place, mosaic=mosaic)

    # -- lone events, in alternation --------------------------------------------------------------------

    def _alternate(self, keys: list[str]) -> None:
        """Let all servers that a bar compares stand side by side, and take turns; the order moves on by one."""
        if not keys:
            return
        with contextlib.ExitStack() as stack:
            sessions: dict[str, Session] = {}
            rates: dict[str, float] = {}
            for key in keys:
                say(f"starting {CONTESTANTS[key].label}")

                def start(key: str = key) -> None:
                    session = stack.enter_context(self._session(CONTESTANTS[key]))
                    session.warm_up()
                    session.prepare()
                    session.open(session.streams)
                    session.check()
                    rates[key] = session.pace()
                    sessions[key] = session

                self._guarded(CONTESTANTS[key], start)
            steps: dict[str, list[Step]] = {key: [] for key in sessions}
            for turn in range(self._options.rounds):
                order = [*sessions][turn % len(sessions) :] + [*sessions][: turn % len(sessions)] if sessions else []
                say(f"lone events, round {turn + 1} of {self._options.rounds}")
                for key in order:
                    step = self._lone(sessions[key], rates[key])
                    if step is not None:
                        steps[key].append(step)
            for key, session in sessions.items():
                self._keep_lone(key, session, rates[key], steps[key])

    def _lone(self, session: Session, rate: float) -> Step | None:
        try:
            return session.lone(rate, self._options.seconds)
        except IncompleteError as error:
            self.results.faults.append(f"{session.contestant.label}: {error}")
            return None

    def _keep_lone(self, key: str, session: Session, rate: float, steps: list[Step]) -> None:
        self.results.faults += session.faults
        session.faults.clear()
        rounds = [step.span.server / step.delivered * 1e6 for step in steps if step.delivered]
        if not rounds:
            return
        middle = {name: statistics.median(step.stats[name] for step in steps) for name in ("p50", "p99")}
        self.results.judge(f"{session.contestant.label}, lone events", max(s.span.load_busy for s in steps))
        self.results.of(key).update(
            streams=session.streams,
            rate=round(rate, 2),
            cpu_us=statistics.median(rounds),
            cpu_us_rounds=rounds,
            events_per_second=statistics.median(s.delivered / s.span.clock for s in steps),
            p50_ms=middle["p50"],
            p99_ms=middle["p99"],
            max_ms=max(step.stats["max"] for step in steps),
        )

    # -- one at a time ----------------------------------------------------------------------------------

    def _alone(self, key: str) -> None:
        contestant = CONTESTANTS[key]
        say(f"{contestant.label}: connects, memory, flat out, reconnect")
        row = self.results.of(key)
        with self._session(contestant) as session:
            try:
                session.warm_up()
                row.update(session.connect(), streams=session.streams)
                session.check()
                if "cpu_us" not in row:
                    rate = session.pace()
                    steps = [session.lone(rate, self._options.seconds) for _ in range(self._options.rounds)]
                    self._keep_lone(key, session, rate, steps)
                row.update(self._flat_out(session, contestant.label, row.get("cpu_us", 0.0)))
                row.update(session.storm(), history=contestant.history)
                self.results.judge(f"{contestant.label}, reconnect", row["storm_load_busy"])
            finally:
                self.results.faults += session.faults

    def _flat_out(self, session: Session, label: str, lone_us: float, kind: str = "common") -> dict[str, float]:
        events = 1_000_000
        if not session.contestant.paced:
            events = max(20, int(UNPACED_SHARE * 1e6 / max(lone_us, 1.0) / session.streams))
        step = session.flat_out(self._options.seconds, events, kind)
        self.results.judge(f"{label}, flat out", step.span.load_busy)
        return {
            "flat_per_cpu_second": step.delivered / max(step.span.server, 1e-9),
            "flat_per_second": step.delivered / step.span.clock,
            "flat_posts_per_second": step.stats["acked"] / step.span.clock,
            "flat_refused": step.stats["refused"],
            "flat_lost": step.lost,
            "flat_p99_ms": step.stats["p99"],
            "flat_server_busy": step.span.server / step.span.clock,
            "flat_load_busy": step.span.load_busy,
        }

    def _saturate(self, name: str, coalesce: bool, mosaic: bool) -> None:
        """Measure sseal flat out in other settings: joined writes on and off, shared bytes and none."""
        contestant = CONTESTANTS["sseal"] if coalesce else COALESCE_OFF
        key = f"{name}-{'on' if coalesce else 'off'}"
        label = f"sseal, {'own topic each' if name == 'own' else 'nothing shared'}"
        label += "" if coalesce else ", coalescing off"
        say(f"flat out: {label}")

        def step() -> None:
            with self._session(contestant, mosaic=mosaic) as session:
                session.warm_up()
                session.prepare()
                session.open(session.streams)
                session.check()
                kind = "mosaic" if mosaic else "common"
                rounds = [self._flat_out(session, label, 0.0, kind) for _ in range(self._options.rounds)]
                self.results.faults += session.faults
            rounds.sort(key=lambda found: found["flat_per_cpu_second"])
            self.results.saturated[key] = rounds[len(rounds) // 2]

        self._guarded(contestant, step)

    def _stalled(self) -> None:
        """A quarter of the streams stops reading for a while, under steady publishing."""
        contestant = CONTESTANTS["sseal"]
        say(f"{contestant.label}: stalled readers")
        with self._session(contestant) as session:
            try:
                session.warm_up()
                session.prepare()
                session.open(session.streams)
                session.check()
                self.results.stalled = session.stalled(session.streams // 4, 2 * self._options.seconds)
            finally:
                self.results.faults += session.faults

    # -- many idle streams ------------------------------------------------------------------------------

    def _idle(self) -> None:
        """15,000 streams: memory, and how long another request waits while much is going on."""
        contestant, count = CONTESTANTS["sseal"], self._options.idle
        say(f"{contestant.label}: {count} streams: memory, and what other requests wait")
        found = self.results.idle
        with Session(contestant, count, self._place) as session:
            try:
                session.warm_up()
                found.update(session.connect(), streams=count)
                session.check()
                found["resting"] = session.resting(REST)
                found["healthz"] = waits = {}
                waits["nothing"] = session.probed(lambda: time.sleep(self._options.seconds))
                waits["fan-out"] = session.probed(lambda: session.lone(2.0, 2 * self._options.seconds))
                waits["flat out"] = session.probed(lambda: session.flat_out(self._options.seconds, 1_000_000))
                waits["64 KiB event"] = session.probed(lambda: session.big(BIG))
                waits["reconnect"] = session.probed(lambda: found.update(session.storm()))
            finally:
                self.results.faults += session.faults

    # -- logs -------------------------------------------------------------------------------------------

    def _logs(self, engines: dict[str, Engine]) -> None:
        """Measure the hub on each engine: publishing, fan-out across two hubs, replay."""
        found, options = self.results.logs, self._options
        events = RETAINED // 10 if options.quick else RETAINED
        with log_directory() as disk:
            found["disk"] = {"file_system": file_system(disk), "commit_ms": commit_times(disk)}
            for name, key, session in sessions(engines, options.streams, self._place, disk):
                say(f"logs: {name}: {engines[key].label}")

                def step(name: str = name, key: str = key, session: LogSession = session) -> None:
                    with session:
                        try:
                            row = session.measure(name, options.seconds, events)
                        finally:
                            self.results.faults += session.faults
                    self.results.judge(f"logs, {name}, {engines[key].label}", most(row, "load_busy"))
                    found.setdefault(name, {})[key] = {"label": engines[key].label, **row}

                self._guarded(engines[key], step)


def say(text: str) -> None:
    """Tell what is going on."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def versions() -> dict[str, str]:
    """Return the versions of what took part."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return {**found, **program_version()}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Compare sseal with others that serve event streams.")
    names = [*CONTESTANTS, *ENGINES]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--logs", action="store_const", dest="only", const=[*ENGINES], help="only sseal's logs")
    parser.add_argument("--streams", type=int, default=2000, help="streams of each contestant")
    parser.add_argument("--idle", type=int, default=15_000, help="streams of the run for memory and waits; 0: skip it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measurement")
    parser.add_argument("--quick", action="store_true", help="a look whether all works; the figures are worth little")
    parser.add_argument("--output", type=Path, default=Path("docs"), help="gets bench.json and images/bench.svg")
    options = parser.parse_args()
    if options.quick:
        options.streams, options.idle = min(options.streams, 300), min(options.idle, 1000)
        options.rounds, options.seconds = 1, 1.5
    return options


def main() -> int:
    """Run, print, write; return 1 when something was lost or did not run to its end."""
    options = arguments()
    if (os.cpu_count() or 1) < 2:
        say("two processors are needed: one for the server, one for the load generator")
        return 2
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that all that was started ends
    os.sched_setaffinity(0, {LOAD_CPU})
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        place = Path(name)
        place.chmod(0o755)
        compiled("load", place, "-lssl", "-lcrypto")
        compiled("send_loop", place)
        certificate(place)
        run = Run(options, place)
        run.all()
    settings = {name: getattr(options, name) for name in ("streams", "idle", "rounds", "seconds", "quick")}
    document = report.document(
        run.results, {**settings, "minutes": round((time.monotonic() - start) / 60, 1)}, versions()
    )
    print(report.text(document))
    report.write(document, options.output)
    return 1 if run.results.faults else 0


if __name__ == "__main__":
    sys.exit(main())
