"""Fail unless the core packages are covered, lines and branches each.

Usage: ``python scripts/coverage_gate.py COVERAGE_JSON`` (what ``coverage json`` or pytest-cov wrote).

A package that was not measured at all fails too. For each one below the threshold it lists the lines and
branches nobody ran.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

THRESHOLD = 95.0
PACKAGES = ("sseal.wire", "sseal.auth", "sseal.stream")


@dataclass(slots=True)
class Tally:
    """Counts summed over the files of one package, and what was missed in each file."""

    lines: int = 0
    lines_run: int = 0
    branches: int = 0
    branches_run: int = 0
    missed: list[str] = field(default_factory=list)

    def add(self, name: str, measured: dict[str, Any]) -> None:
        """Count one file, ``measured`` being its entry under ``files`` in coverage's JSON."""
        summary = measured["summary"]
        self.lines += summary["num_statements"]
        self.lines_run += summary["covered_lines"]
        self.branches += summary["num_branches"]
        self.branches_run += summary["covered_branches"]
        gone = [*map(str, measured["missing_lines"]), *map(_arrow, measured["missing_branches"])]
        if gone:
            self.missed.append(f"{name}: {', '.join(gone)}")

    @property
    def line_percent(self) -> float:
        return _percent(self.lines_run, self.lines)

    @property
    def branch_percent(self) -> float:
        return _percent(self.branches_run, self.branches)

    @property
    def passes(self) -> bool:
        return self.lines > 0 and min(self.line_percent, self.branch_percent) >= THRESHOLD


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 100.0


def _arrow(branch: list[int]) -> str:
    # Coverage writes the way out of a function as the negative number of its first line.
    start, end = branch
    return f"{start}->{end if end > 0 else 'exit'}"


def tally(report: dict[str, Any], package: str) -> Tally:
    """Sum up the files of ``package``: the directory of that name, or the one module."""
    place = "/" + package.replace(".", "/")
    total = Tally()
    for name, measured in sorted(report["files"].items()):
        path = "/" + Path(name).as_posix()
        if f"{place}/" in path or path.endswith(f"{place}.py"):
            total.add(name, measured)
    return total


def main(arguments: list[str]) -> int:
    """Print one line per package; return the exit status."""
    report = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    if not report["meta"]["branch_coverage"]:
        sys.stdout.write("coverage was measured without branches\n")
        return 1
    tallies = {package: tally(report, package) for package in PACKAGES}
    for package, total in tallies.items():
        verdict = "ok" if total.passes else f"below {THRESHOLD:g} %"
        numbers = f"lines {total.line_percent:6.2f} %, branches {total.branch_percent:6.2f} %"
        sys.stdout.write(f"{package:14} {numbers if total.lines else 'not measured'}: {verdict}\n")
        if not total.passes:
            sys.stdout.writelines(f"    not run in {line}\n" for line in total.missed)
    return 0 if all(total.passes for total in tallies.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
