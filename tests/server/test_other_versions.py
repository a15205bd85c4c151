"""A uvicorn whose internals have other names, as in some later version: everything runs on the plain path."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from running import SECRET, bearer, call, environment, sseal
from servers import ROOT, Server, ask, free_port, serving

RENAMED = """
import importlib.util, sys, types
import uvicorn.protocols.http as parent

name = "uvicorn.protocols.http.httptools_impl"
source = open(importlib.util.find_spec(name).origin).read()
assert {old!r} in source
module = types.ModuleType(name)
exec(compile(source.replace({old!r}, "renamed"), name, "exec"), module.__dict__)
sys.modules[name] = parent.httptools_impl = module
"""
"""Puts in place of the module the one of a version in which something has another name."""

UVICORN = "from uvicorn.main import main; main()"
SERVE = "from sseal.cli import main; main()"
INTERNALS = ["_unset_keepalive_if_required", "RequestResponseCycle", "chunked_encoding"]


async def plain(server: Server, headers: dict[str, str], log: Path) -> None:
    """Read an event from a stream that the hub says is not direct."""
    async with ask(server.port, "/events?topic=user/alice", headers=headers) as stream:
        await stream.until("auth")
        listed = json.loads(call(f"http://127.0.0.1:{server.port}/admin/connections", headers=headers)[2])
        assert [found["direct"] for found in listed["connections"]] == [False]
        event = {"topic": "user/alice", "data": "hello"}
        assert call(f"http://127.0.0.1:{server.port}/events", event, headers=headers)[0] == 201
        await stream.until(data="hello")
    assert "this uvicorn lacks" in log.read_text()


@pytest.mark.parametrize("old", INTERNALS)
async def test_an_app_runs_on_another_uvicorn(tmp_path: Path, old: str) -> None:
    """`uvicorn --http sseal.server.uvicorn:StreamProtocol` starts, and streams use the plain path."""
    port, log = free_port(), tmp_path / "log"
    protocol = ("--http", "sseal.server.uvicorn:StreamProtocol")
    command = (sys.executable, "-c", RENAMED.format(old=old) + UVICORN, "server.apps:app", *protocol)
    with serving(*command, "--port", str(port), port=port, log=log, env={"PYTHONPATH": f"{ROOT / 'tests'}"}) as server:
        await plain(server, {"X-User": "alice"}, log)


@pytest.mark.parametrize("old", INTERNALS)
async def test_serve_runs_on_another_uvicorn(tmp_path: Path, old: str) -> None:
    """`sseal serve` starts, and streams use the plain path."""
    port, log = free_port(), tmp_path / "log"
    command = (sys.executable, "-c", RENAMED.format(old=old) + SERVE, "serve", "--port", str(port))
    settings = environment(jwt_secret=SECRET, broker="memory://", store="memory://")
    token = sseal("token", "--sub", "alice", "--publish", "user/*", "--admin", cwd=tmp_path, jwt_secret=SECRET).stdout
    with serving(*command, port=port, log=log, env=settings) as server:
        await plain(server, bearer(token.strip()), log)
