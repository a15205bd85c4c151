"""Every path of the HTTP interface, and the endpoint that answers it."""

from __future__ import annotations

from functools import partial

from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..delivery.stats import Stats
from .admin import AdminEndpoints
from .endpoint import Endpoint
from .health import HealthEndpoints
from .login import LoginEndpoint
from .openapi_endpoint import OpenApiEndpoint
from .publish import PublishEndpoints
from .refresh import RefreshEndpoint
from .sessions import SessionEndpoints
from .subscribe import Subscribe
from .tickets import TicketEndpoint

__all__ = ["routes"]


class _Events:
    """``/events``: a stream for GET, a publish for POST.

    One route and not two, of which the router would try the first in vain for each stream.
    """

    def __init__(self, subscribe: Subscribe, publish: Endpoint) -> None:
        self._subscribe = subscribe
        self._publish = publish

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self._publish if scope["method"] == "POST" else self._subscribe
        await app(scope, receive, send)


def routes(
    *,
    stats: Stats,
    subscribe: Subscribe,
    publish: PublishEndpoints,
    ticket: TicketEndpoint,
    login: LoginEndpoint,
    session: SessionEndpoints,
    refresh: RefreshEndpoint,
    admin: AdminEndpoints,
    health: HealthEndpoints,
    openapi: OpenApiEndpoint | None,
) -> list[Route]:
    """Return the routes.

    :param stats: counts what is refused.
    :param openapi: None when it is switched off.
    """
    endpoint = partial(Endpoint, stats)
    probe = partial(Endpoint, stats, read_query=False)
    events = _Events(subscribe, endpoint(POST=publish.events))
    return [
        Route("/events", events),
        Route("/events/", events),  # never redirects: an EventSource would reconnect to the target (W38)
        Route("/events/{ticket}", subscribe),
        Route("/auth/sse", endpoint(POST=ticket)),
        Route("/auth/login", endpoint(POST=login)),
        Route("/auth/session", endpoint(POST=session.open, DELETE=session.close)),
        Route("/auth/refresh", endpoint(POST=refresh)),
        Route("/notifications", endpoint(POST=publish.notifications)),
        Route("/admin/connections", endpoint(GET=admin.connections)),
        Route("/admin/connections/{id}", endpoint(DELETE=admin.disconnect)),
        Route("/admin/revocations", endpoint(POST=admin.revoke)),
        Route("/admin/stats", endpoint(GET=admin.stats)),
        Route("/healthz", probe(GET=health.live)),
        Route("/readyz", probe(GET=health.ready)),
        Route("/metrics", probe(GET=health.metrics)),
        *([Route("/openapi.json", endpoint(GET=openapi))] if openapi is not None else []),
    ]
