"""What the repository itself promises, whatever the code does."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Directories that are never part of the project, for a tree that is not a git checkout (an unpacked sdist).
_NOT_OURS = re.compile(r"^(\..+|node_modules|__pycache__|build|dist|.+\.egg-info)$")

# Spelled in parts, so that this file passes its own test.
_MACHINE_PATH = re.compile(r"(?<![\w.-])/(?:" + "|".join(["work", "root", "home"]) + r")/")


@cache
def tracked() -> tuple[Path, ...]:
    """Return the files of the project, relative to its root."""
    if (ROOT / ".git").exists():
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
        names = [Path(name) for name in listing.stdout.split("\0") if name]
    else:
        names = list(_walk())
    return tuple(name for name in names if (ROOT / name).is_file())


def _walk() -> Iterator[Path]:
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not _NOT_OURS.match(name)]
        for name in files:
            yield (Path(folder) / name).relative_to(ROOT)


def text_of(name: Path) -> str | None:
    """Return the text of a file, or None if it is not a text file."""
    content = (ROOT / name).read_bytes()
    if b"\0" in content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def hits(name: Path, pattern: re.Pattern[str]) -> list[str]:
    """Return ``file:line: text`` for each line of a text file in which the pattern occurs."""
    lines = enumerate((text_of(name) or "").splitlines(), start=1)
    return [f"{name}:{number}: {line.strip()[:100]}" for number, line in lines if pattern.search(line)]


def test_lock_files_name_no_download_address() -> None:
    """A lock file pins versions and hashes; where they come from is the machine's own setting."""
    locks = [name for name in tracked() if name.suffix == ".lock"]
    assert {Path("requirements.lock"), Path("requirements-dev.lock")} <= set(locks)
    address = re.compile(r"https?://|file:/|--(?:extra-)?index-url|--find-links|--trusted-host")
    found = [hit for name in locks for hit in hits(name, address)]
    assert not found, "\n".join(found)


def test_npm_lock_files_name_no_download_address() -> None:
    """A package-lock.json records no address a package was downloaded from."""
    locks = [name for name in tracked() if name.name in {"package-lock.json", "npm-shrinkwrap.json"}]
    found = [hit for name in locks for hit in hits(name, re.compile(r'"resolved"'))]
    assert not found, "\n".join(found)


def test_no_lock_file_of_another_tool() -> None:
    """There is one way to pin Python packages, so no uv.lock beside it."""
    assert [name for name in tracked() if name.name == "uv.lock"] == []


def test_no_path_of_a_machine() -> None:
    """No file names an absolute path that exists on one machine only."""
    found = [hit for name in tracked() for hit in hits(name, _MACHINE_PATH)]
    assert not found, "\n".join(found)


def test_every_test_says_what_it_promises() -> None:
    """Each test function opens with a sentence."""
    silent = []
    for name in tracked():
        if name.parts[0] != "tests" or name.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(text_of(name) or "", filename=str(name))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.startswith("test_"):
                continue
            if not ast.get_docstring(node):
                silent.append(f"{name}:{node.lineno}: {node.name}")
    assert not silent, "\n".join(silent)


def test_every_package_says_what_it_is() -> None:
    """Each package below src has an __init__.py, and that opens with a docstring."""
    sources = [name for name in tracked() if name.parts[0] == "src" and name.suffix == ".py"]
    assert sources
    silent = []
    for package in sorted({folder for name in sources for folder in name.parents if len(folder.parts) > 1}):
        init = package / "__init__.py"
        if init not in sources or not ast.get_docstring(ast.parse(text_of(init) or "")):
            silent.append(str(init))
    assert not silent, "\n".join(silent)


def test_changelog_has_an_unreleased_section() -> None:
    """There is always a place to write down the next change."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[?Unreleased\]?$", changelog, re.MULTILINE)


def test_lock_files_pin_every_dependency() -> None:
    """What pyproject.toml asks for is in the lock files, exactly pinned; `make lock` writes them."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = pyproject["project"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    runtime = {*map(_name, [*pyproject["build-system"]["requires"], *project["dependencies"], *extras])} - {"sseal"}
    assert runtime - _pinned("requirements.lock") == set()
    assert (runtime | {*map(_name, pyproject["dependency-groups"]["dev"])}) - _pinned("requirements-dev.lock") == set()


def test_lock_files_hold_on_every_python_and_for_every_pip() -> None:
    """Locks keep every hash, the markers of other Pythons, and the extras that an old pip compares."""
    for lock in (name for name in tracked() if name.name.startswith("requirements") and name.suffix == ".lock"):
        pins = re.split(r"\n(?=\S)", (text_of(lock) or "").strip())
        assert [pin.split()[0] for pin in pins if "--hash=sha256:" not in pin] == [], lock
    lines = (text_of(Path("requirements-dev.lock")) or "").splitlines()
    assert any(re.match(r"async-timeout==\S+ ; python_full_version < '3\.11\.3'", line) for line in lines)
    assert {"coverage[toml]", "redis[hiredis]"} <= {line.split("==")[0] for line in lines}


def _name(requirement: str) -> str:
    """Return the normalized name at the start of a requirement."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement.strip())[0]).lower()


def _pinned(lock: str) -> set[str]:
    """Return the names a lock file pins."""
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    return {_name(line) for line in lines if re.match(r"^[\w.-]+(\[[\w,-]+\])?==", line)}
