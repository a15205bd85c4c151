"""SIGTERM and SIGINT end streams first, and then do what they did before (W34)."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

from .delivery.node import Node

__all__ = ["SignalChain"]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

SignalHandler = Callable[[int, FrameType | None], object] | int | None
"""What `signal.getsignal` returns."""


class SignalChain:
    """Drains a node on SIGTERM and SIGINT, then lets the handler that was there before go on.

    :param node: whose streams are ended.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._loop: asyncio.AbstractEventLoop | None = None  # where draining runs; None until `install`
        self._previous: dict[int, SignalHandler] = {}  # the handlers this one replaced, by signal number
        self._draining: asyncio.Future[None] | None = None  # keeps the task from being collected

    def install(self) -> None:
        """Put this in front of the handlers there are; outside the main thread nothing happens."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            previous = signal.getsignal(number)
            if previous is not None:
                self._previous[number] = previous
                signal.signal(number, self._on_signal)

    def uninstall(self) -> None:
        """Put the previous handlers back, where nobody else has taken the place since."""
        for number, previous in self._previous.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, previous)
        self._previous.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        previous = self._previous.get(number, signal.SIG_DFL)
        if self._node.draining or self._loop is None or self._loop.is_closed():
            _call(previous, number, frame)
            return

        def begin() -> None:
            self._draining = asyncio.ensure_future(self._drain_then(previous, number))

        self._loop.call_soon_threadsafe(begin)

    async def _drain_then(self, previous: SignalHandler, number: int) -> None:
        try:
            await self._node.drain()
        finally:
            _call(previous, number, None)


def _call(handler: SignalHandler, number: int, frame: FrameType | None) -> None:
    if callable(handler):
        handler(number, frame)
    elif handler == signal.SIG_DFL:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
