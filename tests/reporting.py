"""What long tests say at the end of a run, whichever process they ran in."""

from __future__ import annotations

import os
import time

import pytest

_PREFIX = "said by "
_NOW = time.time_ns()


def run_seed() -> int:
    """Return a number that is another one in each run, and the same in all processes of a run."""
    return int(os.environ.get("PYTEST_XDIST_TESTRUNUID", "0"), 16) or _NOW


def say(node: pytest.Item, section: str, line: str) -> None:
    """Add a line to a section of the summary; a line that is there already is printed once."""
    node.user_properties.append((f"{_PREFIX}{section}", line))


def write_sections(terminal: pytest.TerminalReporter) -> None:
    """Print the sections, in which the properties of the tests' reports have brought the lines here."""
    reports = [report for some in terminal.stats.values() for report in some if getattr(report, "when", "") == "call"]
    sections: dict[str, dict[str, None]] = {}
    for name, line in (each for report in reports for each in report.user_properties):
        if name.startswith(_PREFIX):
            sections.setdefault(name.removeprefix(_PREFIX), {})[str(line)] = None
    for section, lines in sections.items():
        terminal.section(section)
        for line in lines:
            terminal.write_line(line)
