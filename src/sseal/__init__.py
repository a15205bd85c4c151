"""Authenticated server-sent events: a hub for any ASGI app, or on its own, and clients."""

from __future__ import annotations

from .application import Hub
from .auth.identity import Grants, Identity
from .errors import SsealError
from .hub.settings import HubSettings
from .limits import Limits
from .publisher import Publisher

__all__ = ["Grants", "Hub", "HubSettings", "Identity", "Limits", "Publisher", "SsealError"]
