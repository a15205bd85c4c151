"""``sseal serve`` and ``sseal demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..settings import load

__all__ = ["demo", "serve"]

_LISTENING = "Listening"
_IDENTITY = "Who gets in"
_OPERATION = "Operation"
_SECRETS = ("jwt_secret",)


def _option(text: str, panel: str, metavar: str, default: str | bool = False) -> Any:
    return typer.Option(help=text, rich_help_panel=panel, show_default=default, metavar=metavar)


def serve(
    host: Annotated[str | None, _option("Address to listen on.", _LISTENING, "ADDRESS", "127.0.0.1")] = None,
    port: Annotated[str | None, _option("Port to listen on; 0 takes a free one.", _LISTENING, "NUMBER", "8000")] = None,
    root_path: Annotated[
        str | None, _option("Path under which a proxy publishes the hub.", _LISTENING, "/PATH")
    ] = None,
    tls_cert_file: Annotated[str | None, _option("Certificate chain, PEM; serves https.", _LISTENING, "FILE")] = None,
    tls_key_file: Annotated[str | None, _option("Its private key, PEM.", _LISTENING, "FILE")] = None,
    forwarded_allow_ips: Annotated[
        str | None,
        _option(
            "Proxies whose word on the client counts, addresses and networks.", _LISTENING, "ADDRESS,...", "127.0.0.1"
        ),
    ] = None,
    jwt_public_key_file: Annotated[
        str | None, _option("Public keys that verify tokens, PEM, newest first.", _IDENTITY, "FILE,...")
    ] = None,
    jwt_jwks_url: Annotated[str | None, _option("Key set of your issuer.", _IDENTITY, "URL")] = None,
    jwt_issuer: Annotated[str | None, _option("The only iss to accept.", _IDENTITY, "TEXT")] = None,
    jwt_audience: Annotated[str | None, _option("The aud values to accept.", _IDENTITY, "TEXT,...")] = None,
    credentials: Annotated[
        str | None, _option("Auth methods to accept.", _IDENTITY, "METHOD,...", "bearer,ticket,resume,cookie,custom")
    ] = None,
    allowed_origins: Annotated[
        str | None, _option("Other sites whose pages may use cookies and tickets.", _IDENTITY, "ORIGIN,...")
    ] = None,
    public_topics: Annotated[
        str | None, _option("What anybody may read with ?anonymous=1.", _IDENTITY, "PATTERN,...")
    ] = None,
    accounts: Annotated[
        str | None, _option("File of own accounts, see `sseal user`; opens /auth/login.", _IDENTITY, "FILE")
    ] = None,
    broker: Annotated[
        str | None, _option("The log: a file, a Redis, or memory://.", _OPERATION, "URL", "sqlite:///sseal.db")
    ] = None,
    workers: Annotated[str | None, _option("Processes.", _OPERATION, "NUMBER", "1")] = None,
    log_level: Annotated[str | None, _option("debug, info, warning or error.", _OPERATION, "LEVEL", "info")] = None,
    log_format: Annotated[
        str | None, _option("console or json.", _OPERATION, "FORMAT", "console on a terminal")
    ] = None,
    metrics: Annotated[
        bool | None, typer.Option(help="Answer GET /metrics.", rich_help_panel=_OPERATION, show_default="metrics")
    ] = None,
    config: Annotated[Path | None, _option("Settings file.", "Settings", "FILE", "sseal.toml, if there is one")] = None,
    assigned: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any other setting, such as limits.streams=5000.",
            rich_help_panel="Settings",
            show_default=False,
            metavar="NAME=VALUE",
        ),
    ] = None,
) -> None:
    """Run a hub on its own, beside an app in any language.

    Settings come from flags, over SSEAL_* variables, over sseal.toml. It needs a key to check tokens with:
    SSEAL_JWT_SECRET (at least 32 bytes), a public key, or a key set. Secrets are no flags, because every user of
    a machine can read those.
    """
    from ..server.serve import serve as run

    flags = dict(locals())
    for name in ("run", "config", "assigned"):
        del flags[name]
    run(load(config, assigned=_pairs(assigned or []), **flags))


def demo(
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port to try first; if it is taken, the next that is free.")
    ] = 8080,
    host: Annotated[str, typer.Option(help="A name of this machine itself; nothing else is allowed.")] = "127.0.0.1",
) -> None:
    """Show everything on one page in the browser. Needs nothing."""
    from .demo.app import run

    run(host, port)


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise typer.BadParameter("must look like limits.streams=5000", param_hint="--set")
        if name in _SECRETS:
            raise typer.BadParameter(
                f"every user of this machine could read it; use SSEAL_{name.upper()} or sseal.toml", param_hint="--set"
            )
        pairs[name] = value
    return pairs
