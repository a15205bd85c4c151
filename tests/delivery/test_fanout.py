"""The fan-out's rule (W5), position by position."""

from __future__ import annotations

import pytest

from delivery.harness import NodeHarness
from sseal.stream.states import Input


@pytest.mark.parametrize("live", [True, False], ids=["live", "catching up"])
@pytest.mark.parametrize("ahead", range(5))
async def test_a_frame_is_written_iff_live_and_above_the_position(ahead: int, live: bool) -> None:
    """Of a batch of three a stream is given what it has not, in one write, or nothing; its position never goes back."""
    async with NodeHarness() as world:
        reader = await world.read("a")
        connection, start = reader.connection, world.node.position.offset
        connection.skip_to(start + ahead)
        if not live:
            connection.apply(Input.STALLED)
        puts: list[bytes] = []
        reader.sink.put = puts.append  # type: ignore[method-assign]
        await world.publish("a", "1", "2", "3")
        await world.settle()
        missed = ["1", "2", "3"][ahead:] if live else []
        reader.sink.data += b"".join(puts)
        assert reader.data == missed
        assert len(puts) == bool(missed)
        assert connection.delivered == len(missed)
        assert connection.position == start + (max(ahead, 3) if live else ahead)
