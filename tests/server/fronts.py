"""Real proxies in front of a hub, with the configuration of the docs and Debian's defaults."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from servers import ROOT, free_port, serving

__all__ = ["caddy", "haproxy", "nginx"]

HOW_TO = ROOT / "docs" / "how-to"
DEBIAN = Path("/etc/haproxy/haproxy.cfg")
UPGRADES = """
    map $http_upgrade $connection_upgrade {
        default upgrade;
        ""      "";
    }
    upstream hub {
        server 127.0.0.1:8000;
        keepalive 8;
    }
"""
"""What nginx configurations have that pass WebSockets on, and use connections to the app again."""


def _block(page: str, language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", (HOW_TO / page).read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, f"{page} has no {language}"
    return found[1]


@contextlib.contextmanager
def nginx(program: str, folder: Path, hub: int, *, upgrades: bool = False) -> Iterator[int]:
    """Run nginx as documented, without TLS; yield its port.

    :param upgrades: as if the site had WebSockets, too, and bodies were passed on as they come.
    """
    port = free_port()
    code = _block("nginx.md", "nginx")
    code = re.sub(r"    server \{\n        listen 80;.*?\n    \}\n", "", code, flags=re.DOTALL)
    code = re.sub(r"listen 443 ssl http2;[^\n]*", f"listen 127.0.0.1:{port};", code)
    code = re.sub(r" *(ssl_certificate|ssl_certificate_key|http2_max)\S* [^\n]*\n", "", code)
    if upgrades:
        code = code.replace('proxy_set_header Connection "";', "proxy_set_header Connection $connection_upgrade;")
        code = code.replace("proxy_buffering off;", "proxy_buffering off; proxy_request_buffering off;")
        code = code.replace("server {", "server {\n        proxy_set_header Upgrade $http_upgrade;", 1)
        code = code.replace("proxy_pass http://127.0.0.1:8000", "proxy_pass http://hub")
        code = code.replace("http {\n", "http {\n" + UPGRADES, 1)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"    {kind}_temp_path {folder / kind};\n" for kind in kinds)
    code = code.replace("http {\n", f"http {{\n    access_log off;\n{temporary}", 1).replace("auto", "1", 1)
    config = folder / "nginx.conf"
    config.write_text(code.replace("127.0.0.1:8000", f"127.0.0.1:{hub}"))
    options = ("-p", str(folder), "-e", str(folder / "nginx.error"), "-g", "daemon off; pid nginx.pid;")
    with serving(program, "-c", str(config), *options, port=port, log=folder / "nginx.log"):
        yield port


@contextlib.contextmanager
def haproxy(program: str, folder: Path, hub: int) -> Iterator[int]:
    """Run HAProxy with Debian's defaults and what the docs append to them, without TLS; yield its port."""
    port = free_port()
    assert DEBIAN.exists(), f"{DEBIAN} is missing: it comes with Debian's haproxy, `scripts/setup --test` installs it"
    found = re.search(r"^defaults\n(?:[ \t]+[^\n]*\n)*", DEBIAN.read_text(), re.MULTILINE)
    assert found is not None, f"{DEBIAN} has no defaults"
    code = re.sub(r":443 ssl crt \S+ alpn \S+", f"127.0.0.1:{port}", _block("haproxy.md", "haproxy"))
    config = folder / "haproxy.cfg"
    config.write_text("global\n" + found[0] + "\n" + code.replace("127.0.0.1:8000", f"127.0.0.1:{hub}"))
    with serving(program, "-db", "-f", str(config), port=port, log=folder / "haproxy.log"):
        yield port


@contextlib.contextmanager
def caddy(program: str, folder: Path, hub: int) -> Iterator[int]:
    """Run Caddy as documented first, without TLS; yield its port."""
    port = free_port()
    code = _block("caddy.md", "caddy").replace("app.example", f"http://127.0.0.1:{port}")
    config = folder / "Caddyfile"
    config.write_text("{\n    admin off\n}\n" + code.replace("127.0.0.1:8000", f"127.0.0.1:{hub}"))
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    run = (program, "run", "--adapter", "caddyfile", "--config", str(config))
    with serving(*run, port=port, log=folder / "caddy.log", env=home):
        yield port
