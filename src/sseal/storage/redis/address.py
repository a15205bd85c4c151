"""Addresses of Redis and Valkey: where the server is, as whom to log in, under which prefix to keep things."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ...errors import InvalidInput
from ..address import REDIS_SCHEMES, authority_of, redact_url

__all__ = ["Address"]

_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_TLS_FILES: Final = _TLS_OPTIONS[:3]
_PREFIX: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ESCAPES: Final = "in a password write %2F for '/', %3F for '?', %23 for '#', %40 for '@' and %5B for '['"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A parsed address. Build it with `Address.parse`.

    :param hosts: host and port of the server, or of the sentinels when there is a ``service``.
    :param path: of a Unix socket, instead of hosts.
    :param tls: options of the TLS connection, None for plain TCP.
    :param prefix: what every key and channel begins with, its colon included.
    """

    text: str = field(repr=False)
    hosts: tuple[tuple[str, int], ...] = ()
    path: str | None = None
    service: str | None = None
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    db: int = 0
    tls: Mapping[str, str | bool] | None = None
    prefix: str = "sseal:"

    @classmethod
    def parse(cls, text: str, name: str = "broker") -> Address:
        """Parse ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` or ``rediss+sentinel://``.

        :raises InvalidInput: names the setting and what is wrong, and no part of the address that may be secret.
        """
        scheme, _, rest = text.partition("://")
        scheme = scheme.lower()
        if scheme not in REDIS_SCHEMES:
            raise InvalidInput(name, f"must begin with one of {', '.join(f'{known}://' for known in REDIS_SCHEMES)}")
        parts = _parts(rest, name)
        userinfo, _, netloc = parts.netloc.rpartition("@")
        username, _, password = (unquote(part) or None for part in _halves(userinfo))
        options = _options(parts.query, scheme, name)
        shared = {
            "text": text,
            "username": username,
            "password": password,
            "tls": _tls(scheme, options, name),
            "prefix": _prefix(options.pop("prefix", "sseal"), name),
        }
        if scheme == "unix":
            return cls(**shared, **_socket(netloc, parts.path, options, name))  # type: ignore[arg-type]
        if scheme.endswith("+sentinel"):
            return cls(**shared, **_sentinels(netloc, parts.path, options, name))  # type: ignore[arg-type]
        return cls(**shared, **_server(netloc, parts.path, name))  # type: ignore[arg-type]

    def __str__(self) -> str:
        """Return it as it may be logged: without user, password and options."""
        return redact_url(self.text)


def _parts(rest: str, name: str) -> SplitResult:
    # No error here or below shows any of the text: a character of a password moves all that follows it.
    if not rest.isprintable():
        raise InvalidInput(name, f"holds a character that cannot be printed; {_ESCAPES}")
    if "@" in authority_of(rest)[1] or "#" in rest:
        raise InvalidInput(name, f"holds a '#', or an '@' after a '/' or '?'; {_ESCAPES}")
    try:
        return urlsplit(f"//{rest}")
    except ValueError:
        raise InvalidInput(name, f"holds a character that no host name can have; {_ESCAPES}") from None


def _halves(userinfo: str) -> tuple[str, str, str]:
    return userinfo.partition(":")


def _options(query: str, scheme: str, name: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    allowed = ["prefix"]
    if scheme.startswith("rediss"):
        allowed += _TLS_OPTIONS
    if scheme.endswith("+sentinel"):
        allowed += ["sentinel_username", "sentinel_password"]
    if scheme == "unix":
        allowed += ["db"]
    for option in options:
        if option not in allowed:
            raise InvalidInput(name, f"has an unknown option; {scheme}:// knows {', '.join(allowed)}; {_ESCAPES}")
    return options


def _tls(scheme: str, options: Mapping[str, str], name: str) -> dict[str, str | bool] | None:
    if not scheme.startswith("rediss"):
        return None
    tls: dict[str, str | bool] = {option: options[option] for option in _TLS_OPTIONS if option in options}
    if tls.get("ssl_cert_reqs", "required") not in ("required", "none"):
        raise InvalidInput(name, "ssl_cert_reqs must be 'required' or 'none'")
    for option in _TLS_FILES:
        if option in options and not Path(options[option]).is_file():
            raise InvalidInput(name, f"{option}: there is no file of that name")
    if (check := tls.get("ssl_check_hostname", "true")) not in ("true", "false"):
        raise InvalidInput(name, "ssl_check_hostname must be 'true' or 'false'")
    tls["ssl_check_hostname"] = check == "true" and tls.get("ssl_cert_reqs") != "none"
    return tls


def _prefix(text: str, name: str) -> str:
    if not _PREFIX.fullmatch(text):
        raise InvalidInput(name, "prefix must be 1 to 64 letters, digits, '.', '_' or '-'")
    return f"{text}:"


def _db(text: str, name: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise InvalidInput(name, f"the database, after the host, must be a number; {_ESCAPES}")
    return int(text)


def _host(text: str, port: int, name: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        found = parts.port
    except ValueError:
        raise InvalidInput(name, f"the server must be a host or host:port; {_ESCAPES}") from None
    return parts.hostname or "localhost", port if found is None else found


def _server(netloc: str, path: str, name: str) -> dict[str, object]:
    return {"hosts": (_host(netloc, _PORT, name),), "db": _db(path.strip("/"), name)}


def _socket(netloc: str, path: str, options: Mapping[str, str], name: str) -> dict[str, object]:
    if netloc or len(path) < 2:
        raise InvalidInput(name, "must be unix:///path/to/redis.sock")
    return {"path": unquote(path), "db": _db(options.get("db", ""), name)}


def _sentinels(netloc: str, path: str, options: Mapping[str, str], name: str) -> dict[str, object]:
    service, _, db = path.strip("/").partition("/")
    if not service:
        raise InvalidInput(name, "names no service: redis+sentinel://host:26379,host:26379/service/0")
    return {
        "hosts": tuple(_host(host, _SENTINEL_PORT, name) for host in netloc.split(",")),
        "service": unquote(service),
        "db": _db(db, name),
        "sentinel_username": options.get("sentinel_username"),
        "sentinel_password": options.get("sentinel_password"),
    }
