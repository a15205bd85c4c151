"""What `pip install sseal` gives, with each extra and without: built, installed, and used in empty environments."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from packaging_builds import Built, build, environment_with, run
from running import PATIENCE, call, eventually
from servers import free_port, serving
from test_hygiene import ROOT, tracked

HERE = Path(__file__).parent
SERVER = "type: pip install 'sseal[server]'"
REDIS = "needs the package redis; type: pip install 'sseal[redis]'"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A wheel and an sdist of the tree as it is."""
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def core(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the core alone."""
    return environment_with(built, tmp_path_factory.mktemp("core"))


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    """Scripts in Lua, the page of the demo, the mark of being typed: every file below src, and no other."""
    expected = {name.relative_to("src").as_posix() for name in tracked() if name.parts[0] == "src"}
    assert built.wheel_names() == expected
    assert "sseal/py.typed" in expected
    assert {".lua", ".html", ".js", ".css"} <= {Path(name).suffix for name in expected}


def test_the_sdist_holds_the_project(built: Built) -> None:
    """Whoever unpacks it has the tests, the docs and the locks, too, and beside them only what setuptools adds."""
    expected = {name.as_posix() for name in tracked()}
    assert expected - built.sdist_names() == set(), "MANIFEST.in names what else belongs into it"
    made = {name for name in built.sdist_names() - expected if ".egg-info/" not in name}
    assert made == {"PKG-INFO", "setup.cfg"}


def test_the_core_is_a_hub(core: Path, tmp_path: Path) -> None:
    """Without any extra a mounted hub works in every way, and each feature that needs more says what to type."""
    printed = run(core / "python", "-W", "error", HERE / "core_only.py", tmp_path, cwd=tmp_path).splitlines()
    assert dict(line.split(": ", 1) for line in printed) == {
        "metrics": f"/metrics needs the package prometheus-client; {SERVER}",
        "accounts": f"accounts needs the package argon2-cffi; {SERVER}",
        "jwks": f"jwt_jwks_url needs the package httpx2; {SERVER}",
        "redis": f"redis:// {REDIS}",
        "store": f"rediss:// {REDIS}",
        "publisher": f"redis:// {REDIS}",
        "client": "sseal.client needs the package httpx2; type: pip install 'sseal[client]'",
        "protocol": f"sseal.server.uvicorn needs the package uvicorn; {SERVER}",
    }


def test_the_core_is_no_command(core: Path, tmp_path: Path) -> None:
    """`sseal` is there, and says in one line what it needs."""
    done = subprocess.run([core / "sseal", "serve"], cwd=tmp_path, capture_output=True, text=True, check=False)
    expected = f"sseal: error: the command sseal needs the package typer; {SERVER}\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


def test_the_demo_needs_its_extra(built: Built, tmp_path: Path) -> None:
    """With the server alone `sseal demo` says what to type; `sseal serve` on a Redis says what that needs."""
    programs = environment_with(built, tmp_path / "server", "[server]")
    for command, name, text in (
        (("demo",), "", "sseal demo needs the package psutil; type: pip install 'sseal[demo]'"),
        (("serve",), "redis://localhost", f"redis:// {REDIS}"),
    ):
        env = {"SSEAL_JWT_SECRET": "a-secret-for-tests-of-more-than-32-bytes", "SSEAL_BROKER": name or "memory://"}
        done = subprocess.run(
            [programs / "sseal", *command], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.splitlines()[-1] == f"sseal: error: {text}"


def test_the_demo_runs_from_the_wheel(built: Built, tmp_path: Path, time_unit: float) -> None:
    """With its extra `sseal demo` serves the page, and everything that the page loads, as they are in the tree."""
    programs = environment_with(built, tmp_path / "demo", "[demo]")
    port, log = free_port(), tmp_path / "log"
    page = ROOT / "src/sseal/cli/demo/page"
    with serving(programs / "sseal", "demo", "--port", str(port), port=port, log=log):
        status, _, body = call(f"http://localhost:{port}/")
        assert (status, body) == (200, (page / "index.html").read_bytes())
        linked = set(re.findall(r'(?:src|href)="/?([\w.-]+\.(?:js|css|svg|png))"', body.decode()))
        assert linked
        for name in linked:
            assert call(f"http://localhost:{port}/{name}")[::2] == (200, (page / name).read_bytes())

        def ready() -> bool:
            return call(f"http://localhost:{port}/readyz")[0] == 200

        eventually(ready, PATIENCE * time_unit, "the hub of the demo is ready")
