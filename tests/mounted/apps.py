"""FastAPI apps that mount a hub, for the tests of this folder to serve."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from starlette.requests import HTTPConnection

from sseal import Grants, Hub, HubSettings, Identity


async def authenticate(connection: HTTPConnection) -> Identity | None:
    """Trust a header, as an app behind its own gateway would."""
    user = connection.headers.get("x-user")
    return None if user is None else Identity(subject=user, issuer="app", grants=Grants(publish=("user/*",)))


hub = Hub(HubSettings(retry_ms=1000), authenticate=authenticate)
app = FastAPI()


async def stamp(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Add a header, as the middleware of every second app does."""
    response = await call_next(request)
    response.headers["x-layer"] = response.headers.get("x-layer", "") + "+"
    return response


for _ in range(int(os.environ.get("LAYERS", "0"))):
    app.middleware("http")(stamp)
if os.environ.get("GZIP"):
    app.add_middleware(GZipMiddleware, minimum_size=10)
if os.environ.get("CORS"):
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["https://app.example"],
        allow_credentials=True,
        allow_headers=["Last-Event-ID", "Authorization"],
    )

app.mount("/sse", hub.asgi)


@app.post("/async/{user}")
async def publish_async(user: str) -> dict[str, str]:
    """Publish from an async route."""
    return {"id": await hub.publish(f"user/{user}", "from async")}


@app.post("/sync/{user}")
def publish_sync(user: str) -> dict[str, str]:
    """Publish from a sync route, in a thread."""
    return {"id": hub.publish_threadsafe(f"user/{user}", "from sync").result(timeout=5)}
