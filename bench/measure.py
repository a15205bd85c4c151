"""What is measured of one contestant: a session that starts it, and the steps of it."""

from __future__ import annotations

import http.client
import json
import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from contestants import SECRET, TLS, Contestant, bearer, free_port, own_topic, subject
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from machine import IncompleteError, Load, Server, Servers, Span, Watch, socket_memory

COMMON = (1 << 32) - 1  # the sources of the common topic: one for each publisher there may be
PRIVATE = 1 << 56
FIRST_MOSAIC = 32
MOSAIC = 24
MIX = 12  # mosaic topics of one stream
WARM = 0.2  # of the streams
AT_ONCE = 64
STORM_AT_ONCE = 1000
STORM_DELIVERIES = 10_000  # per second, beside the reconnects
SHARE = 0.6  # of a processor that lone events may take
MOST_RATE = 20.0
PROBE_MS = 4
STALL_RATE = 20.0
STALL_EVENTS = 60
STALL_SIZE = 8 * 1024  # 480 KiB in all: several times what a socket takes


@dataclass(frozen=True, slots=True)
class Step:
    """The outcome of one step: what it cost and what the load generator saw."""

    span: Span
    stats: dict[str, Any]

    @property
    def delivered(self) -> int:
        """Events received."""
        return int(self.stats["received"])

    @property
    def lost(self) -> int:
        """Events acknowledged to their publisher and not received, or received against the order."""
        return int(self.stats["missed"] + self.stats["behind"])

    @property
    def faults(self) -> dict[str, int]:
        """Everything that must be zero, where it is not."""
        names = ("missed", "behind", "repeated", "malformed", "foreign", "closed", "failed", "errors")
        return {name: int(self.stats[name]) for name in names if self.stats[name]}


