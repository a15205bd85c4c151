"""What it costs to start: CPU of whole processes, each beside one that only loads the libraries it cannot do without.

``scripts/bench --startup``, or the first table of ``make bench``. The two of a pair take turns, and the figure is the
median: of the ratios for commands, of the differences for imports.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PYTHON = sys.executable
SSEAL = str(Path(sys.executable).parent / "sseal")
SECRET = "a secret of the benchmark, which has to have 32 bytes"


@dataclass(frozen=True, slots=True)
class Pair:
    """What is measured, and what it is measured beside.

    :param bar: the most it may cost: a ratio, or seconds on top.
    """

    label: str
    command: tuple[str, ...]
    beside: str
    bar: float
    ratio: bool


PAIRS = (
    Pair("sseal --version", (SSEAL, "--version"), "import typer, joserfc.jwt", 1.3, ratio=True),
    Pair("sseal token --sub alice", (SSEAL, "token", "--sub", "alice"), "import typer, joserfc.jwt", 1.3, ratio=True),
    Pair(
        "from sseal import Hub",
        (PYTHON, "-c", "from sseal import Hub"),
        "import starlette.applications, joserfc.jwt, msgspec",
        0.060,
        ratio=False,
    ),
    Pair("import sseal.client", (PYTHON, "-c", "import sseal.client"), "import httpx2, msgspec", 0.060, ratio=False),
)


def cpu(command: tuple[str, ...], place: str) -> float:
    """Return the processor seconds, user and system, of one run; raise if it fails."""
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "SSEAL_JWT_SECRET": SECRET}
    process = subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def measured(pair: Pair, rounds: int, place: str) -> str:
    """Return a row of the table."""
    beside = (PYTHON, "-c", pair.beside)
    cpu(pair.command, place), cpu(beside, place)  # compiles and reads what the others find in the cache
    turns = [(cpu(beside, place), cpu(pair.command, place)) for _ in range(rounds)]
    least = statistics.median(turn[0] for turn in turns)
    own = statistics.median(turn[1] for turn in turns)
    figure = statistics.median(one / base if pair.ratio else one - base for base, one in turns)
    said, bar = (f"{figure:.2f} x", f"{pair.bar:.2f} x") if pair.ratio else (_ms(figure), _ms(pair.bar))
    verdict = "kept" if figure <= pair.bar else "MISSED"
    return f"{pair.label:<26}{_ms(own):>8}   {pair.beside:<52}{_ms(least):>8}{said:>10}{bar:>10}  {verdict}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def main() -> None:
    """Measure all pairs and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="runs of each (default: 15)")
    rounds = parser.parse_args().rounds
    print(f"{'start, CPU':<26}{'takes':>8}   {'beside':<52}{'takes':>8}{'figure':>10}{'bar':>10}")
    with tempfile.TemporaryDirectory() as place:
        for pair in PAIRS:
            print(measured(pair, rounds, place), flush=True)


if __name__ == "__main__":
    main()
