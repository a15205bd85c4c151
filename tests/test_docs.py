"""Every fenced block of the README and the docs is exercised; links resolve; tables agree with the code.

A comment line before a block says how, and a page is one story whose blocks run in order:

=========================  ===================================================================================
block                      what happens
=========================  ===================================================================================
python                     runs as a program of its own, warnings are errors
python ``app``             served by uvicorn on a free port; later blocks of the page talk to it
python ``server``          runs as a program while the page's server is up
python ``syntax``          compiles (for frameworks that are no dependency here)
python, bash ``browser``   parsed; tests/test_readme.py runs them in order, with a page open in Chromium
bash                       runs to its end; variables it exports are there in later blocks
bash ``serve``             runs in the background until the page's end; its port answers before the next block
bash ``background``        runs in the background until the page's end
bash ``syntax``            is parsed (what changes the machine, such as systemctl)
text ``output``            what the last block printed, ``background`` blocks included
text ``stream NAME``       what comes next on an open stream; ``stream NAME ends`` is also its end
text ``diagram``           drawn by hand
http                       a request is sent as it stands, the response must be the one shown
http ``as NAME``           the same, and its stream stays open under that name
toml                       read by the settings, and not refused; ``file`` stays for later blocks
json, ini, js, html        parsed; js and html's scripts by node
nginx                      run by a real nginx in front of a real hub
haproxy, caddy             read by the program; tests/server/test_slow_clients.py runs them
mermaid                    compared with the state table
=========================  ===================================================================================

``<name>`` in what is shown stands for a value: the first time it is taken, later it must be the same. ``...``
stands for anything. A page without a server of its own talks to a hub with the settings of `HUB`.
"""

from __future__ import annotations

import ast
import asyncio
import configparser
import contextlib
import dataclasses
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from playwright.async_api import Browser, async_playwright

import sseal
from servers import ROOT, RawStream, free_port, serving, uvicorn
from sseal import settings as operator
from sseal.asgi.endpoint import Endpoint
from sseal.auth.jwt import sign
from sseal.hub_settings import HubSettings
from sseal.identity_sources.accounts import Accounts
from sseal.limits import Limits
from sseal.stream.reasons import REASONS
from sseal.stream.states import TABLE

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OTHER_PAGES = [
    *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "spec/protocol.md")),
    *sorted((ROOT / "bench").glob("*.md")),
]
"""Pages whose links must resolve, but whose blocks are not run."""
SECRET = "a secret of the documentation tests, 32+"
PATIENCE = 600
"""Time units a page waits for anything; some commands hash passwords, and the machine may be busy."""

HUB = f"""
from sseal import Hub, HubSettings
from sseal.telemetry import redaction

redaction.install()
hub = Hub(HubSettings(
    jwt_secret=({SECRET!r},),
    credentials=("bearer", "ticket", "resume", "cookie", "query"),
    cookie_name="app_jwt",
    accounts="ACCOUNTS",
    allowed_origins=("https://app.example",),
    public_topics=("public/**",),
))
app = hub.asgi
"""


def _token(subject: str, **more: object) -> str:
    now = int(time.time())
    claims = {"sub": subject, "iat": now, "exp": now + 3600, "sseal": {"publish": ["user/*", "public/**"]}}
    return sign({**claims, **more}, SECRET)


