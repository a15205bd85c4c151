"""From results to bars, a table, JSON and a chart."""

from __future__ import annotations

import io
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from log_report import log_tables
from rich.console import Console
from rich.table import Table
from tables import Column, Row, number, table, times

if TYPE_CHECKING:
    from run import Results


def document(results: Results, settings: dict[str, Any], versions: dict[str, str]) -> dict[str, Any]:
    """Return all there is to say, as it is written to ``bench.json``."""
    return {
        "settings": settings,
        "versions": versions,
        "contestants": results.contestants,
        "saturated": results.saturated,
        "idle": results.idle,
        "stalled": results.stalled,
        "logs": results.logs,
        "bars": bars(results),
        "missing": results.missing,
        "load_generator_was_the_limit": results.limits,
        "faults": results.faults,
    }


# -- bars -------------------------------------------------------------------------------------------------


def bars(results: Results) -> list[dict[str, Any]]:
    """Return each bar with what was measured; None where it was not."""
    rows, flat, idle = results.contestants, results.saturated, results.idle
    sealed_flat = _quotient(rows.get("sseal"), rows.get("sseal-sealed"), "flat_per_cpu_second")
    waits = idle.get("healthz", {})
    found = [
        _bar("CPU per delivered event: sseal / bare C", _paired(rows, "sseal", "c"), "<=", 1.35),
        _bar("CPU per delivered event: sseal / nchan", _paired(rows, "sseal", "nchan"), "<=", 1.0),
        _bar("CPU per delivered event: sseal / sse-starlette", _paired(rows, "sseal", "sse-starlette"), "<=", 0.125),
        _bar(
            "CPU per delivered event: plain ASGI / sse-starlette",
            _paired(rows, "sseal-plain", "sse-starlette"),
            "<=",
            0.5,
        ),
        _bar("CPU per delivered event: sealed / plain ids", _paired(rows, "sseal-sealed", "sseal"), "<=", 1.25),
        _bar("flat out, CPU per delivered event: sealed / plain ids", sealed_flat, "<=", 1.25),
        _bar("flat out: deliveries per CPU second / coalescing off", _gain(flat, "own"), ">=", 5.0),
        _bar("the same with nothing shared between streams", _gain(flat, "mosaic"), ">=", 3.0),
        _bar(f"bytes per idle stream of {idle.get('streams', 'many')}", idle.get("idle_bytes"), "<=", 4096.0),
        _bar("CPU us per connect, HS256 bearer", rows.get("sseal", {}).get("connect_us"), "<=", 500.0),
    ]
    stalled = results.stalled
    found += [
        _bar("share of a processor for the timers of these streams", idle.get("resting"), "<=", 0.015),
        _bar("MiB for stalled readers, a quarter of the streams", _mib(stalled.get("bytes")), "<=", 128.0),
    ]
    names = ("fan-out", "64 KiB event", "reconnect")
    return found + [_bar(f"/healthz p99 ms: {name}", waits.get(name, {}).get("p99"), "<=", 25.0) for name in names]


def _bar(name: str, measured: float | None, sign: str, bar: float) -> dict[str, Any]:
    met = None if measured is None else measured <= bar if sign == "<=" else measured >= bar
    return {"name": name, "measured": measured, "bar": f"{sign} {bar:g}", "met": met}


def _mib(size: float | None) -> float | None:
    return None if size is None else size / 2**20


def _paired(rows: dict[str, Row], one: str, other: str) -> float | None:
    """Return the median of the ratios of rounds that followed each other."""
    pairs = zip(rows.get(one, {}).get("cpu_us_rounds", ()), rows.get(other, {}).get("cpu_us_rounds", ()), strict=False)
    ratios = [mine / theirs for mine, theirs in pairs if theirs]
    return statistics.median(ratios) if ratios else None


def _quotient(one: Row | None, other: Row | None, name: str) -> float | None:
    return one[name] / other[name] if one and other and one.get(name) and other.get(name) else None


def _gain(flat: dict[str, Row], name: str) -> float | None:
    return _quotient(flat.get(f"{name}-on"), flat.get(f"{name}-off"), "flat_per_cpu_second")


# -- text -------------------------------------------------------------------------------------------------


def _lost(row: Row) -> str:
    if "storm_lost" not in row:
        return "-"
    return f"{row['storm_lost']:,}" + ("" if row["history"] else " (no history)")


LONE: tuple[Column, ...] = (
    ("streams", number("streams")),
    ("CPU us per\nevent", number("cpu_us", 1)),
    ("events/s", number("events_per_second")),
    ("p50 / p99 / max\nms", times(("p50_ms", "p99_ms", "max_ms"))),
    ("connect\nCPU us", number("connect_us")),
    ("KiB per\nidle stream", number("idle_bytes", 1, 1 / 1024)),
    ("+ kernel\nKiB", number("idle_kernel_bytes", 1, 1 / 1024)),
)
FLAT: tuple[Column, ...] = (
    ("deliveries per\nCPU second", number("flat_per_cpu_second")),
    ("per second", number("flat_per_second")),
    ("POSTs/s", number("flat_posts_per_second")),
    ("server\nbusy %", number("flat_server_busy", 0, 100)),
    ("load\nbusy %", number("flat_load_busy", 0, 100)),
    ("lost", number("flat_lost")),
)
STORM: tuple[Column, ...] = (
    ("all live\nafter s", number("storm_live_seconds", 2)),
    ("CPU us per\nreconnect", number("storm_cpu_us")),
    ("lost", _lost),
)
SATURATED = {
    "own-on": "sseal, own topic each",
    "own-off": "sseal, own topic each, coalescing off",
    "mosaic-on": "sseal, nothing shared",
    "mosaic-off": "sseal, nothing shared, coalescing off",
}


