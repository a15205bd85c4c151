"""``/healthz``, ``/readyz`` and ``/metrics``."""

from __future__ import annotations

from typing import Protocol

from ..delivery.node import Node
from ..errors import NotFound, Unavailable
from ..extras import MissingPackage
from .bodies import HealthAnswer, ReadyAnswer
from .requests import HubRequest
from .responses import JsonResponse

__all__ = ["HealthEndpoints", "MetricsExporter"]


class MetricsExporter(Protocol):
    """Whoever writes the metrics of a node."""

    def __call__(self) -> tuple[bytes, str]:
        """Return them, and their media type."""
        ...


class HealthEndpoints:
    """What a load balancer and a monitor ask; no credential, nothing secret.

    :param metrics: writes them; None when the package for that is not installed.
    """

    def __init__(self, node: Node, metrics: MetricsExporter | None) -> None:
        self._node = node
        self._metrics = metrics

    async def live(self, request: HubRequest) -> JsonResponse:
        """``GET /healthz``: the event loop runs."""
        del request
        return JsonResponse(HealthAnswer())

    async def ready(self, request: HubRequest) -> JsonResponse:
        """``GET /readyz``: a canary went through the broker and back."""
        del request
        if self._node.draining:
            raise Unavailable("the hub is shutting down", code="draining", retry_after=5.0)
        seconds = await self._node.canary()
        return JsonResponse(ReadyAnswer(canary_seconds=round(seconds, 6), streams=len(self._node.connections)))

    async def metrics(self, request: HubRequest) -> JsonResponse:
        """``GET /metrics``: Prometheus text; 404 without the package that writes it."""
        del request
        if self._metrics is None:
            raise NotFound(MissingPackage("/metrics", "prometheus-client", "server").detail)
        text, media_type = self._metrics()
        return JsonResponse(text, media_type=media_type)
