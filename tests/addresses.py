"""Addresses of engines that several hubs can share, fresh for each test."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

ADDRESSES: dict[str, Callable[[Path], contextlib.AbstractAsyncContextManager[str]]] = {}


@contextlib.asynccontextmanager
async def _sqlite(folder: Path) -> AsyncIterator[str]:
    yield f"sqlite:///{folder}/shared.db"


ADDRESSES["sqlite"] = _sqlite
