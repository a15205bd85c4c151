"""Publishing from a process that has no hub: a task queue's worker, a sync view, a script (W40)."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from functools import cache
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

from ..errors import InvalidInput, Unavailable
from ..limits import Limits
from ..storage.address import engine_of, redact_url
from .publications import publication
from .thread import CLOSE_TIMEOUT, PublisherThread

__all__ = ["Publisher"]

_publishers: WeakSet[Publisher] = WeakSet()


class Publisher:
    """Publishes into the log of hubs that run elsewhere, from any thread and any event loop.

    One for a process is enough, at module level for instance: it opens the log on first use, reads nothing, and a
    process forked from this one opens it for itself. Who may publish is the program's own affair: no grants are
    asked.

    :param broker_url: the log of the hubs, as in their setting ``broker``: ``sqlite:///file``, ``redis://host``.
    :param limits: bounds of what is published; give those of the hubs if they have their own.
    :raises InvalidInput: the address is none, or ``memory://``.
    """

    def __init__(self, broker_url: str, *, limits: Limits | None = None) -> None:
        if engine_of(broker_url, "broker_url") == "memory":
            raise InvalidInput(
                "broker_url",
                "memory:// is a log inside one process, and what is published here would reach no stream; give the "
                "hubs a log to share (sqlite:///file, redis://host:6379), or call hub.publish in the hub's process",
            )
        self._address = broker_url
        self._limits = limits or Limits()
        self._lock = threading.Lock()  # around the two below: any thread may publish or close
        self._thread: PublisherThread | None = None  # None until something is published
        self._closed = False
        _watch_process()
        _publishers.add(self)

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
        """Publish one event; return its id ``<epoch>-<offset>`` once the log promises to keep it.

        :param topic: an exact topic, or several: still one event, delivered once to each reader (W27).
        :param data: text is sent as it is, anything else as JSON.
        :param event: the event type.
        :param ttl: seconds until it is no longer worth reading.
        :param key: idempotency key: the same key with the same content is published once in 24 h, whoever of the
            application publishes it.
        :param retry: milliseconds readers shall wait before they reconnect, 500 to 60,000.
        :raises InvalidInput: a field is wrong, or the log can be reached and not be used; names it.
        :raises Conflict: the key was used with other content.
        :raises Unavailable: the log cannot take it now, and has not; with ``code="outcome_unknown"`` it may have:
            repeat it with the same key.
        """
        future = self._submit(topic, data, event=event, ttl=ttl, key=key, retry=retry)
        (position,) = await asyncio.wrap_future(future)
        return position

    def publish_sync(
        self,
        topic: str | Sequence[str],
        data: object,
        *,
        event: str = "message",
        ttl: float | None = None,
        key: str | None = None,
        retry: int | None = None,
    ) -> str:
        """Publish one event from a thread without an event loop, and wait for its id; see `publish`.

        :raises InvalidInput: also in a thread that runs an event loop, which would stand still meanwhile.
        """
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop()
            raise InvalidInput("publish_sync", "would stop the event loop of this thread; use: await publish(...)")
        (position,) = self._submit(topic, data, event=event, ttl=ttl, key=key, retry=retry).result()
        return position

    async def close(self) -> None:
        """Finish what is being published and let go of the log, within 2 seconds; idempotent, and for good."""
        if (ended := self._end()) is not None:
            await asyncio.wait([asyncio.wrap_future(ended)], timeout=CLOSE_TIMEOUT)

    def close_sync(self) -> None:
        """Do the same from a thread without an event loop. The end of the process does it by itself."""
        if (ended := self._end()) is not None:
            _wait([ended])

    async def __aenter__(self) -> Self:
        """Return itself; the log is opened on first use."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()

    def __enter__(self) -> Self:
        """Return itself; the log is opened on first use."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close_sync()

    def __del__(self) -> None:
        """Let the thread end that nobody can reach any more; waits for nothing."""
        if (publisher_thread := getattr(self, "_thread", None)) is not None:
            publisher_thread.end()

    def __repr__(self) -> str:
        """Show the address without user and password."""
        return f"Publisher({redact_url(self._address)!r})"

    def _submit(self, topic: str | Sequence[str], data: object, **options: Any) -> Future[list[str]]:
        made = publication(topic, data, **options, scope=("", ""), limits=self._limits)
        with self._lock:
            if self._closed:
                raise Unavailable("the publisher is closed", code="broker_closed")
            if self._thread is None:
                self._thread = PublisherThread(self._address)
            return self._thread.publish([made])

    def _end(self) -> Future[None] | None:
        with self._lock:
            self._closed = True
            return None if self._thread is None else self._thread.end()


@cache
def _watch_process() -> None:
    """Close all publishers at the end of the process, and let go of the logs when it forks."""
    atexit.register(_close_all)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


def _close_all() -> None:
    _wait([ended for publisher in _publishers if (ended := publisher._end()) is not None])  # noqa: SLF001


# A connection must not be open in two processes: SQLite takes the locks of the parent for those of the child, and a
# TLS stream has one state. So it is closed before the fork, and both open their own when they publish again.

_forking: list[Publisher] = []
_fork_turn = threading.Lock()


def _before_fork() -> None:
    _fork_turn.acquire()
    _forking.extend(_publishers)
    for publisher in _forking:
        publisher._lock.acquire()  # noqa: SLF001
    _wait([publisher._thread.end() for publisher in _forking if publisher._thread is not None])  # noqa: SLF001


def _after_fork() -> None:
    for publisher in _forking:
        publisher._thread = None  # noqa: SLF001
        publisher._lock.release()  # noqa: SLF001
    _forking.clear()
    _fork_turn.release()


def _wait(ended: Sequence[Future[None]]) -> None:
    deadline = time.monotonic() + CLOSE_TIMEOUT
    for future in ended:
        with contextlib.suppress(TimeoutError):
            future.result(max(0.0, deadline - time.monotonic()))
