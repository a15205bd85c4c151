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
from .asgi.exact_counter import ExactCounter
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
from .delivery.node import Node
from .delivery.node_rpc import NodeRpc
from .delivery.quotas import Quotas
from .delivery.revocations import Revocations
from .extras import MissingPackage, needed
from .hub_settings import HubSettings
from .identity_sources.bearer import Bearer
from .identity_sources.sessions import LoginSessions
from .identity_sources.tickets import Tickets
from .lifecycle import Lifecycle
from .storage import Retention
from .storage.store import Store
from .stream import reasons
from .stream.connection import Connection
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
    revocations: Revocations
    quotas: Quotas
    counter: ExactCounter
    tickets: Tickets
    sessions: LoginSessions
    authorizer: Authorizer
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
    node_events = _NodeEvents()
    node = Node(
        engine.broker(retention),
        clock,
        settings,
        store=store,
        keep_family_alive=node_events.keep_family_alive,
        on_reconnect=node_events.on_reconnect,
        audit=audit,
    )
    rpc = NodeRpc(store, node.id)
    revocations = Revocations(store, clock, node, rpc)
    quotas = Quotas(store, node, rpc, clock, settings.limits)
    tickets = Tickets(
        store,
        clock,
        ttl=settings.ticket_ttl,
        grace=settings.ticket_grace,
        resume_ttl=settings.resume_ttl,
        node=node.id,
    )
    node_events.node, node_events.tickets, node_events.revocations = node, tickets, revocations
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
        quotas=quotas,
        revocations=revocations,
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
        revocations=revocations,
        quotas=quotas,
        counter=ExactCounter(store),
        tickets=tickets,
        sessions=sessions,
        authorizer=authorizer,
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
        revocations=parts.revocations,
        quotas=parts.quotas,
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
    settings, clock, node, quotas = parts.settings, parts.clock, parts.node, parts.quotas
    authenticator = parts.authenticator
    sessions = SessionEndpoints(
        settings=settings,
        clock=clock,
        sessions=Sessions(
            settings=settings,
            clock=clock,
            node=node,
            quotas=quotas,
            counter=parts.counter,
            revocations=parts.revocations,
            sessions=parts.sessions,
        ),
        authenticator=authenticator,
    )
    throttle = None
    if parts.accounts is not None:
        throttle = LoginThrottle(parts.accounts, quotas, parts.counter, settings.limits)
    return routes(
        stats=node.stats,
        subscribe=Subscribe(
            settings=settings,
            clock=clock,
            node=node,
            rpc=parts.rpc,
            quotas=quotas,
            authorizer=parts.authorizer,
            tickets=parts.tickets,
            authenticator=authenticator,
        ),
        publish=PublishEndpoints(
            limits=settings.limits, clock=clock, node=node, quotas=quotas, authenticator=authenticator
        ),
        ticket=TicketEndpoint(
            settings=settings,
            clock=clock,
            audit=node.audit,
            quotas=quotas,
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
        refresh=RefreshEndpoint(limits=settings.limits, quotas=quotas, rpc=parts.rpc, authenticator=authenticator),
        admin=AdminEndpoints(
            settings=settings,
            clock=clock,
            node=node,
            rpc=parts.rpc,
            revocations=parts.revocations,
            authenticator=authenticator,
        ),
        health=HealthEndpoints(node, _metrics(node)),
        openapi=OpenApiEndpoint(settings, parts.credentials) if settings.openapi else None,
    )


class _NodeEvents:
    """What a node has done at certain times by parts that are made after it, because they are made with it."""

    node: Node
    tickets: Tickets
    revocations: Revocations

    async def keep_family_alive(self, connection: Connection) -> None:
        """Keep the family of a live stream alive; end the stream if the family has gone on to another hub (W14)."""
        family = connection.subscription.identity.family
        if family is not None and await self.tickets.touch(family) not in (None, self.node.id):
            self.node.close(connection, reasons.SUPERSEDED)

    async def on_reconnect(self) -> None:
        """Hear of every revocation again: the store's log may have begun anew while it was away (W17)."""
        await self.revocations.follow(anew=True)


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
