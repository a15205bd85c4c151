"""Who takes part: how each is started, asked for a stream, and published to. A plain dict."""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.util
import json
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from machine import HERE

SECRET = secrets.token_hex(32)
SERVERS = HERE / "servers"
NCHAN = [
    Path(place) / "ngx_nchan_module.so" for place in ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules")
]  # Debian, Fedora
TLS = ("cert.pem", "key.pem")


def token(subject: str, claims: dict[str, object]) -> str:
    """Return an HS256 token (RFC 7519) good for an hour."""
    now = int(time.time())
    parts = [{"alg": "HS256", "typ": "JWT"}, {"sub": subject, "iat": now, "exp": now + 3600, **claims}]
    text = ".".join(_base64(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    return f"{text}.{_base64(hmac.digest(SECRET.encode(), text.encode(), hashlib.sha256))}"


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def subject(index: int) -> str:
    """Return the subject of a stream."""
    return f"reader-{index:05d}"


def own_topic(index: int) -> str:
    """Return the private topic of a stream."""
    return f"user/{subject(index)}"


def bearer(index: int) -> str:
    """Return the header by which a stream authenticates."""
    grants = {"subscribe": ["common", "mosaic/*"], "publish": []}
    return f"Authorization: Bearer {token(subject(index), {'sseal': grants})}"


def publisher() -> str:
    """Return the header by which the publishers authenticate; also good for minting tickets."""
    grants = {"subscribe": [], "publish": ["**"], "admin": True}
    return f"Authorization: Bearer {token('publisher', {'sseal': grants})}"


def json_template(path: str = "/events") -> str:
    """Return the request that publishes one event as JSON."""
    head = f"POST {path} HTTP/1.1\nHost: 127.0.0.1\n{publisher()}\nContent-Type: application/json"
    return head + '\n\n{"topic": "%TOPIC%", "data": "%DATA%"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One way to serve event streams.

    :param command: from the port and a directory of its own to the command line; may write files there.
    :param stream: from a stream's number to path and headers.
    :param template: the request that publishes.
    :param lacks: what is missing to run it, or None.
    :param private: a stream reads a topic of its own beside the common one.
    :param history: what was published while a stream was away reaches it when it comes back.
    :param paced: publishers wait when delivery is behind, so they may publish flat out for as long as one likes.
    :param strict: none of its events may be lost, even flat out.
    :param most: streams it is given at most.
    """

    label: str
    command: Callable[[int, Path], list[str]]
    stream: Callable[[int], tuple[str, list[str]]] = lambda i: ("/events", [bearer(i)])
    template: Callable[[], str] = json_template
    lacks: Callable[[], str | None] = lambda: None
    private: bool = True
    history: bool = False
    paced: bool = False
    strict: bool = False
    tls: bool = False
    tickets: bool = False
    most: int = 20_000
    note: str = ""


def _script(name: str, *options: str) -> Callable[[int, Path], list[str]]:
    return lambda port, place: [
        sys.executable,
        str(SERVERS / name),
        "--port",
        str(port),
        *(str(place / option) if option in TLS else option for option in options),
    ]


def _needs_module(name: str) -> Callable[[], str | None]:
    return lambda: None if importlib.util.find_spec(name) else f"the Python package of {name} is not installed"


def _sseal_stream(index: int) -> tuple[str, list[str]]:
    return f"/events?topic=common&topic={own_topic(index)}", [bearer(index)]


def _sseal(label: str, *options: str, tls: bool = False, tickets: bool = False) -> Contestant:
    return Contestant(
        label=label,
        command=_script("sseal_app.py", *options),
        stream=_sseal_stream,
        history=True,
        paced=True,
        strict=True,
        tls=tls,
        tickets=tickets,
    )


def _granian(port: int, place: Path) -> list[str]:
    del place
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--loop", "uvloop", "--no-access-log"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--backlog", "4096", "--backpressure", "20000"]
    return [*command, "--working-dir", str(SERVERS), "sseal_app:app"]


def nginx() -> str | None:
    """Return the path of nginx; Debian keeps it in /usr/sbin."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def nchan_module() -> Path | None:
    """Return the path of nchan's module."""
    return next((path for path in NCHAN if path.exists()), None)


def _nchan(port: int, place: Path) -> list[str]:
    text = (SERVERS / "nginx.conf").read_text()
    for name, value in (("%DIR%", place), ("%PORT%", port), ("%MODULE%", place / "module.conf")):
        text = text.replace(name, str(value))
    (place / "module.conf").write_text(f"load_module {nchan_module()};\n")
    (place / "nginx.conf").write_text(text)
    return [str(nginx()), "-c", str(place / "nginx.conf"), "-e", str(place / "error.log")]


def _mercure(port: int, place: Path) -> list[str]:
    (place / "Caddyfile").write_text(
        "{\n auto_https off\n admin off\n persist_config off\n}\n"
        f"http://127.0.0.1:{port} {{\n route {{\n mercure {{\n publisher_jwt {SECRET} HS256\n"
        f" subscriber_jwt {SECRET} HS256\n }}\n }}\n}}\n"
    )
    return ["mercure", "run", "--config", str(place / "Caddyfile")]


def _mercure_stream(index: int) -> tuple[str, list[str]]:
    topics = ["common", own_topic(index)]
    signed = token(subject(index), {"mercure": {"subscribe": topics}})
    return f"/.well-known/mercure?topic=common&topic={own_topic(index)}", [f"Authorization: Bearer {signed}"]


def _mercure_template() -> str:
    signed = token("publisher", {"mercure": {"publish": ["*"]}})
    head = f"POST /.well-known/mercure HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer {signed}"
    return head + "\nContent-Type: application/x-www-form-urlencoded\n\ntopic=%TOPIC%&data=%DATA%"


def _centrifugo(port: int, place: Path) -> list[str]:
    config = {
        "http_server": {"address": "127.0.0.1", "port": str(port)},
        "client": {"token": {"hmac_secret_key": SECRET}},
        "http_api": {"key": SECRET},
        "uni_sse": {"enabled": True},
        "channel": {"without_namespace": {"history_size": 1000, "history_ttl": "3600s"}},
    }
    (place / "config.json").write_text(json.dumps(config))
    return ["centrifugo", "--config", str(place / "config.json")]


def _centrifugo_stream(index: int) -> tuple[str, list[str]]:
    signed = token(subject(index), {"channels": ["common", own_topic(index)]})
    query = json.dumps({"token": signed}, separators=(",", ":")).replace('"', "%22").replace("{", "%7B")
    return f"/connection/uni_sse?cf_connect={query.replace('}', '%7D')}", []


def _centrifugo_template() -> str:
    head = f"POST /api/publish HTTP/1.1\nHost: 127.0.0.1\nX-API-Key: {SECRET}\nContent-Type: application/json"
    return head + '\n\n{"channel": "%TOPIC%", "data": {"text": "%DATA%"}}'


def _needs_program(name: str) -> Callable[[], str | None]:
    return lambda: None if shutil.which(name) else f"there is no program {name} on this machine"


CONTESTANTS: dict[str, Contestant] = {
    "c": Contestant(
        label="bare C send loop",
        command=lambda port, place: [str(place.parent / "send_loop"), str(port)],
        private=False,
        paced=True,
        strict=True,
        note="no authentication, topics or history: the limit",
    ),
    "nchan": Contestant(
        label="nchan",
        command=_nchan,
        stream=lambda i: (f"/events?own={own_topic(i)}", []),
        template=lambda: "POST /publish?topic=%TOPIC% HTTP/1.1\nHost: 127.0.0.1\n\n%DATA%",
        lacks=lambda: (
            None if nginx() and nchan_module() else "install nginx with its nchan module (Debian: libnginx-mod-nchan)"
        ),
        history=True,
        note="does not authenticate",
    ),
    "sseal": _sseal("sseal"),
    "sseal-sealed": _sseal("sseal, ticket streams", tickets=True),
    "sseal-plain": _sseal("sseal, plain ASGI", "--http", "httptools"),
    "sseal-tls": _sseal("sseal, TLS", "--cert", "cert.pem", "--key", "key.pem", tls=True),
    "sseal-granian": Contestant(
        label="sseal on granian",
        command=_granian,
        stream=_sseal_stream,
        lacks=_needs_module("granian"),
        history=True,
        paced=True,
        strict=True,
    ),
    "sse-starlette": Contestant(
        label="sse-starlette", command=_script("sse_starlette_app.py"), lacks=_needs_module("sse_starlette")
    ),
    "aiohttp-sse": Contestant(
        label="aiohttp-sse", command=_script("aiohttp_sse_app.py"), lacks=_needs_module("aiohttp_sse")
    ),
    "django-eventstream": Contestant(
        label="django-eventstream",
        command=_script("django_eventstream_app.py"),
        lacks=_needs_module("django_eventstream"),
        most=1000,
        note="1,000 streams at most; no ids; lets events fall when 10 are waiting",
    ),
    "fastapi.sse": Contestant(
        label="fastapi.sse",
        command=_script("fastapi_app.py"),
        lacks=_needs_module("fastapi.sse"),
        most=1000,
        note="1,000 streams at most",
    ),
    "mercure": Contestant(
        label="Mercure",
        command=_mercure,
        stream=_mercure_stream,
        template=_mercure_template,
        lacks=_needs_program("mercure"),
        history=True,
    ),
    "centrifugo": Contestant(
        label="Centrifugo",
        command=_centrifugo,
        stream=_centrifugo_stream,
        template=_centrifugo_template,
        lacks=_needs_program("centrifugo"),
        note="its own events inside the data; no ids",
    ),
}

COALESCE_OFF = _sseal("sseal, coalescing off", "--no-coalesce")


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
