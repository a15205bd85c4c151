"""A FastAPI app with its own login that mounts a hub.

Run it with ``uvicorn examples.fastapi_app:app`` and open http://localhost:8000/ in two windows.
"""

from __future__ import annotations

import secrets

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.requests import HTTPConnection

from sseal import Hub, HubSettings, Identity

SESSIONS: dict[str, str] = {}  # your app's sessions: cookie value → user id


async def authenticate(connection: HTTPConnection) -> Identity | None:
    """Read the app's own session; the hub has checked the Origin before it asks."""
    user = SESSIONS.get(connection.cookies.get("app_session", ""))
    return None if user is None else Identity(subject=user, issuer="app")


hub = Hub(HubSettings(public_topics=("public/**",)), authenticate=authenticate)
app = FastAPI()
app.mount("/sse", hub.asgi)


@app.post("/login/{user}")
async def login(user: str) -> Response:
    """Sign somebody in; yours checks a password."""
    session = secrets.token_urlsafe()
    SESSIONS[session] = user
    response = JSONResponse({"user": user})
    response.set_cookie("app_session", session, httponly=True, samesite="lax")
    return response


@app.post("/orders/{user}/{number}")
async def order(user: str, number: int) -> dict[str, str]:
    """Publish from an async route."""
    return {"id": await hub.publish(f"user/{user}", {"order": number}, event="order")}


@app.post("/reports/{user}")
def report(user: str) -> dict[str, str]:
    """Publish from a sync route, which FastAPI runs in a thread."""
    return {"id": hub.publish_threadsafe(f"user/{user}", {"report": "ready"}, event="report").result(timeout=5)}


@app.get("/")
async def page(request: Request) -> HTMLResponse:
    """Show the stream of whoever is signed in."""
    signed_in = SESSIONS.get(request.cookies.get("app_session", ""), "")
    return HTMLResponse(PAGE.replace("USER", signed_in or "nobody"))


PAGE = """<!doctype html>
<title>Orders</title>
<p>Signed in as <b>USER</b>.
<button onclick="fetch('/login/alice', {method: 'POST'}).then(() => location.reload())">be alice</button>
<button onclick="fetch('/login/bob', {method: 'POST'}).then(() => location.reload())">be bob</button>
<button onclick="fetch('/orders/alice/' + Date.now(), {method: 'POST'})">order for alice</button>
<ul id="list"></ul>
<script>
const show = (text) => { const li = document.createElement('li'); li.textContent = text; list.append(li); };
function open() {
  const source = new EventSource('/sse/events');
  source.addEventListener('auth', (e) => show('auth ' + e.data));
  source.addEventListener('order', (e) => show('order ' + e.data));
  // EventSource gives up for good on any status but 200: then ask again, here after signing in anew.
  source.onerror = () => { if (source.readyState === EventSource.CLOSED) show('closed: sign in'); };
}
open();
</script>
"""
