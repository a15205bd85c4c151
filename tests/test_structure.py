"""The shape of the code: files and classes of a size one can read, and signatures that say what they take."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from test_hygiene import ROOT

SOURCE = ROOT / "src" / "sseal"
MAX_LINES = 300
"""Lines of code in a file, without blank lines, comments and docstrings."""
MAX_METHODS = 25
"""Methods of a class, with those it inherits from classes of ours."""
ANY_IN = {
    "cli/lazy.py": "what Typer and click hand their commands",
    "server/direct.py": "messages of ASGI, and uvicorn's set of connections of any protocol",
    "server/handshakes.py": "the same set, and a coroutine of asyncio",
    "server/loop.py": "messages of ASGI, and asyncio's create_server",
    "server/protocol.py": "overrides uvicorn's protocol",
    "server/serve.py": "options of uvicorn",
    "settings.py": "options of every setting, checked by pydantic",
    "sources.py": "a TOML document",
    "storage/sqlite/watcher.py": "any coroutine, within the engine",
    "testing/asgi.py": "apps and messages of ASGI, and JSON for the tests of others",
}
"""Files in which `Any` may stand in a public signature, and what it stands for."""
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


def code_lines(text: str) -> int:
    """Count the lines of code in a file."""
    told = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            told |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - told)


@dataclass(frozen=True)
class Shape:
    """A class: where it is, its own methods, and the names of what it inherits from."""

    file: str
    name: str
    methods: frozenset[str]
    bases: tuple[str, ...]


def classes(trees: dict[str, ast.Module]) -> list[Shape]:
    """Return every class of some files."""
    return [
        Shape(
            file,
            node.name,
            frozenset(part.name for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)),
            tuple(ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases),
        )
        for file, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]


def all_methods(shape: Shape, known: list[Shape]) -> frozenset[str]:
    """Return the methods of a class with those it inherits from classes of ours; of several by that name, from all."""
    inherited = [all_methods(each, known) for each in known if each.name in shape.bases and each.name != shape.name]
    return shape.methods.union(*inherited)


def vague(tree: ast.Module) -> Iterator[str]:
    """Yield the name of every public function, method and constructor that takes or returns `Any`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_") and node.name not in ("__init__", "__call__"):
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        arguments += [one for one in (node.args.vararg, node.args.kwarg) if one is not None]
        annotations = [one.annotation for one in arguments] + [node.returns]
        parts = [part for one in annotations if one is not None for part in ast.walk(one)]
        if any("Any" in (getattr(part, "id", None), getattr(part, "attr", None)) for part in parts):
            yield node.name


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_is_too_long(path: Path) -> None:
    """No file has more than 300 lines of code."""
    assert code_lines(path.read_text(encoding="utf-8")) <= MAX_LINES


def test_no_class_has_too_many_methods() -> None:
    """No class has more than 25 methods, inherited ones counted."""
    known = classes({name_of(path): tree for path, tree in TREES.items()})
    assert [f"{each.file}: {each.name}" for each in known if len(all_methods(each, known)) > MAX_METHODS] == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_signatures_say_what_they_take(path: Path) -> None:
    """`Any` stands in no public signature, except where it is excepted, with a reason, and needed."""
    assert bool(list(vague(TREES[path]))) == (name_of(path) in ANY_IN)


def test_the_exceptions_exist() -> None:
    """What is excepted above is there."""
    assert ANY_IN.keys() <= set(map(name_of, FILES))


def test_only_code_is_counted() -> None:
    """Blank lines, comments and docstrings are none; a string over several lines is as many."""
    assert code_lines('"""A\n\ndocstring."""\n\n# a comment\nx = 1  # one\ny = """a\nb"""\n') == 3


def test_inherited_methods_count() -> None:
    """Those of a base in another file too, each name once; a base by the same name is a library's."""
    trees = {
        "a": ast.parse("class A:\n    def f(self): ...\n    def g(self): ..."),
        "b": ast.parse("class B(a.A[int]):\n    def g(self): ...\n    async def h(self): ...\nclass A(A): ..."),
    }
    known = classes(trees)
    assert {(each.file, each.name): len(all_methods(each, known)) for each in known} == {
        ("a", "A"): 2,
        ("b", "B"): 3,
        ("b", "A"): 0,
    }


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("def f(a: Any): ...", ["f"]),
        ("def f(**a: dict[str, typing.Any]): ...", ["f"]),
        ("async def f() -> list[Any]: ...", ["f"]),
        ("class A:\n    def __init__(self, *, a: Any): ...", ["__init__"]),
        ("def _f(a: Any): ...", []),
        ("def f(a: Anything) -> object: ...", []),
    ],
)
def test_any_is_found(code: str, names: list[str]) -> None:
    """Wherever it stands in a public signature, however it was imported."""
    assert list(vague(ast.parse(code))) == names
