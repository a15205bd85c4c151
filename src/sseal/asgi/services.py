"""What the endpoints work with, put together by `sseal.hub.Hub`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from starlette.requests import HTTPConnection

from ..auth.credential import CredentialPolicy
from ..auth.identity import Identity
from ..auth.origin import OriginPolicy
from ..auth.revocation import Revocation
from ..authorizer import Authorizer
from ..clock import Clock
from ..delivery.admission import Admission
from ..delivery.node import Node
from ..delivery.node_rpc import NodeRpc
from ..delivery.throttling import Throttling
from ..hub_settings import HubSettings
from ..identity_sources.sessions import LoginSessions
from ..identity_sources.tickets import Tickets

if TYPE_CHECKING:
    from ..identity_sources.accounts import Accounts

__all__ = ["Authenticate", "Services", "TokenVerifier"]

Authenticate = Callable[[HTTPConnection], Awaitable[Identity | None]]
"""The app's own way in: an identity, or None when the request carries nothing it knows."""


class TokenVerifier(Protocol):
    """Whoever can turn a JWT into an identity."""

    async def verify(self, token: str, now: float, auth_method: str = "bearer") -> Identity:
        """Verify; see `sseal.identity_sources.bearer.Bearer.verify`."""
        ...


@dataclass(slots=True, kw_only=True)
class Services:
    """The parts of one hub that its HTTP interface needs."""

    settings: HubSettings
    clock: Clock
    node: Node
    policy: CredentialPolicy
    origins: OriginPolicy
    authorizer: Authorizer
    tickets: Tickets
    sessions: LoginSessions
    revoke: Callable[[Revocation], Awaitable[int]]
    rpc: NodeRpc
    admission: Admission
    throttling: Throttling
    bearer: TokenVerifier | None = None
    accounts: Accounts | None = None
    authenticate: Authenticate | None = None
    redacted: Callable[[], bool] = lambda: False
    metrics: Callable[[], tuple[bytes, str]] | None = None
