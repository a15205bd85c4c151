"""What an import loads and what it leaves alone, in fresh processes: costs are kept by what must not be loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import sseal
from running import environment
from sseal.cli.app import COMMANDS
from sseal.hub_settings import HubSettings
from sseal.sources import Signing

EXTRAS = frozenset(
    {
        "argon2",
        "httptools",
        "httpx2",
        "prometheus_client",
        "psutil",
        "pydantic",
        "pydantic_settings",
        "redis",
        "rich",
        "structlog",
        "typer",
        "uvicorn",
        "uvloop",
    }
)
"""What the extras bring, by the names it is imported under."""
SERVER = frozenset({"cryptography", "joserfc", "sqlite3", "starlette"})

PUBLIC = ["Grants", "Hub", "HubSettings", "Identity", "Limits", "Publisher", "SsealError"]

COMMAND = """
import sys
from sseal.cli import main

sys.argv = {!r}
try:
    main()
except SystemExit as end:
    assert not end.code
"""


def loaded(code: str, folder: Path) -> set[str]:
    """Return the names of all modules that are there after some code ran in a process of its own."""
    secret = "a-secret-for-tests-of-more-than-32-bytes"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint('LOADED', *sys.modules)"],
        cwd=folder,
        env=environment(jwt_secret=secret),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


def packages(modules: set[str]) -> set[str]:
    """Return the top-level names of modules."""
    return {name.partition(".")[0] for name in modules}


def test_the_public_names_are_exactly_these() -> None:
    """What `sseal` offers is listed here, is there, and shows in `dir`."""
    assert sorted(sseal.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(sseal, name).__name__ == name
    assert set(PUBLIC) <= set(dir(sseal))
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = sseal.nonsense


def test_the_public_names_are_listed_before_they_are_loaded(tmp_path: Path) -> None:
    """`dir(sseal)` and `from sseal import *` know them in a fresh process; `import sseal` alone loads none."""
    assert not {name for name in loaded("import sseal", tmp_path) if name.startswith("sseal.")}
    loaded(f"import sseal; assert set(dir(sseal)) >= set({PUBLIC})", tmp_path)
    loaded(f"from sseal import *; {', '.join(PUBLIC)}", tmp_path)


def test_a_hub_loads_no_extra(tmp_path: Path) -> None:
    """`from sseal import Hub, Publisher` needs the core alone, and no engine before its address is given."""
    modules = loaded("from sseal import Hub, Publisher", tmp_path)
    assert packages(modules) & EXTRAS == set()
    assert "sqlite3" not in modules


def test_the_client_loads_nothing_of_the_server(tmp_path: Path) -> None:
    """`import sseal.client` leaves Starlette, SQLite, joserfc and every other part of the package alone."""
    modules = loaded("import sseal.client", tmp_path)
    assert packages(modules) & (SERVER | EXTRAS - {"httpx2"}) == set()
    parts = {name.split(".")[1] for name in modules if name.startswith("sseal.")}
    assert parts == {"auth", "client", "clock", "errors", "extras", "wire"}


@pytest.mark.parametrize("arguments", [["--version"], ["version"], ["token", "--sub", "alice", "--publish", "a/*"]])
def test_a_short_command_loads_little(tmp_path: Path, arguments: list[str]) -> None:
    """The version and a token come without pydantic, rich, a server or the other commands."""
    modules = loaded(COMMAND.format(["sseal", *arguments]), tmp_path)
    assert packages(modules) & (EXTRAS - {"typer"} | {"asyncio", "sqlite3", "starlette"}) == set()
    if arguments[0] != "token":
        assert "joserfc" not in modules


def test_the_list_of_commands_loads_none(tmp_path: Path) -> None:
    """`sseal --help` shows one sentence of each command without its module."""
    modules = loaded(COMMAND.format(["sseal", "--help"]), tmp_path)
    assert {name for name in modules if name.startswith("sseal.cli.")} == {
        "sseal.cli.app",
        "sseal.cli.exit_codes",
        "sseal.cli.lazy",
        "sseal.cli.output",
    }
    assert packages(modules) & {"joserfc", "pydantic_settings", "starlette", "uvicorn"} == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    """The sentence in the list is the first of the command's own help."""
    command = COMMANDS[name].load(name)
    assert (command.help or "").startswith(COMMANDS[name].help)


def test_a_token_is_signed_with_the_defaults_of_the_hub() -> None:
    """What is read for a token without pydantic has the names and defaults of the hub's settings."""
    hub, signing = HubSettings(), Signing()
    for name in Signing.__slots__:
        assert getattr(signing, name) == getattr(hub, name)
