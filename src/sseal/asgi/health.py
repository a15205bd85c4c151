"""``/healthz``, ``/readyz`` and ``/metrics``."""

from __future__ import annotations

from starlette.types import Receive, Scope

from ..errors import NotFound, Unavailable
from ..extras import MissingPackage
from .bodies import HealthAnswer, ReadyAnswer
from .responses import Answer
from .services import Services

__all__ = ["HealthEndpoints"]


class HealthEndpoints:
    """What a load balancer and a monitor ask; no credential, nothing secret."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def live(self, scope: Scope, receive: Receive) -> Answer:
        """``GET /healthz``: the event loop runs."""
        del scope, receive
        return Answer(200, HealthAnswer())

    async def ready(self, scope: Scope, receive: Receive) -> Answer:
        """``GET /readyz``: a canary went through the broker and back."""
        del scope, receive
        node = self._services.node
        if node.draining:
            raise Unavailable("the hub is shutting down", code="draining", retry_after=5.0)
        seconds = await node.canary()
        return Answer(200, ReadyAnswer(canary_seconds=round(seconds, 6), streams=len(node.connections)))

    async def metrics(self, scope: Scope, receive: Receive) -> Answer:
        """``GET /metrics``: Prometheus text; 404 without the package that writes it."""
        del scope, receive
        if self._services.metrics is None:
            raise NotFound(MissingPackage("/metrics", "prometheus-client", "server").detail)
        raw, media = self._services.metrics()
        return Answer(200, raw=raw, media=media)
