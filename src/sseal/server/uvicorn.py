"""The HTTP/1.1 server of the hub, for any app: ``uvicorn --http sseal.server.uvicorn:StreamProtocol app:app``.

The name to import; `sseal.server.protocol` has the protocol, `sseal.server.direct` the way out for streams.
"""

from __future__ import annotations

from .connections import HttpLimits
from .direct import MISSING, Direct, DirectSink, missing

if MISSING:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol as StreamProtocol
else:
    from .protocol import StreamProtocol

__all__ = ["Direct", "DirectSink", "HttpLimits", "StreamProtocol", "missing"]
