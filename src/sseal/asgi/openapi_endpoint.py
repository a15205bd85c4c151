"""``GET /openapi.json``: the document of `sseal.asgi.openapi`, written when it is first asked for."""

from __future__ import annotations

import hashlib

import msgspec

from ..auth.credential import CredentialPolicy
from ..hub_settings import HubSettings
from .requests import HubRequest
from .responses import JsonResponse

__all__ = ["OpenApiEndpoint"]


class OpenApiEndpoint:
    """Writes the document when it is first asked for, and keeps it.

    :param policy: says which auth methods are in it.
    """

    def __init__(self, settings: HubSettings, policy: CredentialPolicy) -> None:
        self._public_url = settings.public_url
        self._cors = settings.cors
        self._policy = policy
        self._written: tuple[bytes, str] | None = None  # the document but for ``servers``, and its digest

    async def __call__(self, request: HubRequest) -> JsonResponse:
        """Answer one request; without a credential, for it holds nothing secret."""
        if self._written is None:
            from .openapi import document  # with what it needs it takes a tenth of what importing a hub does

            raw = msgspec.json.encode(document(self._policy))
            self._written = raw, hashlib.sha256(raw).hexdigest()[:32]
        raw, digest = self._written
        # Where the hub is mounted is known by the request alone, unless it is set; all else is the same for each.
        root = msgspec.json.encode([{"url": (self._public_url or request.root_path).rstrip("/") or "/"}])
        tag = f'W/"{digest}"'
        headers = {"cache-control": "no-cache", "etag": tag}
        if self._cors:
            headers["access-control-allow-origin"] = "*"  # as public as it is; cookies count for nothing here
        known = request.header(b"if-none-match") or ""
        if tag in (each.strip() for each in known.split(",")):
            return JsonResponse(None, 304, headers)
        return JsonResponse(b'{"servers":' + root + b"," + raw[1:], headers=headers)
