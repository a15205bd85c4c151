"""docs/explanation/rules.md: complete, true about its tests, and the only thing that W numbers refer to."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from test_hygiene import ROOT, text_of, tracked

PAGE = Path("docs/explanation/rules.md")
COUNT = 64
PLACES = {"src", "spec", "tests", "docs", "examples", "bench", "pyproject.toml"}

_ENTRY = re.compile(r"^### W(\d+)\n(.+?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_MODULE = re.compile(r"`(sseal(?:\.\w+)+)`")
_NUMBER = re.compile(r"\bW(\d+)\b")
# Spelled in parts, so that this file passes its own test.
_OUTSIDE = re.compile(r"\b(?:" + "|".join(["WH" + "Y", "DESI" + "GN", "FIE" + "LD"]) + r")\b")
_WITHOUT_A_TEST = ("not built yet", "a matter of the benchmarks", "`make lint`")


@cache
def page() -> str:
    """Return the page of rules."""
    return (ROOT / PAGE).read_text(encoding="utf-8")


@cache
def entries() -> dict[int, str]:
    """Return the text of each entry by its number."""
    found = _ENTRY.findall(page())
    assert len({number for number, _ in found}) == len(found), "an entry stands twice"
    return {int(number): text for number, text in found}


@cache
def defined(path: str) -> frozenset[str]:
    """Return the names of the functions of a test file; none if there is no such file."""
    if not (ROOT / path).is_file():
        return frozenset()
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=path)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def ours() -> list[Path]:
    """Return the files that may refer to rules."""
    return [name for name in tracked() if name.parts[0] in PLACES or (len(name.parts) == 1 and name.suffix == ".md")]


def test_every_rule_has_an_entry() -> None:
    """W1 to W64 are there, in order, and nothing else."""
    assert list(entries()) == list(range(1, COUNT + 1))


@pytest.mark.parametrize("number", range(1, COUNT + 1))
def test_an_entry_has_a_rule_and_a_proof(number: int) -> None:
    """Each names the rule, and a test or why there is none."""
    text = " ".join(entries()[number].split())
    assert "Rule: " in text
    assert _TEST.search(text) or any(words in text.lower() for words in _WITHOUT_A_TEST)


def test_every_test_named_exists() -> None:
    """What the page gives as proof is in that file under that name."""
    named = _TEST.findall(page())
    assert named
    assert page().count("tests/") == len(named), "a test is named in another form than `tests/...py::name`"
    assert [f"{path}::{name}" for path, name in named if name not in defined(path)] == []


def test_every_module_named_exists() -> None:
    """Where a rule is said to live there is a module of that name."""
    places = {name: ROOT.joinpath("src", *name.split(".")) for name in _MODULE.findall(page())}
    assert places
    assert [name for name, at in places.items() if not (at.is_dir() or at.with_suffix(".py").is_file())] == []


def test_every_number_cited_has_an_entry() -> None:
    """A reader of (W14) in a comment finds W14 on the page."""
    cited = {(int(number), name) for name in ours() for number in _NUMBER.findall(text_of(name) or "")}
    assert cited
    assert sorted(f"{name}: W{number}" for number, name in cited if number not in entries()) == []


def test_no_file_leans_on_a_document_outside_the_project() -> None:
    """Whoever has the repository has all it refers to."""
    found = []
    for name in ours():
        for number, line in enumerate((text_of(name) or "").splitlines(), start=1):
            if _OUTSIDE.search(line):
                found.append(f"{name}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)