def text(document: dict[str, Any]) -> str:
    """Return what is printed."""
    console = Console(width=150, record=True, file=io.StringIO())
    for part in (*_contestants(document), *_alone(document)):
        console.print(part)
    if any(bar["measured"] is not None for bar in document["bars"]):
        console.print(_verdicts(document["bars"]))
    for line in document["load_generator_was_the_limit"]:
        console.print(f"LIMIT: {line}")
    for line in document["faults"]:
        console.print(f"INCOMPLETE: {line}")
    return console.export_text()


def _verdicts(bars: list[dict[str, Any]]) -> Table:
    verdicts = Table("bar", "measured", "wanted", "", title="Bars", title_justify="left")
    for bar in bars:
        measured = "not measured" if bar["measured"] is None else f"{bar['measured']:,.3g}"
        if bar["measured"] is not None and bar["measured"] >= 100:
            measured = f"{bar['measured']:,.0f}"
        verdicts.add_row(bar["name"], measured, bar["bar"], {True: "met", False: "NOT MET", None: ""}[bar["met"]])
    return verdicts


def _contestants(document: dict[str, Any]) -> Iterator[Table | str]:
    """Yield what compares sseal with others."""
    rows: dict[str, Row] = document["contestants"]
    named = [(row["label"], row) for row in rows.values()]
    labels = [(SATURATED[key], row) for key, row in document["saturated"].items()]
    if named:
        yield table("Lone events at a moderate rate, connects, idle streams", LONE, named)
        yield table("Flat out: four publishers, one event per POST", FLAT, named + labels)
        yield table("All streams drop and come back with Last-Event-ID", STORM, named)
    for key, why in document["missing"].items():
        yield f"MISSING: {key}: {why}"
    for row in rows.values():
        if row["note"]:
            yield f"{row['label']}: {row['note']}"
        if row.get("ticket_us"):
            yield f"{row['label']}: minting a ticket takes {row['ticket_us']:.0f} us of CPU besides"


def _alone(document: dict[str, Any]) -> Iterator[Table | str]:
    """Yield what is measured of sseal only."""
    if stalled := document["stalled"]:
        yield (
            f"{stalled['streams']:,.0f} stalled readers take {stalled['bytes'] / 2**20:.0f} MiB in all; "
            f"p50 / p99 of the others {stalled['p50']:.1f} / {stalled['p99']:.1f} ms, "
            f"before {stalled['p50_before']:.1f} / {stalled['p99_before']:.1f} ms"
        )
    if document["idle"]:
        yield _idle(document["idle"])
    if document["logs"]:
        yield from log_tables(document["logs"])


def _idle(idle: Row) -> Table:
    title = f"sseal with {idle.get('streams', 0):,} streams: {idle.get('idle_bytes', 0) / 1024:.2f} KiB each"
    title += f", {idle.get('idle_kernel_bytes', 0) / 1024:.2f} KiB in the kernel, {idle.get('connect_us', 0):.0f} us"
    table = Table("/healthz during", "p50 ms", "p99 ms", "max ms", title=f"{title} to connect", title_justify="left")
    for name, waits in idle.get("healthz", {}).items():
        table.add_row(name, *(f"{waits[key]:.1f}" for key in ("p50", "p99", "max")))
    return table


# -- files ------------------------------------------------------------------------------------------------


def write(document: dict[str, Any], place: Path) -> None:
    """Write ``bench.json`` and ``images/bench.svg``."""
    (place / "images").mkdir(parents=True, exist_ok=True)
    (place / "bench.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (place / "images" / "bench.svg").write_text(chart(document), encoding="utf-8")


def chart(document: dict[str, Any]) -> str:
    """Return a bar chart of the CPU per delivered event, readable on light and on dark pages."""
    rows = [(row["label"], row["cpu_us"], key) for key, row in document["contestants"].items() if row.get("cpu_us")]
    rows.sort(key=lambda row: row[1])
    left, right, step, top = 190, 70, 30, 56
    width, height = 760, top + step * len(rows) + 30
    most = max((value for _, value, _ in rows), default=1.0)
    scale = (width - left - right) / most
    streams = document["settings"]["streams"]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"',
        '  font-family="system-ui, sans-serif" font-size="14">',
        "<title>CPU time of the server per delivered event</title>",
        "<style>text{fill:#24292f}.note{fill:#57606a;font-size:12px}.other{fill:#8c959f}.sseal{fill:#1a7f64}",
        "@media (prefers-color-scheme:dark){text{fill:#e6edf3}.note{fill:#9198a1}.other{fill:#6e7681}",
        ".sseal{fill:#3fb68b}}</style>",
        '<text x="0" y="18" font-weight="600">Server CPU per delivered event, microseconds: less is better</text>',
        f'<text x="0" y="38" class="note">{streams:,} streams (fastapi.sse, django-eventstream: 1,000 at most),',
        "100-byte events, one at a time, published over HTTP</text>",
    ]
    for line, (label, value, key) in enumerate(rows):
        y = top + line * step
        kind = "sseal" if key.startswith("sseal") else "other"
        lines += [
            f'<text x="{left - 10}" y="{y + 16}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{left}" y="{y + 2}" width="{max(1.0, value * scale):.1f}" height="19" rx="3" class="{kind}"/>',
            f'<text x="{left + value * scale + 8:.1f}" y="{y + 16}">{value:.1f}</text>',
        ]
    lines.append(
        f'<text x="0" y="{height - 8}" class="note">The bare C send loop and nchan authenticate nobody. '
        f"Made by make bench.</text>"
    )
    return "\n".join([*lines, "</svg>", ""])
