"""What a hub is built from, and what each part is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.routing import Route

from . import storage
from .asgi.admin import AdminEndpoints
from .asgi.app import HubApp
from .asgi.authentication import Authenticate, Authenticator
from .asgi.health import HealthEndpoints, MetricsExporter
from .asgi.login import LoginEndpoint
from .asgi.login_throttle import LoginThrottle
from .asgi.node_commands import NodeCommands
from .asgi.openapi_endpoint import OpenApiEndpoint
from .asgi.publish import PublishEndpoints
from .asgi.refresh import RefreshEndpoint
from .asgi.routes import routes
from .asgi.sessions import SessionEndpoints, Sessions
from .asgi.subscribe import Subscribe
from .asgi.tickets import TicketEndpoint
from .audit import Audit
from .auth.credential import AuthMethod, CredentialPolicy
from .auth.jwt import JwtVerifier
from .auth.origin import OriginPolicy
from .authorizer import Authorize, Authorizer
from .clock import Clock
from .delivery.admission import Admission
from .delivery.limit_exchange import LimitExchange
from .delivery.node import Node
from .delivery.node_rpc import NodeRpc, new_node_id
from .delivery.stream_limits import StreamLimits
from .delivery.throttling import Throttling
from .extras import MissingPackage, needed
from .hub_settings import HubSettings
from .identity_sources.bearer import Bearer
from .identity_sources.sessions import LoginSessions
from .identity_sources.tickets import Tickets
from .lifecycle import Lifecycle
from .storage import Retention
from .storage.store import Store
from .telemetry import redaction

if TYPE_CHECKING:
    from .identity_sources.accounts import Accounts
    from .identity_sources.jwks import JwksSource

__all__ = ["HubParts", "build_app", "build_lifecycle", "build_parts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubParts:
    """The parts of one hub; only this module and the facade see them together."""

    settings: HubSettings
    clock: Clock
    store: Store
    node: Node
    rpc: NodeRpc
    throttling: Throttling
    stream_limits: StreamLimits
    limit_exchange: LimitExchange
    tickets: Tickets
    sessions: LoginSessions
    authorizer: Authorizer
    admission: Admission
    origins: OriginPolicy
    credentials: CredentialPolicy
    authenticator: Authenticator
    accounts: Accounts | None
    jwks: JwksSource | None


def build_parts(
    settings: HubSettings, clock: Clock, *, authenticate: Authenticate | None, authorize: Authorize | None
) -> HubParts:
    """Build the parts of a hub; nothing is opened or started.

    :raises InvalidInput: a setting is wrong; names it.
    :raises MissingPackage: a setting needs a package that is not installed.
    """
    audit = Audit(redaction.redact)
    engine = storage.open(settings.broker, clock)
    same = settings.store is None or settings.store == settings.broker
    store = (engine if same else storage.open(settings.store or "", clock, "store")).store()
    verifier, jwks = _jwt(settings, clock, audit)
    retention = Retention(count=settings.log_count, age=settings.log_age, size=settings.log_size)
    rpc = NodeRpc(store, new_node_id())
    tickets = Tickets(
        store,
        clock,
        ttl=settings.ticket_ttl,
        grace=settings.ticket_grace,
        resume_ttl=settings.resume_ttl,
        node=rpc.node_id,
    )
    node = Node(engine.broker(retention), store, rpc, clock, settings, families=tickets, audit=audit)
    throttling = Throttling(store, clock, settings.limits)
    stream_limits = StreamLimits(store, node.streams, rpc, clock, settings.limits)
    sessions = LoginSessions(store, clock, ttl=settings.session_ttl)
    authorizer = Authorizer(authorize, settings.public_topics, max_topics=settings.limits.topics_per_stream)
    NodeCommands(node=node, rpc=rpc, authorizer=authorizer, tickets=tickets, clock=clock)
    origins = OriginPolicy(settings.allowed_origins)
    credentials = CredentialPolicy(
        auth_methods=_open_auth_methods(settings, has_keys=verifier is not None, has_custom=authenticate is not None),
        session_cookie=settings.session_cookie,
        jwt_cookie=settings.cookie_name if verifier is not None else None,
    )
    accounts = _accounts(settings)
    authenticator = Authenticator(
        settings=settings,
        clock=clock,
        node=node,
        policy=credentials,
        origins=origins,
        throttling=throttling,
        tickets=tickets,
        sessions=sessions,
        bearer=verifier,
        accounts=accounts,
        authenticate=authenticate,
        redacted=redaction.installed,
    )
    return HubParts(
        settings=settings,
        clock=clock,
        store=store,
        node=node,
        rpc=rpc,
        throttling=throttling,
        stream_limits=stream_limits,
        limit_exchange=LimitExchange(store, throttling.rates, stream_limits, clock),
        tickets=tickets,
        sessions=sessions,
        authorizer=authorizer,
        admission=Admission(node, authorizer, tickets, throttling, stream_limits, rpc),
        origins=origins,
        credentials=credentials,
        authenticator=authenticator,
        accounts=accounts,
        jwks=jwks,
    )


def build_lifecycle(parts: HubParts) -> Lifecycle:
    """Build what starts and stops the parts."""
    return Lifecycle(
        settings=parts.settings,
        clock=parts.clock,
        store=parts.store,
        node=parts.node,
        rpc=parts.rpc,
        limit_exchange=parts.limit_exchange,
        jwks=parts.jwks,
        accounts=parts.accounts,
    )


def build_app(parts: HubParts, lifecycle: Lifecycle) -> HubApp:
    """Build the ASGI app."""
    return HubApp(
        _routes(parts),
        settings=parts.settings,
        origins=parts.origins,
        audit=parts.node.audit,
        lifecycle=lifecycle,
    )


def _routes(parts: HubParts) -> list[Route]:
    """Build the endpoints, each with what it needs."""
    settings, clock, node, throttling = parts.settings, parts.clock, parts.node, parts.throttling
    authenticator = parts.authenticator
    sessions = SessionEndpoints(
        settings=settings,
        clock=clock,
        sessions=Sessions(
            settings=settings,
            clock=clock,
            node=node,
            throttling=throttling,
            sessions=parts.sessions,
        ),
        authenticator=authenticator,
    )
    throttle = None
    if parts.accounts is not None:
        throttle = LoginThrottle(parts.accounts, throttling, settings.limits)
    return routes(
        stats=node.stats,
        subscribe=Subscribe(parts.admission, authenticator, node, retry_ms=settings.retry_ms),
        publish=PublishEndpoints(
            limits=settings.limits, clock=clock, node=node, throttling=throttling, authenticator=authenticator
        ),
        ticket=TicketEndpoint(
            settings=settings,
            clock=clock,
            audit=node.audit,
            throttling=throttling,
            authorizer=parts.authorizer,
            tickets=parts.tickets,
            authenticator=authenticator,
        ),
        login=LoginEndpoint(
            settings=settings,
            clock=clock,
            audit=node.audit,
            throttle=throttle,
            sessions=sessions,
            authenticator=authenticator,
        ),
        session=sessions,
        refresh=RefreshEndpoint(throttling=throttling, rpc=parts.rpc, authenticator=authenticator),
        admin=AdminEndpoints(
            settings=settings,
            clock=clock,
            node=node,
            rpc=parts.rpc,
            authenticator=authenticator,
        ),
        health=HealthEndpoints(node, _metrics(node)),
        openapi=OpenApiEndpoint(settings, parts.credentials) if settings.openapi else None,
    )


def _jwt(settings: HubSettings, clock: Clock, audit: Audit) -> tuple[Bearer | None, JwksSource | None]:
    """Build what verifies JWTs, and what reads keys for that from an address; None for what is not configured."""
    if not (settings.jwt_secret or settings.jwt_public_key or settings.jwt_jwks_url):
        return None, None
    verifier = JwtVerifier(
        secrets=settings.jwt_secret,
        public_keys=settings.jwt_public_key,
        algorithms=settings.jwt_algorithms or None,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience or None,
        leeway=settings.jwt_leeway,
        subject_claim=settings.subject_claim,
        grants_claim=settings.grants_claim,
    )
    jwks = None
    if settings.jwt_jwks_url is not None:
        with needed("jwt_jwks_url", "server"):
            from .identity_sources.jwks import JwksSource
        jwks = JwksSource(settings.jwt_jwks_url, verifier, clock, audit=audit)
    return Bearer(verifier, jwks), jwks


def _accounts(settings: HubSettings) -> Accounts | None:
    if settings.accounts is None:
        return None
    with needed("accounts", "server"):
        from .identity_sources.accounts import Accounts
    return Accounts(Path(settings.accounts))


def _metrics(node: Node) -> MetricsExporter | None:
    try:
        with needed("/metrics", "server"):
            from .telemetry.metrics import exporter
    except MissingPackage:
        return None
    return exporter(node)


def _open_auth_methods(settings: HubSettings, *, has_keys: bool, has_custom: bool) -> frozenset[AuthMethod]:
    """Return the auth methods that are both enabled and possible."""
    closed: set[AuthMethod] = set()
    if not has_keys:
        closed |= {"bearer", "query"}
    if not has_custom:
        closed.add("custom")
    return frozenset(settings.credentials) - closed
