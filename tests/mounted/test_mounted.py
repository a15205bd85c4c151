"""A hub mounted in a FastAPI app, served by plain uvicorn over real sockets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from servers import ask, uvicorn

APP = "mounted.apps:app"
PATHS = {"plain": (), "direct": ("--http", "sseal.server.uvicorn:StreamProtocol")}
HEADERS = {"X-User": "alice", "Accept": "text/event-stream"}
SITUATIONS = {
    "bare": {},
    "one layer": {"LAYERS": "1"},
    "two layers": {"LAYERS": "2"},
    "four layers": {"LAYERS": "4"},
    "gzip": {"GZIP": "1"},
    "cors": {"CORS": "1"},
    "all": {"LAYERS": "4", "GZIP": "1", "CORS": "1"},
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", SITUATIONS)
async def test_a_mounted_hub_streams_under_the_hosts_middleware(name: str, path: str, tmp_path: Path) -> None:
    """Without a lifespan and under every middleware: head first, then auth, then events at once (W3, W39)."""
    env = SITUATIONS[name]
    with uvicorn(APP, tmp_path / "log", *PATHS[path], env=env) as server:
        headers = {**HEADERS, "Accept-Encoding": "gzip", "Origin": "https://app.example"} if "CORS" in env else HEADERS
        if "CORS" in env:
            headers = {**headers, "Origin": f"http://127.0.0.1:{server.port}"}
        async with ask(server.port, "/sse/events", headers=headers) as stream:
            assert stream.status == 200
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert "content-encoding" not in stream.headers
            assert stream.headers.get("x-layer", "") == "+" * int(env.get("LAYERS", "0"))
            opening = await stream.until("auth")
            assert json.loads(opening.data)["topics"] == ["user/alice"]
            for route in ("async", "sync"):
                async with ask(server.port, f"/{route}/alice", method="POST") as answer:
                    assert answer.status == 200
                await stream.until(data=f"from {route}")
        assert server.stop() < 5.0


@pytest.mark.parametrize("path", PATHS)
async def test_a_client_that_leaves_is_noticed_under_middleware(path: str, tmp_path: Path) -> None:
    """Hanging up frees the stream at once, also behind four layers."""
    with uvicorn(APP, tmp_path / "log", *PATHS[path], env={"LAYERS": "4"}) as server:
        async with ask(server.port, "/sse/events", headers=HEADERS) as stream:
            await stream.until("auth")
        async with asyncio.timeout(10.0):
            while True:
                async with ask(server.port, "/sse/metrics") as metrics:
                    length = int(metrics.headers["content-length"])
                    text = (await metrics.reader.readexactly(length)).decode()
                if 'sseal_closes_total{reason="client_gone"} 1.0' in text:
                    break


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("layers", ["0", "2"])
async def test_sigterm_ends_open_streams_with_bye(layers: str, path: str, tmp_path: Path) -> None:
    """Plain uvicorn with open streams is gone in under 5 s, and every reader was told to come back (W34)."""
    with uvicorn(APP, tmp_path / "log", *PATHS[path], env={"LAYERS": layers}) as server:
        async with ask(server.port, "/sse/events", headers=HEADERS) as stream:
            await stream.until("auth")
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            bye = await stream.until("bye")
            assert json.loads(bye.data) == {"reason": "draining", "reconnect": True}
            await stream.to_end()
            assert await stopping < 5.0


async def test_several_workers_on_the_memory_log_are_refused(tmp_path: Path) -> None:
    """Of four uvicorn workers only one may keep the log in memory; the others say why (W30)."""
    with uvicorn(APP, tmp_path / "log", "--workers", "4") as server:
        answers: set[int] = set()
        async with asyncio.timeout(30.0):
            while 503 not in answers:
                async with ask(server.port, "/sse/readyz") as answer:
                    answers.add(answer.status)
                    if answer.status == 503:
                        length = int(answer.headers["content-length"])
                        problem = json.loads(await answer.reader.readexactly(length))
        assert problem["code"] == "several_workers"
        assert "one of several workers" in problem["detail"]


async def test_the_example_works(tmp_path: Path) -> None:
    """The example app signs in with its own cookie, and its async and sync routes reach the stream."""
    with uvicorn("examples.fastapi_app:app", tmp_path / "log") as server:
        async with ask(server.port, "/login/alice", method="POST") as answer:
            cookie = answer.headers["set-cookie"].split(";")[0]
        own = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}
        async with ask(server.port, "/sse/events", headers={"Cookie": cookie}) as refused:
            assert refused.status == 403
        async with ask(server.port, "/sse/events", headers=own) as stream:
            assert stream.status == 200
            await stream.until("auth")
            async with ask(server.port, "/orders/alice/7", method="POST"):
                assert json.loads((await stream.until("order")).data) == {"order": 7}
            async with ask(server.port, "/reports/alice", method="POST"):
                assert json.loads((await stream.until("report")).data) == {"report": "ready"}
