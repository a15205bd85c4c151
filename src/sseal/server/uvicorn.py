"""The HTTP/1.1 server of the hub, for any app: ``uvicorn --http sseal.server.uvicorn:StreamProtocol app:app``.

The name to import; `sseal.server.protocol` has the protocol, `sseal.server.direct` the way out for streams. On a
uvicorn that lacks what they need (see `missing`), uvicorn's own protocol stands under this name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .connections import HttpLimits
from .uvicorn_internals import MISSING, missing

if TYPE_CHECKING or not MISSING:
    from .protocol import StreamProtocol
else:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol as StreamProtocol

__all__ = ["HttpLimits", "StreamProtocol", "missing"]
