"""Authenticated server-sent events: a hub for any ASGI app, or on its own, and clients.

The public names are loaded when they are asked for (PEP 562), so that ``import sseal.client`` loads no server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .auth.identity import Grants, Identity
    from .errors import SsealError
    from .hub import Hub
    from .hub_settings import HubSettings
    from .limits import Limits
    from .publisher import Publisher

__all__ = ["Grants", "Hub", "HubSettings", "Identity", "Limits", "Publisher", "SsealError"]

_HOMES = {
    "Grants": "auth.identity",
    "Hub": "hub",
    "HubSettings": "hub_settings",
    "Identity": "auth.identity",
    "Limits": "limits",
    "Publisher": "publisher",
    "SsealError": "errors",
}


if not TYPE_CHECKING:  # a type checker would take any name for one of these

    def __getattr__(name: str) -> object:
        """Load a public name, once."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
