"""Every engine keeps every promise of `Store`."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines import Engine, combinations
from sseal.testing import STORE_CHECKS, Check


@pytest.mark.parametrize(("engine", "check"), combinations(STORE_CHECKS))
async def test_conformance(engine: Engine, check: Check, tmp_path: Path) -> None:
    """A check of the suite holds on an engine."""
    async with engine.make(check.retention, tmp_path) as world:
        await check(world)
