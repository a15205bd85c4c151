"""The life of a hub: started once, in one event loop, on first use; stopped in an order that loses nothing."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .clock import Clock
from .delivery.limit_exchange import LimitExchange
from .delivery.node import Node
from .delivery.node_rpc import NodeRpc
from .delivery.revocations import Revocations
from .errors import InvalidInput, SsealError, Unavailable
from .hub_settings import HubSettings
from .signals import SignalChain
from .single_worker import ensure_single_worker
from .storage.address import redact_url
from .storage.store import Store

if TYPE_CHECKING:
    from .identity_sources.accounts import Accounts
    from .identity_sources.jwks import JwksSource

__all__ = ["START_RETRY_INTERVAL", "Lifecycle"]

START_RETRY_INTERVAL: Final = 1.0
"""Seconds between two attempts to start with a log or store that cannot be reached."""

logger = logging.getLogger("sseal")


class Lifecycle:
    """Starts and stops the parts of one hub that need it."""

    def __init__(
        self,
        *,
        settings: HubSettings,
        clock: Clock,
        store: Store,
        node: Node,
        rpc: NodeRpc,
        limit_exchange: LimitExchange,
        jwks: JwksSource | None,
        accounts: Accounts | None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._store = store
        self._node = node
        self._rpc = rpc
        self._limit_exchange = limit_exchange
        self._jwks = jwks
        self._accounts = accounts
        self._signals = SignalChain(node)
        self.loop: asyncio.AbstractEventLoop | None = None  # where the hub runs; None until the first start
        self._starting: asyncio.Task[None] | None = None  # one start for all who wait for it; None to try again
        self._failed: tuple[float, SsealError] | None = None  # the last start that failed: when (monotonic), and why
        self._worker_lock: socket.socket | None = None

    async def start(self) -> None:
        """Start in the running event loop; does nothing when started.

        :raises Unavailable: log or store cannot be reached, which is tried again with the next call; it was started
            in another event loop; or it is one of several workers on a log that each keeps for itself (W30).
        :raises InvalidInput: log or store can be reached and not be used; names the setting.
        """
        loop = asyncio.get_running_loop()
        if self._node.started and self.loop is loop:
            return
        if self.loop is not None and self.loop is not loop:
            raise Unavailable("the hub runs in another event loop; make one Hub per loop", code="wrong_loop")
        if self._failed is not None and self._clock.monotonic() - self._failed[0] < START_RETRY_INTERVAL:
            raise self._failed[1]
        if self._starting is None:
            self.loop = loop
            self._starting = loop.create_task(self._start())
        await asyncio.shield(self._starting)

    async def stop(self) -> None:
        """Drain and let go of everything; it cannot be started again. Does nothing when not started."""
        if not self._node.started:
            return
        await self._node.drain()
        await self._rpc.close()
        await self._limit_exchange.close()
        await self._node.stop()
        if self._jwks is not None:
            await self._jwks.close()
        if self._accounts is not None:
            self._accounts.close()
        await self._store.close()
        self._signals.uninstall()
        if self._worker_lock is not None:
            self._worker_lock.close()

    async def _start(self) -> None:
        try:
            self._worker_lock = self._worker_lock or ensure_single_worker(self._settings)
            await self._store.open(self._node.id, _StoreEvents(self._node.revocations, self._rpc))
            await self._node.revocations.follow()
            if self._jwks is not None:
                await self._jwks.start()
            await self._node.start()
            self._limit_exchange.start()
        except Unavailable as error:
            self._on_failure(error)
            logger.warning("the hub cannot start yet: %s", error)
            raise
        except InvalidInput as error:
            named = error.field == "store" and self._settings.store is None  # then one setting stands for both
            shown_as = InvalidInput("broker", error.problem) if named else error
            self._on_failure(shown_as)
            logger.error("the hub cannot start: %s", shown_as)  # noqa: TRY400 - it names its own cause
            raise shown_as from None
        if self._settings.handle_signals:
            self._signals.install()
        logger.info("hub started", extra={"node": self._node.id, "broker": redact_url(self._settings.broker)})

    def _on_failure(self, error: SsealError) -> None:
        self._failed, self._starting = (self._clock.monotonic(), error), None


@dataclass(frozen=True, slots=True)
class _StoreEvents:
    """Passes on what the store tells the hub."""

    revocations: Revocations
    rpc: NodeRpc

    def on_revocations(self) -> None:
        """Read on in the log of revocations."""
        self.revocations.on_revocations()

    def on_message(self, body: bytes) -> None:
        """Take a message of another node."""
        self.rpc.on_message(body)
