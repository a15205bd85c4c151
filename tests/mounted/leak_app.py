"""An app that mounts a hub and can be told to collect its garbage."""

from __future__ import annotations

import gc

from fastapi import FastAPI
from starlette.requests import HTTPConnection

from sseal import Hub, HubSettings, Identity, Limits


async def authenticate(connection: HTTPConnection) -> Identity | None:
    """Trust a header."""
    user = connection.headers.get("x-user")
    return None if user is None else Identity(subject=user, issuer="app")


hub = Hub(HubSettings(limits=Limits(connects_per_minute_per_address=0)), authenticate=authenticate)
app = FastAPI()
app.mount("/sse", hub.asgi)


@app.post("/collect")
async def collect() -> int:
    """Collect garbage; return how many streams are open."""
    gc.collect()
    return len(hub.connections())
