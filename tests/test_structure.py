"""The shape of the code: files and classes that fit into a head, and signatures that say what they take."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from test_hygiene import ROOT

SOURCE = ROOT / "src" / "sseal"
MAX_LINES = 300
"""Lines of code in a file, without blank lines, comments and docstrings."""
MAX_METHODS = 25
"""Methods of a class, with those it inherits from classes of ours."""
LARGER = {
    "HubSettings": "one field a setting",
}
"""Classes and files that may be larger, and why."""
ANY_IN = ("storage/sqlite/", "storage/redis/", "cli/lazy.py", "settings.py", "sources.py", "server/", "testing/asgi.py")
"""Where `Any` may stand in a public signature: within one layer, and where uvicorn, Typer or pydantic has it."""
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}

FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def name_of(path: Path) -> str:
    """Return a file's name within the package."""
    return path.relative_to(SOURCE).as_posix()


def code_lines(path: Path) -> int:
    """Count the lines of code in a file."""
    text = path.read_text(encoding="utf-8")
    told = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            told |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - told)


def methods() -> dict[str, set[str]]:
    """Return the methods of each class, with those of the classes of ours that it inherits from."""
    own: dict[str, tuple[set[str], list[str]]] = {}
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                names = {part.name for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)}
                own[node.name] = (names, [base.id for base in node.bases if isinstance(base, ast.Name)])

    def all_of(name: str) -> set[str]:
        names, bases = own[name]
        return names.union(*(all_of(base) for base in bases if base in own and base != name))

    return {name: all_of(name) for name in own}


def vague(tree: ast.Module) -> Iterator[str]:
    """Yield the name of every public function and method that takes or returns `Any`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            arguments += [one for one in (node.args.vararg, node.args.kwarg) if one is not None]
            annotations = [one.annotation for one in arguments] + [node.returns]
            parts = [part for one in annotations if one is not None for part in ast.walk(one)]
            if any(isinstance(part, ast.Name) and part.id == "Any" for part in parts):
                yield node.name


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_fits_into_a_head(path: Path) -> None:
    """No file has more than 300 lines of code."""
    assert code_lines(path) <= MAX_LINES or name_of(path) in LARGER


def test_a_class_fits_into_a_head() -> None:
    """No class has more than 25 methods, inherited ones counted."""
    assert [name for name, found in methods().items() if len(found) > MAX_METHODS and name not in LARGER] == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_signatures_say_what_they_take(path: Path) -> None:
    """`Any` stands in no public signature that another layer may call."""
    if name_of(path).startswith(ANY_IN):
        return
    assert list(vague(TREES[path])) == []


def test_the_exceptions_are_needed() -> None:
    """What is excepted above exists."""
    names = {*methods(), *map(name_of, FILES)}
    assert set(LARGER) <= names
    assert all(any(name_of(path).startswith(place) for path in FILES) for place in ANY_IN)
