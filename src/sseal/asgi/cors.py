"""CORS: which pages of other origins may read answers, for a hub that is not mounted in an app that says so."""

from __future__ import annotations

from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from ..hub_settings import HubSettings

__all__ = ["with_cors"]

_OWN_HEADERS: Final = ("Authorization", "Cache-Control", "Content-Type", "Last-Event-ID")
"""Request headers that a page of an allowed origin may always send."""


def with_cors(app: ASGIApp, settings: HubSettings, origins: frozenset[str]) -> CORSMiddleware:
    """Return the app behind what answers preflights and adds the headers.

    :param origins: those allowed, in the form browsers send.
    """
    return CORSMiddleware(
        app,
        allow_origins=sorted(origins),
        allow_credentials=True,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=sorted({*_OWN_HEADERS, *settings.allowed_headers}),
        expose_headers=["RateLimit", "RateLimit-Policy", "Retry-After", "WWW-Authenticate"],
        max_age=600,
    )