# -- blocks ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """One fenced block: where it is, its language, the words of its marker, its text."""

    page: Path
    line: int
    language: str
    marker: tuple[str, ...]
    code: str

    @property
    def mode(self) -> str:
        """The first word of the marker, empty without one."""
        return self.marker[0] if self.marker else ""

    def __str__(self) -> str:
        """Return where it is, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line} ({self.language} {' '.join(self.marker)})"


_FENCE = re.compile(r"^( *)(`{3,})\s*(\S*)\s*$")
_MARKER = re.compile(r"^\s*<!-- test: ([\w ./-]+) -->$")


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    """Return the fenced blocks of a page."""
    found, marker, fence = [], (), None
    inside: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        match = _FENCE.match(line)
        if fence is not None:
            if match is not None and match[2] == fence[1] and not match[3]:
                code = "".join(f"{text.removeprefix(fence[0])}\n" for text in inside)
                found.append(Block(page, fence[3], fence[2], marker, code))
                fence, marker, inside = None, (), []
            else:
                inside.append(line)
        elif match is not None:
            fence = (match[1], match[2], match[3], number)
        elif line.strip():
            hit = _MARKER.match(line)
            marker = tuple(hit[1].split()) if hit else ()
    assert fence is None, f"{page}: a fence is never closed"
    return tuple(found)


def _id(page: Path) -> str:
    return str(page.relative_to(ROOT))


# -- patterns of what is shown --------------------------------------------------------------------------------

_HOLE = re.compile(r"<([a-z][a-z0-9-]*)>|\.\.\.")


def filled(text: str, known: dict[str, str], where: object) -> str:
    """Return a request with the values put in."""

    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        assert match[1] in known, f"{where}: nothing gave <{match[1]}> a value; known are {sorted(known)}"
        return known[match[1]]

    return _HOLE.sub(value, text)


def pattern(text: str, known: dict[str, str]) -> re.Pattern[str]:
    """Return the expression that what is shown stands for."""
    parts, last = [], 0
    groups: set[str] = set()
    for match in _HOLE.finditer(text):
        parts.append(re.escape(text[last : match.start()]))
        last = match.end()
        name = match[1]
        if name is None:
            parts.append(".*?")
        elif name in known:
            parts.append(re.escape(known[name]))
        elif name in groups:
            parts.append(f"(?P={name.replace('-', '_')})")
        else:
            groups.add(name)
            parts.append(f'(?P<{name.replace("-", "_")}>[^\\s",;}}]+)')
    parts.append(re.escape(text[last:]))
    return re.compile("".join(parts), re.DOTALL)


def keep(match: re.Match[str], known: dict[str, str]) -> None:
    """Remember the values a pattern took."""
    known.update({name.replace("_", "-"): value for name, value in match.groupdict().items()})


# -- a page as one story --------------------------------------------------------------------------------------


@dataclass
class Background:
    """A command that runs until the page's end."""

    process: subprocess.Popen[bytes]
    log: Path


