"""What the hub's HTTP/1.1 uses of uvicorn that uvicorn does not promise, and which of it this version lacks.

With something missing, `sseal.server.uvicorn.StreamProtocol` is uvicorn's own protocol: streams use the plain path with
the same semantics, and connections have uvicorn's bounds instead of the hub's.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from ..extras import MissingPackage, needed

try:
    with needed("sseal.server.uvicorn", "server"):
        from uvicorn.protocols.http.flow_control import FlowControl
        from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
except MissingPackage:
    raise
except ImportError:
    STATUS_LINE = {}

    class HttpToolsProtocol:  # type: ignore[no-redef]
        """Stands for what this uvicorn does not have; `missing` finds nothing in it."""

        def __init__(self) -> None:
            """Have no field."""

    class FlowControl:  # type: ignore[no-redef]
        """The same."""

        def __init__(self) -> None:
            """Have no field."""

    class RequestResponseCycle:  # type: ignore[no-redef]
        """The same."""

        def __init__(self) -> None:
            """Have no field."""


__all__ = ["MISSING", "STATUS_LINE", "FlowControl", "HttpToolsProtocol", "RequestResponseCycle", "missing"]

logger = logging.getLogger("sseal.server")

_METHODS: Final = {
    "HttpToolsProtocol": (
        "_should_upgrade",
        "_start_asgi_task",
        "_unset_keepalive_if_required",
        "handle_websocket_upgrade",
        "on_response_complete",
        "shutdown",
    ),
    "RequestResponseCycle": ("send",),
    "FlowControl": ("resume_reading",),
}
_FIELDS: Final = {
    "HttpToolsProtocol": ("connections", "cycle", "flow", "parser", "pipeline", "server_state", "timeout_keep_alive"),
    "RequestResponseCycle": ("disconnected", "response_complete", "chunked_encoding", "response_started", "keep_alive"),
    "FlowControl": (),
}


def missing() -> list[str]:
    """Return the names of uvicorn's internals that are needed and that this version lacks."""
    lacking = []
    owners = (
        ("HttpToolsProtocol", HttpToolsProtocol),
        ("RequestResponseCycle", RequestResponseCycle),
        ("FlowControl", FlowControl),
    )
    for name, owner in owners:
        lacking += [f"{name}.{method}" for method in _METHODS[name] if not callable(getattr(owner, method, None))]
        code: Any = getattr(owner.__init__, "__code__", None)
        lacking += [f"{name}.{field}" for field in _FIELDS[name] if code is None or field not in code.co_names]
    return lacking


MISSING: Final = missing()
if MISSING:
    logger.warning(
        "this uvicorn lacks %s; streams use the plain path, and connections have its own bounds", ", ".join(MISSING)
    )