class Session:
    """A contestant and its load generator, from start to end: ``with Session(...) as session``."""

    server: Server | Servers

    def __init__(self, contestant: Contestant, streams: int, place: Path, *, mosaic: bool = False) -> None:
        self.contestant = contestant
        self.streams = min(streams, contestant.most)
        self.faults: list[str] = []
        self._root = place
        self._mosaic = mosaic
        self._place = place / f"{contestant.label.replace(' ', '-').replace(',', '')}-{time.monotonic_ns()}"

    def __enter__(self) -> Session:
        """Start both and load the requests."""
        self._place.mkdir()
        self._place.chmod(0o755)  # nginx drops its rights
        for name in TLS:
            (self._place / name).symlink_to(self._root / name)
        self.port = free_port()
        environment = {"BENCH_SECRET": SECRET, "PYTHONUNBUFFERED": "1"}
        self.server = server = Server(self.contestant.command(self.port, self._place), self._place, environment)
        try:
            server.wait_until_it_listens(self.port)
            time.sleep(0.5)
            self._begin(self.port)
        except BaseException:
            self.server.close()
            raise
        return self

    def _begin(self, *ports: int) -> None:
        """Start the load generator and tell it how to publish."""
        self.load = Load(self._root / "load", *ports, tls=self.contestant.tls)
        template = self._place / "template"
        template.write_text(self.contestant.template())
        self.load.do(f"template {template}")
        self.load.do("topics common mosaic/")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop the streams first: some servers do not end while one is open."""
        self.load.close()
        self.server.close()

    # -- streams ------------------------------------------------------------------------------------------

    def prepare(self) -> float:
        """Write the requests of all streams, with tickets if the contestant has them; return seconds of CPU each."""
        before = self.server.cpu()
        tickets = self._tickets() if self.contestant.tickets else []
        spent = self.server.cpu() - before
        lines = []
        for index in range(self.streams):
            path, headers = self.contestant.stream(index)
            mask = COMMON | (PRIVATE if self.contestant.private else 0)
            if self._mosaic:
                numbers = sorted(random.Random(index).sample(range(MOSAIC), MIX))
                path += "".join(f"&topic=mosaic/{number:02d}" for number in numbers)
                mask |= sum(1 << (FIRST_MOSAIC + number) for number in numbers)
            if tickets:
                path, headers = f"{path}&ticket={tickets[index]}", []
            lines.append("\t".join([f"{mask:x}", own_topic(index), path, *headers]))
        requests = self._place / "streams"
        requests.write_text("\n".join(lines) + "\n")
        self.load.do(f"streams {requests}")
        return spent / self.streams

    def _tickets(self) -> list[str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        tickets = []
        for index in range(self.streams):
            name, _, value = bearer(index).partition(": ")
            body = json.dumps({"topics": ["common", own_topic(index)]})
            connection.request("POST", "/auth/sse", body, {name: value, "Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 201:
                raise IncompleteError(f"no ticket for {subject(index)}: {answer.status} {text[:200]!r}")
            tickets.append(json.loads(text)["ticket"])
        connection.close()
        return tickets

    def open(self, count: int, at_once: int = AT_ONCE) -> dict[str, Any]:
        """Open streams until so many are live."""
        answer = self.load.do(f"open {count} {at_once} 120")
        if answer["live"] < count:
            raise IncompleteError(
                f"{answer['live']} of {count} streams are open, {answer['failed']} failed: {answer['why']}"
            )
        return answer

    def warm_up(self) -> None:
        """Open some streams, publish a little, drop them: code and allocators have seen it all before."""
        self.prepare()
        self.open(max(1, int(self.streams * WARM)))
        self._publish(10, 5, "common")
        self.load.do("wait 10")
        self.load.do("drop")
        time.sleep(1.0)
        self.load.do("forget")
        self.load.do("reset")

    def connect(self) -> dict[str, float]:
        """Open all streams; return the cost of each in CPU and memory, idle and before any event.

        Memory is that of the second half: the first may live in what the warm-up gave back.
        """
        mint = self.prepare()  # tickets are single-use: those of the warm-up are spent
        half = self.streams // 2
        with Watch(self.server, self.load) as first:
            self.open(half)
        self.load.do("run 1.5")
        pss, kernel = self.server.pss(), socket_memory()
        with Watch(self.server, self.load) as second:
            self.open(self.streams)
        self.load.do("run 1.5")
        self._note("connect", self._stats())
        clock, load = (getattr(first.span, name) + getattr(second.span, name) for name in ("clock", "load"))
        return {
            "connect_us": (first.span.server + second.span.server) / self.streams * 1e6,
            "ticket_us": mint * 1e6 if self.contestant.tickets else 0.0,
            "connects_per_second": self.streams / clock,
            "connect_load_busy": load / clock,
            "idle_bytes": (self.server.pss() - pss) / (self.streams - half),
            "idle_kernel_bytes": (socket_memory() - kernel) / (self.streams - half),
        }

    # -- events -------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Publish a few events to all and to single streams; everybody gets theirs and nobody anybody else's."""
        self.load.do("reset")
        self._publish(10, 5, "common")
        if self.contestant.private:
            self._publish(50, 40, "private")
        self.load.do("wait 15")
        self._note("check", self._stats())

    def pace(self) -> float:
        """Return how many lone events per second take a moderate share of the server's processor."""
        step = self.lone(2.0, 2.0, note=False)
        each = step.span.server / max(1, step.stats["acked"])
        return max(1.0, min(MOST_RATE, SHARE / each if each else MOST_RATE))

    def lone(self, rate: float, seconds: float, *, note: bool = True) -> Step:
        """Publish at a fixed rate."""
        self.load.do("reset")
        with Watch(self.server, self.load) as watch:
            self._publish(rate, max(1, round(rate * seconds)), "common")
            self.load.do("wait 15")
        step = Step(watch.span, self._stats())
        if note:
            self._note("lone events", step.stats)
        return step

    def flat_out(self, seconds: float, events: int, kind: str = "common") -> Step:
        """Publish with four publishers, one event per POST, each POST after the answer to the last."""
        self.load.do("reset")
        with Watch(self.server, self.load) as watch:
            self.load.do(f"publish 0 {events} {kind} 4")
            self.load.do(f"run {seconds} done")
            self.load.do("quiet")
            self.load.do(f"wait {40 if self.contestant.strict or self.contestant.history else 15}")
        step = Step(watch.span, self._stats())
        if self.contestant.strict:
            self._note("flat out", step.stats)
        return step

    def big(self, size: int) -> Step:
        """Publish one large event."""
        self.load.do("reset")
        with Watch(self.server, self.load) as watch:
            self.load.do(f"big {size}")
            self.load.do("wait 60")
        step = Step(watch.span, self._stats())
        self._note("large event", step.stats)
        return step

    def stalled(self, count: int, seconds: float) -> dict[str, float]:
        """Let some streams stop reading under steady publishing, and read again; return what that costs.

        Memory is counted while they sleep: the server's, and that of TCP on the whole machine, which holds what both
        ends of a stalled connection have not passed on. Latencies are those of the others.
        """
        before = self.lone(STALL_RATE, seconds).stats
        pss, kernel = self.server.pss(), socket_memory()
        self.load.do("reset")
        self.load.do(f"stall {count}")
        self.load.do(f"publish {STALL_RATE} 1000000 common 1")
        for _ in range(STALL_EVENTS):
            self.load.do(f"big {STALL_SIZE}")
            self.load.do("run 0.1")
        self.load.do("reset")  # the large events have latencies of their own
        self.load.do(f"run {seconds}")
        during = self._stats()
        grown = self.server.pss() - pss + socket_memory() - kernel
        self.load.do("quiet")
        self.load.do(f"wake {count}")
        self.load.do("wait 60")
        self._note("stalled readers", self._stats())
        return {
            "streams": count,
            "bytes": float(grown),
            "p50_before": before["p50"],
            "p99_before": before["p99"],
            "p50": during["p50"],
            "p99": during["p99"],
        }

    def resting(self, seconds: float) -> float:
        """Return the share of a processor that streams cost to which nothing is published."""
        with Watch(self.server, self.load) as watch:
            self.load.do(f"run {seconds}")
        return watch.span.server / watch.span.clock

    def probed(self, action: Callable[[], object]) -> dict[str, float]:
        """Do something while ``/healthz`` is asked every few milliseconds; return how long that took (ms)."""
        probe = Load(self._root / "load", self.port, tls=self.contestant.tls, urgent=True)
        try:
            probe.do(f"probe {PROBE_MS} /healthz")
            probe.send("attend")
            try:
                action()
            finally:
                probe.send("stats")
                probe.receive()
                stats = probe.receive()
        finally:
            probe.close()
        if stats["errors"]:
            self.faults.append(f"{self.contestant.label}: {stats['errors']} probes failed")
        return {name: stats[name] for name in ("p50", "p99", "max")}

    def storm(self) -> dict[str, float]:
        """Drop all streams, publish, let all come back while publishing goes on."""
        self.load.do("reset")
        with Watch(self.server, self.load) as watch:
            self.load.do("drop")
            self._publish(40, 20, "common")
            start = time.monotonic()
            self.load.do(f"publish {min(5.0, STORM_DELIVERIES / self.streams)} 1000 common 1")
            self.open(self.streams, STORM_AT_ONCE)
            opened = time.monotonic() - start
            self.load.do("quiet")
            self.load.do(f"wait {40 if self.contestant.history else 3}")
            live = time.monotonic() - start
        step = Step(watch.span, self._stats())
        if self.contestant.history:
            self._note("reconnect", step.stats)
        return {
            "storm_open_seconds": opened,
            "storm_live_seconds": live if self.contestant.history else opened,
            "storm_cpu_us": watch.span.server / self.streams * 1e6,
            "storm_lost": step.lost,
            "storm_load_busy": watch.span.load_busy,
        }

    def _publish(self, rate: float, events: int, kind: str) -> None:
        self.load.do(f"publish {rate} {events} {kind} 1")
        self.load.do(f"run {events / rate + 20} done")
        self.load.do("quiet")

    def _stats(self) -> dict[str, Any]:
        return self.load.do("stats")

    def _note(self, what: str, stats: dict[str, Any]) -> None:
        faults = Step(Span(0, 0, 0), stats).faults
        if faults:
            why = f" ({stats['why']})" if stats["why"] else ""
            self.faults.append(f"{self.contestant.label}: {what}: {faults}{why}")


def certificate(place: Path) -> None:
    """Make a self-signed certificate for the run."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (place / TLS[0]).write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (place / TLS[1]).write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(place / TLS[0], place / TLS[1])
