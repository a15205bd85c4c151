"""Every engine keeps every promise of `Store`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import Engine, Place, Servers, combinations, running_servers
from sseal.testing import STORE_CHECKS, Check


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers that the checks use one after the other."""
    with running_servers(tmp_path_factory.mktemp("servers")) as servers:
        yield servers


@pytest.mark.parametrize(("engine", "check"), combinations(STORE_CHECKS))
async def test_conformance(engine: Engine, check: Check, tmp_path: Path, servers: Servers) -> None:
    """A check of the suite holds on an engine."""
    async with engine.make(check.retention, Place(tmp_path, servers)) as fixture:
        await check(fixture)