@dataclass
class Story:
    """What the blocks of one page share."""

    page: Path
    folder: Path
    patience: float
    nginx_path: str
    stack: contextlib.ExitStack
    port: int | None = None
    output: str = ""
    background: list[Background] = field(default_factory=list)
    streams: dict[str, RawStream] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)
    count: int = 0
    haproxy_path: str = "haproxy"
    caddy_path: str = "caddy"

    def file(self, suffix: str) -> Path:
        """Return the path of a new file."""
        self.count += 1
        return self.folder / f"block_{self.count}{suffix}"

    @property
    def env(self) -> dict[str, str]:
        """The environment of a command: nothing of sseal but the port."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("SSEAL_", "COVERAGE_"))}
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', os.defpath)}"
        env["HOME"] = str(self.folder)
        if self.port is not None:
            env |= {"SSEAL_PORT": str(self.port), "SSEAL_URL": f"http://127.0.0.1:{self.port}"}
        return env

    def placed(self, code: str) -> str:
        """Return code in which the documentation's port and directory are those of the test."""
        code = code.replace("/etc/sseal/", f"{self.folder}/")
        if self.port is None:
            return code
        return re.sub(r"\b(localhost|127\.0\.0\.1):8000\b", rf"\1:{self.port}", code)

    def hub(self) -> int:
        """Return the port of the page's server; start the common hub if it has none."""
        if self.port is None:
            accounts = self.folder / "accounts.db"
            made = Accounts(accounts)
            made.add("alice", "correct horse battery")
            made.close()
            self.serve(HUB.replace("ACCOUNTS", str(accounts)))
        assert self.port is not None
        return self.port

    def serve(self, code: str) -> None:
        """Serve a module and make it the page's server."""
        source = self.file(".py")
        source.write_text(code)
        env = {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        server = self.stack.enter_context(uvicorn(f"{source.stem}:app", source.with_suffix(".log"), env=env))
        self.port = server.port

    def run(self, *command: str, block: Block) -> None:
        """Run a command to its end and keep what it printed."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=self.patience
        )
        assert done.returncode == 0, f"{block}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        self.output = done.stdout

    def script(self, block: Block) -> Path:
        """Write a bash block as a script that inherits and passes on exported variables."""
        variables = self.folder / "variables"
        path = self.file(".sh")
        lines = ["set -euo pipefail", f"test ! -f {variables} || . {variables}"]
        if self.port is not None:
            lines.append(f"export SSEAL_PORT={self.port} SSEAL_URL=http://127.0.0.1:{self.port}")
        lines.append(self.placed(block.code))
        if block.mode not in ("serve", "background"):
            lines.append(f"export -p > {variables}")
        path.write_text("\n".join(lines))
        return path

    def start(self, block: Block) -> Background:
        """Start a command that the end of the page ends."""
        script = self.script(block)
        log = script.with_suffix(".log")
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["bash", str(script)],
                cwd=self.folder,
                env=self.env,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.stack.callback(_end, process)
        self.background.append(Background(process, log))
        return self.background[-1]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it started, by the id of its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10.0)


async def _python(story: Story, block: Block) -> None:
    if block.mode in ("syntax", "browser"):
        compile(block.code, str(block), "exec")
        return
    if block.mode == "app":
        await asyncio.to_thread(story.serve, block.code)
        async with raw(story.hub(), f"GET {block.marker[1]} HTTP/1.1\r\nHost: app.example\r\n\r\n") as answer:
            assert answer.status == 200, block
        return
    code = block.code
    if block.mode == "server":
        code = filled(story.placed(code), story.known, block)
    source = story.file(".py")
    source.write_text(code)
    program = f"test ! -f variables || . ./variables; exec {sys.executable} -W error -B {source}"
    await asyncio.to_thread(story.run, "bash", "-c", program, block=block)


async def _bash(story: Story, block: Block) -> None:
    if block.mode == "serve":
        story.port = free_port()
        started = story.start(block)
        await asyncio.to_thread(_until_open, story.port, started, story.patience)
    elif block.mode == "background":
        started = story.start(block)
        story.output = ""
        await asyncio.to_thread(_until_printed, started, story.patience)
    elif block.mode in ("syntax", "browser"):
        await asyncio.to_thread(story.run, "bash", "-n", "-c", block.code, block=block)
    else:
        await asyncio.to_thread(story.run, "bash", str(story.script(block)), block=block)


def _until_open(port: int, started: Background, patience: float) -> None:
    end = time.monotonic() + patience
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return
        assert started.process.poll() is None, started.log.read_text()
        assert time.monotonic() < end, started.log.read_text()
        time.sleep(0.02)


def _until_printed(started: Background, patience: float) -> None:
    end = time.monotonic() + patience
    while not started.log.stat().st_size:
        assert started.process.poll() is None, started.log.read_text()
        assert time.monotonic() < end, "it printed nothing"
        time.sleep(0.02)


async def _text(story: Story, block: Block) -> None:
    if block.mode == "diagram":
        assert max(map(len, block.code.splitlines())) <= 110, block
        return
    if block.mode == "output":
        await _await_output(story, block)
        return
    stream = story.streams[block.marker[1]]
    await _await_stream(story, stream, block.code, block)
    if "ends" in block.marker:
        async with asyncio.timeout(story.patience):
            while await stream.chunk():
                pass


async def _await_output(story: Story, block: Block) -> None:
    expected = pattern(block.code.strip(), story.known)
    logs = [started.log for started in story.background]
    end = asyncio.get_running_loop().time() + story.patience
    while True:
        texts = [story.output, *(log.read_text() for log in logs)]
        hit = next((match for text in texts if (match := expected.search(text))), None)
        if hit is not None:
            keep(hit, story.known)
            return
        assert asyncio.get_running_loop().time() < end, f"{block}: not printed; there is:\n" + "\n---\n".join(texts)
        await asyncio.sleep(0.02)


# -- http -----------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def raw(port: int, request: str, body: str = "") -> AsyncIterator[RawStream]:
    """Send a request as it stands and read the head of its answer; the caller closes a stream it keeps."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode("latin-1") + body.encode())
    stream = RawStream(reader, writer)
    try:
        async with asyncio.timeout(10.0):
            stream.status = int((await reader.readline()).split()[1])
            while (line := (await reader.readline()).strip()) != b"":
                name, _, value = line.decode("latin-1").partition(":")
                stream.headers[name.lower()] = value.strip()
        yield stream
    finally:
        if not getattr(stream, "kept", False):
            writer.close()


async def _http(story: Story, block: Block) -> None:
    """Send the request of a block, and compare its answer with the one shown."""
    port = story.hub()
    asked, shown = re.split(r"^(?=HTTP/1\.1 )", block.code, maxsplit=1, flags=re.MULTILINE)
    head, _, body = asked.partition("\n\n")
    head, body = filled(head, story.known, block), filled(body.strip(), story.known, block)
    lines = head.strip().splitlines()
    # As through a proxy that speaks https, which is where __Host- cookies and Secure belong.
    lines += ["X-Forwarded-Proto: https", *([f"Content-Length: {len(body.encode())}"] if body else [])]
    status, *fields = (shown_head := shown.partition("\n\n")[0]).splitlines()
    shown_body = shown[len(shown_head) :].strip()
    async with raw(port, "\r\n".join(lines) + "\r\n\r\n", body) as answer:
        assert answer.status == int(status.split()[1]), f"{block}: {answer.status} {await _rest(answer)!r}"
        for line in fields:
            name, _, value = line.partition(":")
            got = answer.headers.get(name.strip().lower())
            match = pattern(value.strip(), story.known).fullmatch(got or "")
            assert match, f"{block}: {name} is {got!r}"
            keep(match, story.known)
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            await _await_stream(story, answer, shown_body, block)
            if block.mode == "as":
                answer.kept = True  # type: ignore[attr-defined]
                story.streams[block.marker[1]] = answer
                story.stack.callback(answer.close)
        elif shown_body:
            got = re.sub(r"\s+", "", await _rest(answer))
            match = pattern(re.sub(r"\s+", "", shown_body), story.known).fullmatch(got)
            assert match, f"{block}: the body is {got}"
            keep(match, story.known)


async def _rest(answer: RawStream) -> str:
    if "content-length" in answer.headers:
        return (await answer.reader.readexactly(int(answer.headers["content-length"]))).decode()
    return ""


async def _await_stream(story: Story, stream: RawStream, shown: str, block: Block) -> None:
    """Read a stream until what comes next on it is what is shown; heartbeats do not count."""
    expected = pattern(shown.strip("\n") + "\n\n", story.known)
    try:
        async with asyncio.timeout(story.patience):
            while not (match := expected.match(text := _unread(stream))):
                assert await stream.chunk(), f"{block}: the stream ended after {stream.body!r}"
    except TimeoutError:
        pytest.fail(f"{block}: not what comes next on the stream, which has {stream.body!r}")
    keep(match, story.known)
    stream.body = text[match.end() :].encode()


def _unread(stream: RawStream) -> str:
    return re.sub(r"^:\n", "", stream.body.decode(), flags=re.MULTILINE)


# -- parsed ---------------------------------------------------------------------------------------------------


async def _toml(story: Story, block: Block) -> None:
    tomllib.loads(block.code)
    _certificate(story.folder)
    path = story.folder / "sseal.toml"
    path.write_text(story.placed(block.code))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SSEAL_")]:
            patch.delenv(name)
        loaded = operator.load(path)
    assert operator.config_errors(loaded) == [], block
    if not block.marker:
        path.unlink()  # an example of its own; with the marker "file" the page goes on to use it


async def _json(story: Story, block: Block) -> None:
    json.loads(block.code)


async def _ini(story: Story, block: Block) -> None:
    parser = configparser.RawConfigParser(strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(block.code)
    assert parser.sections() == ["Unit", "Service", "Install"], block
    program, command, *_ = parser["Service"]["ExecStart"].split()
    assert (Path(program).name, command) == ("sseal", "serve"), block


async def _js(story: Story, block: Block) -> None:
    await asyncio.to_thread(_node_check, story, block, block.code)


async def _html(story: Story, block: Block) -> None:
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", block.code, re.DOTALL)
    assert scripts, block
    for script in scripts:
        await asyncio.to_thread(_node_check, story, block, script)


def _node_check(story: Story, block: Block, code: str) -> None:
    path = story.file(".mjs")
    path.write_text(code)
    story.run("node", "--check", str(path), block=block)


async def _mermaid(story: Story, block: Block) -> None:
    """The state diagram draws exactly what the state table says, but for what changes nothing."""
    drawn = re.findall(r"(\w+) --> (\w+): (\w+)", block.code)
    moves = {(a.name, b.name, i.name) for (a, i), b in TABLE.items() if a is not b}
    assert set(drawn) == moves, block
    assert len(drawn) == len(moves), block


async def _nginx(story: Story, block: Block) -> None:
    """A configuration, or the part of one, is good to nginx; its streams have tests of their own."""
    config = proxy(block, story.folder, listen=free_port(), hub=free_port())
    await asyncio.to_thread(story.run, story.nginx_path, *config.arguments, "-t", block=block)


async def _haproxy(story: Story, block: Block) -> None:
    """What is appended to Debian's configuration is good to HAProxy."""
    path = story.file(".cfg")
    path.write_text("defaults\n    mode http\n    timeout client 50s\n    timeout server 50s\n    timeout connect 5s\n")
    with path.open("a") as config:
        config.write(re.sub(r":443 ssl crt \S+ alpn \S+", f"127.0.0.1:{free_port()}", block.code))
    await asyncio.to_thread(story.run, story.haproxy_path, "-c", "-f", str(path), block=block)


async def _caddy(story: Story, block: Block) -> None:
    """A Caddyfile is good to Caddy."""
    path = story.file(".caddy")
    path.write_text(block.code)
    await asyncio.to_thread(
        story.run, story.caddy_path, "adapt", "--adapter", "caddyfile", "--config", str(path), block=block
    )


HANDLERS = {
    "python": _python,
    "bash": _bash,
    "text": _text,
    "http": _http,
    "toml": _toml,
    "json": _json,
    "ini": _ini,
    "js": _js,
    "html": _html,
    "mermaid": _mermaid,
    "nginx": _nginx,
    "haproxy": _haproxy,
    "caddy": _caddy,
}


MODES = {
    "nginx": {"", "cluster", "mutual"},
    "python": {"", "app", "server", "syntax", "browser"},
    "bash": {"", "serve", "background", "syntax", "browser"},
    "text": {"output", "stream", "diagram"},
    "http": {"", "as"},
    "toml": {"", "file"},
}


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_every_marker_stands_before_a_block_and_means_something(page: Path) -> None:
    """A marker that no block follows, or that its language does not know, would be a test that never runs."""
    found = blocks(page)
    wrong = [str(block) for block in found if block.mode not in MODES.get(block.language, {""})]
    assert not wrong
    markers = [line for line in page.read_text(encoding="utf-8").splitlines() if line.strip().startswith("<!--")]
    assert len(markers) == sum(bool(block.marker) for block in found)


@pytest.mark.parametrize("page", PAGES, ids=_id)
async def test_every_block_of_a_page_does_what_it_says(
    page: Path, tmp_path: Path, time_unit: float, nginx_path: str, haproxy_path: str, caddy_path: str
) -> None:
    """The fenced blocks of a page run in order, and what it shows is what happens; no block has no test."""
    with contextlib.ExitStack() as stack:
        story = Story(page, tmp_path, PATIENCE * time_unit, nginx_path, stack)
        story.haproxy_path, story.caddy_path = haproxy_path, caddy_path
        story.known = {
            "token": _token("alice"),
            "other-token": _token("bob"),
            "app-token": _token("app", sseal={"admin": True, "publish": ["**"]}),
            "expired-token": _token("alice", exp=int(time.time()) - 60),
        }
        for block in blocks(page):
            handler = HANDLERS.get(block.language)
            assert handler is not None, f"{block}: no test knows what to do with this language"
            await handler(story, block)
        for stream in story.streams.values():
            stream.close()


# -- nginx ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Proxy:
    """An nginx configuration placed in a folder."""

    folder: Path
    path: Path

    @property
    def arguments(self) -> tuple[str, ...]:
        """What to call nginx with."""
        log = str(self.folder / "nginx.error")
        return ("-p", str(self.folder), "-c", str(self.path), "-e", log, "-g", "daemon off; pid nginx.pid;")


def proxy(block: Block, folder: Path, *, listen: int, hub: int) -> Proxy:
    """Place the configuration of a block in a folder: its ports, paths and certificate are ours."""
    code = block.code
    if "http {" not in code:  # a part, for the server block of somebody's own configuration
        parts = re.split(r"^(?=(?:location|server|map|upstream|error_page)\b)", code, flags=re.MULTILINE)
        outside = [part for part in parts if part.startswith(("map", "upstream", "server"))]
        inside = [part for part in parts if part not in outside]
        code = "events {}\nhttp {\n" + "".join(outside) + "server { listen 443 ssl http2;\n"
        code += "ssl_certificate a.pem; ssl_certificate_key b.pem;\n" + "".join(inside) + "}\n}\n"
    _certificate(folder)
    temps = "".join(
        f"    {kind}_temp_path {folder / kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    code = code.replace("http {\n", f"http {{\n{temps}    access_log {folder / 'access.log'};\n", 1)
    code = re.sub(r"listen (\[::\]:)?443 ", f"listen 127.0.0.1:{listen} ", code)
    code = re.sub(r"listen (\[::\]:)?80;", f"listen 127.0.0.1:{free_port()};", code)
    code = re.sub(r"\b127\.0\.0\.1:8000\b", f"127.0.0.1:{hub}", code)
    code = re.sub(r"ssl_certificate_key [^;]+;", f"ssl_certificate_key {folder / 'key.pem'};", code)
    code = re.sub(r"ssl_certificate [^;]+;", f"ssl_certificate {folder / 'cert.pem'};", code)
    code = re.sub(r"ssl_client_certificate [^;]+;", f"ssl_client_certificate {folder / 'cert.pem'};", code)
    path = folder / f"nginx-{block.line}.conf"
    path.write_text(code)
    return Proxy(folder, path)


def _certificate(folder: Path) -> None:
    """Write a certificate for app.example and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "app.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("app.example"), x509.DNSName("localhost")]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _configurations() -> list[Block]:
    """Return the configurations of one hub; those with a mode, such as that of `make cluster`, have their own tests."""
    found = [block for page in PAGES for block in blocks(page) if block.language == "nginx"]
    return [block for block in found if not block.mode]


@contextlib.contextmanager
def _hub(folder: Path, port: int) -> Iterator[None]:
    """Serve the common hub on a given port."""
    (folder / "docs_hub.py").write_text(HUB.replace("ACCOUNTS", str(folder / "accounts.db")))
    command = (sys.executable, "-m", "uvicorn", "docs_hub:app", "--port", str(port))
    with serving(*command, port=port, log=folder / "hub.log", env={"PYTHONPATH": str(folder)}) as server:
        yield
        server.stop()


@contextlib.asynccontextmanager
async def through(port: int, folder: Path, request: str, protocol: str = "http/1.1") -> AsyncIterator[RawStream]:
    """Send a request to the proxy over TLS and read the head of its answer."""
    context = ssl.create_default_context(cafile=folder / "cert.pem")
    context.set_alpn_protocols([protocol])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="app.example")
    writer.write(request.replace("\n", "\r\n").encode())
    stream = RawStream(reader, writer)
    try:
        async with asyncio.timeout(10.0):
            stream.status = int((await reader.readline()).split()[1])
            while (line := (await reader.readline()).strip()) != b"":
                name, _, value = line.decode("latin-1").partition(":")
                stream.headers[name.lower()] = value.strip()
        yield stream
    finally:
        writer.transport.abort()


GET = "GET /events?topic=public/news&anonymous=1 HTTP/1.1\nHost: app.example\nAccept: text/event-stream\n\n"


@pytest.mark.parametrize("block", _configurations(), ids=str)
async def test_nginx_passes_streams_on_and_survives_the_hub(block: Block, tmp_path: Path, nginx_path: str) -> None:
    """Through the nginx of the docs a stream arrives event by event; without a hub it is told to come back."""
    listen, hub = free_port(), free_port()
    placed = proxy(block, tmp_path, listen=listen, hub=hub)
    with serving(nginx_path, *placed.arguments, port=listen, log=tmp_path / "nginx.log"):
        with _hub(tmp_path, hub):
            async with through(listen, tmp_path, GET) as stream:
                assert stream.status == 200
                await stream.until("auth")
                body = json.dumps({"topic": "public/news", "data": "hello"})
                publish = (
                    f"POST /events HTTP/1.1\nHost: app.example\nAuthorization: Bearer {_token('app')}\n"
                    f"Content-Type: application/json\nContent-Length: {len(body)}\n\n{body}"
                )
                async with through(listen, tmp_path, publish) as answer:
                    assert answer.status == 201
                assert (await stream.until(data="hello")).type == "message"
        for request in (GET, GET.replace("/events?", "/events/" + "a" * 26 + "?")):
            async with through(listen, tmp_path, request) as later:
                assert (later.status, later.headers["content-type"]) == (200, "text/event-stream")
                later.headers.setdefault("transfer-encoding", "")
                body_text = await later.reader.readexactly(int(later.headers["content-length"]))
                assert re.fullmatch(rb"retry: \d+\n\n", body_text)
        async with through(listen, tmp_path, publish) as lost:
            assert lost.status == 503  # what was not published must not look as if it was
        with _hub(tmp_path, hub):
            async with through(listen, tmp_path, GET) as stream:
                await stream.until("auth")


@pytest.mark.parametrize("block", _configurations(), ids=str)
async def test_nginx_speaks_http2_to_browsers(block: Block, tmp_path: Path, nginx_path: str, time_unit: float) -> None:
    """Ten streams share one HTTP/2 connection, so that the seventh tab is like the first."""
    listen, hub = free_port(), free_port()
    placed = proxy(block, tmp_path, listen=listen, hub=hub)
    with (
        serving(nginx_path, *placed.arguments, port=listen, log=tmp_path / "nginx.log"),
        _hub(tmp_path, hub),
    ):
        context = ssl.create_default_context(cafile=tmp_path / "cert.pem")
        context.set_alpn_protocols(["h2", "http/1.1"])
        _, writer = await asyncio.open_connection("127.0.0.1", listen, ssl=context, server_hostname="app.example")
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        writer.transport.abort()
        url = f"https://app.example:{listen}/events?topic=public/news&anonymous=1"
        command = ["curl", "--silent", "--no-buffer", "--http2", "--parallel", "--cacert", str(tmp_path / "cert.pem")]
        command += ["--resolve", f"app.example:{listen}:127.0.0.1", "--write-out", "%{num_connects}\\n"]
        command += [part for _ in range(10) for part in ("--output", "-", url)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            await asyncio.to_thread(_count_streams, process, 10, PATIENCE * time_unit)
            connections = await _server_connections(hub)
            assert connections == 10
        finally:
            process.kill()
            process.communicate(timeout=10.0)


def _count_streams(process: subprocess.Popen[bytes], wanted: int, patience: float) -> None:
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    text, end = b"", time.monotonic() + patience
    while text.count(b"event: auth") < wanted:
        text += process.stdout.read() or b""
        assert process.poll() is None, text
        assert time.monotonic() < end, text
        time.sleep(0.02)


async def _server_connections(port: int) -> int:
    async with raw(port, "GET /readyz HTTP/1.1\r\nHost: app.example\r\n\r\n") as answer:
        return int(json.loads(await _rest(answer))["streams"])


# -- links ----------------------------------------------------------------------------------------------------

_LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^)\s]+)\)")


def _prose(page: Path) -> str:
    """Return a page without its fenced blocks and code spans."""
    text = re.sub(r"^( *)(`{3,}).*?^\1\2 *$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "``", text)


def _anchors(page: Path) -> set[str]:
    text = re.sub(r"^( *)(`{3,}).*?^\1\2 *$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ +(.+?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES], ids=_id)
def test_links_resolve(page: Path) -> None:
    """Every link names a file of the repository, or a heading in one, or is an https address."""
    broken = []
    for link in _LINK.findall(_prose(page)):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if target.parent.name == "images" and not target.parent.exists():
            continue  # the pictures are made from the running demo, all at once
        if not target.is_relative_to(ROOT) or not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert not broken, f"{_id(page)}: {broken}"


def test_every_page_is_in_the_index() -> None:
    """Whoever starts at docs/index.md gets to every page."""
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in _LINK.findall(_prose(index))}
    assert [_id(page) for page in PAGES if page not in linked and page not in (index, ROOT / "README.md")] == []


# -- tables against the code ----------------------------------------------------------------------------------


def _rows(name: str) -> list[list[str]]:
    """Return the cells of every table row of a reference page."""
    lines = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8").splitlines()
    rows = [line.strip().strip("|").split("|") for line in lines if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in row] for row in rows]


def _shown(value: object) -> str:
    """Return how the settings page shows a default: as TOML would, without needless decimals."""
    if value is None:
        return "none"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{json.dumps(value)}`"


def _listed() -> dict[str, str]:
    return {row[0].strip("`"): row[1] for row in _rows("settings.md") if row[0].startswith("`")}


def test_every_setting_of_the_hub_is_listed_with_its_default() -> None:
    """The settings page has each field of HubSettings and Limits, and no default is out of date."""
    hub, limits = HubSettings(), Limits()
    expected = {
        item.name: _shown(getattr(hub, item.name)) for item in dataclasses.fields(HubSettings) if item.name != "limits"
    }
    expected |= {f"limits.{item.name}": _shown(getattr(limits, item.name)) for item in dataclasses.fields(Limits)}
    listed = _listed()
    assert {name: listed.get(name) for name in expected} == expected


def test_every_setting_of_serve_is_listed_with_its_default() -> None:
    """The settings page has what `sseal serve` reads beside the hub's settings, and nothing that does not exist."""
    expected = {
        name: _shown(item.get_default(call_default_factory=True))
        for name, item in operator.Settings.model_fields.items()
    }
    listed = _listed()
    assert {name: listed.get(name) for name in expected} == expected
    hub = {item.name for item in dataclasses.fields(HubSettings)}
    limits = {f"limits.{item.name}" for item in dataclasses.fields(Limits)}
    assert set(listed) - set(expected) - hub - limits == set()


def test_every_close_reason_is_listed() -> None:
    """The page of close reasons says of each what is sent and whether to come back."""
    listed = {row[0].strip("`"): row[1:3] for row in _rows("close-reasons.md") if row[0].startswith("`")}
    bye = {None: "no", True: "`true`", False: "`false`"}
    expected = {
        name: [bye[reason.reconnect], f"`{reason.session}`" if reason.session else "no"]
        for name, reason in REASONS.items()
    }
    assert listed == expected


def _codes() -> set[str]:
    """Return every problem code of the source: of the error classes, and where one is given."""
    found = set()
    for path in sorted((ROOT / "src" / "sseal").rglob("*.py")):
        if {"cli", "client", "server"} & set(path.relative_to(ROOT / "src" / "sseal").parts):
            continue  # what those raise never becomes an HTTP answer
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "code" and isinstance(node.value, ast.Constant):
                found.add(node.value.value)
            if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
                continue
            # Another value than a constant is another kind of code: SQLite's.
            if node.targets[0].id == "code" and isinstance(node.value, ast.Constant):
                found.add(node.value.value)
    return found


def test_every_code_is_listed() -> None:
    """The page of errors has each code of a problem document, and no other."""
    listed = {row[0].strip("`") for row in _rows("errors.md") if row[0].startswith("`")}
    # What the wire raises is for readers; the faults of accounts and key sets are translated before they are answers.
    assert listed == _codes() - {"wire", "accounts", "jwks"}


def test_every_endpoint_is_described() -> None:
    """The page of the HTTP interface has a heading for each path and method, and no other."""
    text = (ROOT / "docs" / "reference" / "http.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^### `((?:GET|POST|DELETE) /\S*)`$", text, re.MULTILINE))
    served = {"GET /events", "POST /events", "GET /events/{ticket}"}
    for route in sseal.Hub().asgi._app.routes:
        if isinstance(route.app, Endpoint):
            served |= {f"{method} {route.path}" for method in route.app.handlers}
    assert described == served


# -- in a browser ---------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def browsing(chromium_path: str) -> AsyncIterator[Browser]:
    """Run a headless Chromium."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


def _block(page: str, language: str, words: str) -> str:
    """Return the code of the one block of a page that holds some words."""
    (found,) = [b.code for b in blocks(ROOT / page) if b.language == language and words in b.code]
    return found


async def test_the_tutorial_holds_in_a_browser(tmp_path: Path, chromium_path: str, time_unit: float) -> None:
    """Two users in two windows: an event for alice arrives in hers and not in bob's."""
    (tmp_path / "tutorial.py").write_text(_block("docs/tutorials/first-stream.md", "python", "be alice"))
    patience = PATIENCE * time_unit * 1000
    with uvicorn("tutorial:app", tmp_path / "log", env={"PYTHONPATH": str(tmp_path)}) as server:
        async with browsing(chromium_path) as browser:
            windows = {}
            for user in ("alice", "bob"):
                page = await (await browser.new_context()).new_page()
                await page.goto(f"http://localhost:{server.port}/")
                await page.get_by_text("refused: sign in").wait_for(timeout=patience)
                await page.click(f"#{user}")
                await page.get_by_text(f"auth {user}").wait_for(timeout=patience)
                windows[user] = page
            await windows["bob"].click("#say")
            await windows["alice"].get_by_text("hello", exact=True).wait_for(timeout=patience)
            await windows["bob"].evaluate("fetch('/say/bob?text=yours', {method: 'POST'})")
            await windows["bob"].get_by_text("yours").wait_for(timeout=patience)
            assert await windows["bob"].get_by_text("hello", exact=True).count() == 0
