"""The hub that applications use."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from .auth.revocation import Revocation
from .authorizer import Authorize
from .clock import Clock, SystemClock
from .errors import InvalidInput, Unavailable
from .hub_settings import HubSettings
from .publisher import publication
from .stream import reasons

if TYPE_CHECKING:
    from .asgi.authentication import Authenticate

__all__ = ["Hub"]


class Hub:
    """A hub of authenticated event streams, ready to be mounted: ``app.mount("/sse", hub.asgi)``.

    It starts on first use in the running event loop, because a mounted app gets no lifespan (W39); use
    `lifespan` to start and stop it with the host.

    :param settings: see `HubSettings`.
    :param authenticate: the app's own authentication, asked after all other auth methods: an async function
        that takes a Starlette ``HTTPConnection`` and returns an `Identity`, or None when the request carries nothing it
        knows.
    :param authorize: decides at every connect, resume and refresh what an identity may read: an async function
        that takes the identity and the topics, and returns True, False, the topics allowed, or a mapping from
        topic to ``since`` (Unix seconds, or None).
    :param clock: where time comes from; for tests.
    :raises InvalidInput: a setting is wrong; names it.
    :raises MissingPackage: a setting needs a package that is not installed; names both, and what to type.
    """

    def __init__(
        self,
        settings: HubSettings | None = None,
        *,
        authenticate: Authenticate | None = None,
        authorize: Authorize | None = None,
        clock: Clock | None = None,
    ) -> None:
        # With the first hub and not with its name: a third of the import, which type checkers, tools and tests that
        # only name `Hub` need not wait for.
        from .wiring import build_app, build_lifecycle, build_parts

        self.settings = settings or HubSettings()
        self._parts = build_parts(self.settings, clock or SystemClock(), authenticate=authenticate, authorize=authorize)
        self._lifecycle = build_lifecycle(self._parts)
        self.node = self._parts.node
        self.asgi = build_app(self._parts, self._lifecycle)

    async def start(self) -> None:
        """Start in the running event loop; does nothing when started.

        :raises Unavailable: log or store cannot be reached, which is tried again with the next call; it was started
            in another event loop; or it is one of several workers on a log that each keeps for itself (W30).
        :raises InvalidInput: log or store can be reached and not be used; names the setting.
        """
        await self._lifecycle.start()

    async def drain(self) -> None:
        """Refuse new streams and end all open ones with ``bye``, spread over ``drain_window`` seconds."""
        await self.node.drain()

    async def aclose(self) -> None:
        """Drain and let go of everything; it cannot be started again."""
        await self._lifecycle.stop()

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Start and stop with the host: ``FastAPI(lifespan=hub.lifespan)``. Optional."""
        del app
        await self.start()
        try:
            yield
        finally:
            await self.aclose()

    async def publish(
        self,
        topic: str | Sequence[str],
        data: object,
        *,
        event: str = "message",
        ttl: float | None = None,
        key: str | None = None,
        retry: int | None = None,
    ) -> str:
        """Publish one event; return its id ``<epoch>-<offset>``. Waits while delivery is overloaded (W29).

        :param topic: an exact topic, or several: still one event, delivered once to each reader (W27).
        :param data: text is sent as it is, anything else as JSON.
        :param event: the event type.
        :param ttl: seconds until it is no longer worth reading.
        :param key: idempotency key: the same key with the same content is published once in 24 h.
        :param retry: milliseconds readers shall wait before they reconnect, 500 to 60,000.
        :raises InvalidInput: a field is wrong; names it.
        :raises Conflict: the key was used with other content.
        :raises Unavailable: the log cannot take it now; nothing was published, unless the code is ``outcome_unknown``:
            then it may have been, and the same ``key`` makes it safe to repeat.
        """
        await self.start()
        made = publication(
            topic, data, event=event, ttl=ttl, key=key, retry=retry, scope=("", ""), limits=self.settings.limits
        )
        (position,) = await self.node.publish([made])
        return str(position)

    def publish_threadsafe(
        self,
        topic: str | Sequence[str],
        data: object,
        *,
        event: str = "message",
        ttl: float | None = None,
        key: str | None = None,
        retry: int | None = None,
    ) -> Future[str]:
        """Publish from another thread, such as a sync route; ``.result()`` waits for the id. Arguments as in `publish`.

        :raises Unavailable: the hub has not started, so there is no event loop to publish in; or this was called in
            the hub's own event loop, where ``.result()`` would wait for itself.
        """
        loop = self._lifecycle.loop
        if loop is None or not loop.is_running():
            raise Unavailable("the hub has not started yet; use hub.lifespan, or publish from an async route first")
        with contextlib.suppress(RuntimeError):
            if asyncio.get_running_loop() is loop:
                raise Unavailable("this is the hub's own event loop; await hub.publish() instead")
        publishing = self.publish(topic, data, event=event, ttl=ttl, key=key, retry=retry)
        return asyncio.run_coroutine_threadsafe(publishing, loop)

    async def revoke(self, *, subject: str | None = None, issuer: str | None = None, jti: str | None = None) -> int:
        """End what was issued to a subject until now, or one token, and all that derives from it.

        :returns: how many streams ended here.
        :raises InvalidInput: neither or both were given.
        :raises Unavailable: the store could not keep it. It is in force all the same, at every hub that can be reached.
        """
        if (subject is None) == (jti is None):
            raise InvalidInput("subject", "give either subject or jti")
        await self.start()
        now = self._parts.clock.wall()
        ends = now + self.settings.revocation_ttl
        if jti is not None:
            revocation = Revocation(kind="token", value=f"jti:{jti}", at=now, expires_at=ends)
        else:
            revocation = Revocation(kind="subject", value=str(subject), issuer=issuer, at=now, expires_at=ends)
        return await self.node.revocations.apply(revocation)

    def position(self) -> str:
        """Return the position at the head: render a page from your database, then stream from here."""
        return str(self.node.position)

    def connections(self, subject: str | None = None) -> list[str]:
        """Return the ids of the open streams, of one subject or all."""
        return [
            key
            for key, connection in self.node.connections.items()
            if subject is None or connection.subscription.identity.subject == subject
        ]

    def disconnect(self, connection_id: str, *, quietly: bool = False) -> bool:
        """End one stream here; its client may come back. Return whether there was one.

        :param quietly: cut it without a word, as a network does.
        """
        connection = self.node.connections.get(connection_id)
        if connection is None:
            return False
        self.node.close(connection, reasons.CUT if quietly else reasons.KICKED)
        return True
