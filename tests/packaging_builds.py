"""The package as users get it: built from a copy of the tree, installed into environments that hold nothing else."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

from test_hygiene import ROOT, tracked

UV = Path(sys.executable).parent / "uv"
DEADLINE = 300.0
"""Seconds any of the tools may take; each needs a few."""


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Run a tool to its end and return what it printed; nothing of this environment's Python or sseal reaches it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SSEAL_", "PYTHON", "COVERAGE_", "VIRTUAL_ENV"))}
    done = subprocess.run(
        command, cwd=cwd, env=kept | env, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@functools.cache
def index() -> dict[str, str]:
    """Return what tells uv of the package index that pip is set up for, as `scripts/setup` does."""
    command = (sys.executable, "-m", "pip", "config", "get", "global.index-url")
    told = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    address = os.environ.get("UV_DEFAULT_INDEX") or told.stdout.strip() or os.environ.get("PIP_INDEX_URL", "")
    return {"UV_DEFAULT_INDEX": address} if address else {}


@dataclass(frozen=True)
class Built:
    """A wheel and an sdist."""

    wheel: Path
    sdist: Path

    def wheel_names(self) -> set[str]:
        """Return the files of the package in the wheel, as they are called below ``src``."""
        with zipfile.ZipFile(self.wheel) as archive:
            return {name for name in archive.namelist() if not name.partition("/")[0].endswith(".dist-info")}

    def sdist_names(self) -> set[str]:
        """Return all files in the sdist, as they are called in the tree."""
        with tarfile.open(self.sdist) as archive:
            return {member.name.partition("/")[2] for member in archive if member.isfile()}


def build(folder: Path) -> Built:
    """Build both from a copy of the tree, without a network: with the build backend that the lock pins."""
    source, out = folder / "tree", folder / "dist"
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source, cwd=folder)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return Built(wheel, sdist)


def environment_with(built: Built, folder: Path, extras: str = "", *more: str) -> Path:
    """Make an environment with the wheel and what it asks for, in the versions and with the hashes of the lock.

    :param extras: such as ``[demo]``.
    :param more: names of further packages.
    :returns: its folder of programs.
    """
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pins = ROOT / "requirements-dev.lock"
    options = ("--quiet", "--no-config", "--system-certs", "--python", python, "--constraints", pins)
    wanted = (f"sseal{extras} @ {built.wheel.as_uri()}", *more)
    run(UV, "pip", "install", *options, *wanted, cwd=folder, **index())
    return folder / "bin"
