"""``GET /openapi.json``: the document of `sseal.asgi.openapi`, written when it is first asked for."""

from __future__ import annotations

import hashlib

import msgspec
from starlette.types import Receive, Scope

from .requests import Ask
from .responses import Answer
from .services import Services

__all__ = ["OpenApiEndpoint"]


class OpenApiEndpoint:
    """Writes the document when it is first asked for, and keeps it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._written: tuple[bytes, str] | None = None

    async def __call__(self, scope: Scope, receive: Receive) -> Answer:
        """``GET /openapi.json``: no credential, for it holds nothing secret."""
        del receive
        if self._written is None:
            from .openapi import document  # with what it needs it takes a tenth of what importing a hub does

            raw = msgspec.json.encode(document(self._services))
            self._written = raw, hashlib.sha256(raw).hexdigest()[:32]
        raw, digest = self._written
        # Where the hub is mounted is known by the request alone, unless it is set; all else is the same for each.
        root_path = self._services.settings.public_url or scope.get("root_path", "")
        root = msgspec.json.encode([{"url": root_path.rstrip("/") or "/"}])
        tag = f'W/"{digest}"'
        headers = {"cache-control": "no-cache", "etag": tag}
        if self._services.settings.cors:
            headers["access-control-allow-origin"] = "*"  # as public as it is; cookies count for nothing here
        known = Ask(scope).header(b"if-none-match") or ""
        if tag in (each.strip() for each in known.split(",")):
            return Answer(304, headers=headers)
        return Answer(200, raw=b'{"servers":' + root + b"," + raw[1:], headers=headers)
