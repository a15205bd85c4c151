"""Addresses of engines that several hubs can share, fresh for each test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from redis_servers import redis_server


@contextlib.contextmanager
def _sqlite(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder}/shared.db"


@contextlib.contextmanager
def _server(engine: str, folder: Path) -> Iterator[str]:
    with redis_server(folder / engine, engine) as server:
        yield server.url


ADDRESSES: dict[str, Callable[[Path], contextlib.AbstractContextManager[str]]] = {
    "sqlite": _sqlite,
    "redis": partial(_server, "redis"),
    "valkey": partial(_server, "valkey"),
}
