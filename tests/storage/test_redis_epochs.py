"""How many epochs a change on the server makes, when several hubs learn of it one after the other (W10)."""

from __future__ import annotations

from pathlib import Path

import pytest

from redis_logs import open_redis_hubs, publication, until
from redis_servers import ENGINES, RedisServer, redis_server


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_first_replica_makes_one_new_epoch_at_most(tmp_path: Path, engine: str) -> None:
    """A primary whose data's id changes under two hubs that publish gets one epoch for it, not one per publish.

    The id changes when a first replica joins. One hub sees it at its next check; the other must not take what it
    still knows for the truth, or each takes the log back from the other until the lineage is full.
    """
    with redis_server(tmp_path / "primary", engine) as primary, redis_server(tmp_path / "replica", engine) as replica:
        async with open_redis_hubs(primary) as redis_hubs:
            early = await redis_hubs.hub(check_interval=0.05)
            late = await redis_hubs.hub(check_interval=3600.0)
            await early.broker.publish([publication("t")])
            first = early.broker.lineage.epoch
            before = replication_id(primary)
            replica.command("REPLICAOF", "127.0.0.1", str(primary.port))
            await until(lambda: replication_id(primary) != before)
            await until(lambda: early.broker.lineage.epoch != first)
            for _ in range(10):
                await late.broker.publish([publication("t")])
                await early.broker.publish([publication("t")])
            assert early.broker.lineage == late.broker.lineage
            assert early.broker.lineage.older == ((first, 1),)


def replication_id(server: RedisServer) -> str:
    """Return the id of a server's data."""
    return next(
        line for line in server.command("INFO", "replication").splitlines() if line.startswith("master_replid:")
    )
