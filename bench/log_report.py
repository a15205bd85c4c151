"""The tables of the section "Logs"."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from tables import Column, Row, number, table, times

PUBLISH: tuple[Column, ...] = (
    ("events/s", number("per_second")),
    ("p50 / p99 / max\nms", times(("p50_ms", "p99_ms", "max_ms"), 2)),
    ("hub CPU us\nper event", number("cpu_us")),
    ("Redis CPU us\nper event", number("engine_us")),
    ("hub\nbusy %", number("server_busy", 0, 100)),
    ("load + Redis\nbusy %", number("load_busy", 0, 100)),
    ("others\ntook %", number("others_took", 0, 100)),
)
HUB = times(("p50_ms", "p99_ms", "max_ms"), 1)
ACROSS: tuple[Column, ...] = (
    ("streams", number("streams")),
    ("events/s", number("rate")),
    ("publisher's hub\np50 / p99 / max ms", lambda row: HUB(row["hubs"][0])),
    ("other hub\np50 / p99 / max ms", lambda row: HUB(row["hubs"][1])),
    ("CPU us per\ndelivered event", lambda row: " / ".join(number("cpu_us", 1)(hub) for hub in row["hubs"])),
    ("Redis CPU us\nper event", number("engine_us")),
    ("others\ntook %", number("others_took", 0, 100)),
)
WORKERS: tuple[Column, ...] = (
    ("streams", number("streams")),
    ("events/s", number("rate")),
    ("p50 / p99 / max ms", lambda row: HUB(row["hubs"][0])),
    ("CPU us per\ndelivered event", lambda row: number("cpu_us", 1)(row["hubs"][0])),
    ("others\ntook %", number("others_took", 0, 100)),
)
REPLAY: tuple[Column, ...] = (
    ("streams", number("streams")),
    ("all have all\nafter s", number("seconds", 2)),
    ("deliveries/s", number("deliveries_per_second")),
    ("hub CPU us\nper delivery", number("cpu_us", 2)),
    ("Redis\nCPU s", number("engine_seconds", 2)),
    ("reads of\nthe log", number("reads")),
    ("hub\nbusy %", number("server_busy", 0, 100)),
    ("others\ntook %", number("others_took", 0, 100)),
    ("lost", number("lost")),
    ("doubled", number("doubled")),
)
WINDOWS = {"warm": "window warm", "cold": "no window"}


def log_tables(logs: Row) -> Iterator[Table | str]:
    """Yield what is printed of the section."""
    commit = logs["disk"]["commit_ms"]
    if publish := logs.get("publish"):
        for name, who in (("alone", "one publisher"), ("crowd", "32 publishers")):
            rows = [(row["label"], row[name]) for row in publish.values()]
            yield table(f"Logs: {who}, one event per POST, into a full log", PUBLISH, rows)
        yield (
            f"Logs are on {logs['disk']['file_system']}, where 4 KiB are on disk after "
            f"{commit['p50']:.2f} / {commit['p99']:.2f} ms (p50 / p99)"
        )
    if across := logs.get("across"):
        yield table(
            "Logs: lone events to streams on two hubs", ACROSS, ((row["label"], row) for row in across.values())
        )
    if workers := logs.get("workers"):
        rows = [(row["label"], row) for row in workers.values()]
        yield table("Logs: lone events to streams on all workers of one hub", WORKERS, rows)
    if replay := logs.get("replay"):
        rows = [
            (f"{row['label']}, {WINDOWS[name]}", row[name])
            for name in WINDOWS
            for row in replay.values()
            if name in row
        ]
        events = max(row["events"] for row in replay.values())
        yield table(f"Logs: all streams come back to {events:,} events that they have missed", REPLAY, rows)
