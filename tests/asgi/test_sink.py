"""The sink of the plain path, where it is closed before it has begun."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sseal.asgi.sink import PlainSink


class Owner:
    """Nobody who wants to know."""

    close_timeout = 0.05

    def on_drained(self, connection: Any) -> None:
        """Nothing is left to write."""

    def on_disconnect(self, connection: Any) -> None:
        """Nothing is to be taken out."""


async def never() -> Any:
    """Wait for ever, as for a client that stays."""
    await asyncio.Event().wait()


@pytest.mark.parametrize("reads", [True, False])
async def test_a_stream_that_ended_before_it_began_is_still_sent(reads: bool) -> None:
    """What was taken goes out, and then the end; a client that takes nothing is waited for no longer than any other."""
    sink = PlainSink(b"first ", Owner(), None)  # type: ignore[arg-type]
    sink.write(b"last")
    sink.close()
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        if not reads:
            await never()
        sent.append(message)

    await asyncio.wait_for(sink.run(never, send), 10.0)
    body = b"".join(message["body"] for message in sent)
    assert body == (b"first last" if reads else b"")
    assert [message["more_body"] for message in sent] == ([True, False] if reads else [])
