"""docs/explanation/threats.md: each threat has a defence, and a test that exists."""

from __future__ import annotations

import re

import pytest

from test_rules import _TEST, ROOT, defined

PAGE = ROOT / "docs" / "explanation" / "threats.md"


def rows() -> list[list[str]]:
    """Return the cells of each row of each table, but for the heads."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if "---" not in line]
    return [row for row in cells if [cell.strip() for cell in row] != ["threat", "defence", "test"]]


def test_the_page_is_long() -> None:
    """There are threats of every kind on it, and none stands twice."""
    threats = [row[0] for row in rows()]
    assert len(threats) >= 60
    assert len(set(threats)) == len(threats)


@pytest.mark.parametrize("row", rows(), ids=lambda row: re.sub(r"\W+", " ", row[0])[:60])
def test_every_threat_has_a_defence_and_a_test_that_exists(row: list[str]) -> None:
    """Three cells, none of them empty, and in the last nothing but tests, each in its file under its name."""
    assert len(row) == 3
    assert all(row)
    named = _TEST.findall(row[2])
    assert named
    assert re.sub(r"[,\s]+", "", _TEST.sub("", row[2])) == ""
    assert [f"{path}::{name}" for path, name in named if name not in defined(path)] == []
