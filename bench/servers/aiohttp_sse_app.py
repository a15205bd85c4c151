"""aiohttp-sse as its documentation uses it, with a token check, on aiohttp's own server with uvloop."""

from __future__ import annotations

import uvloop
from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response
from common import Rooms, arguments, verify

rooms = Rooms()


async def events(request: web.Request) -> EventSourceResponse:
    """Stream the common topic and the reader's own."""
    subject = verify(request.headers.get("Authorization"))
    if subject is None:
        raise web.HTTPUnauthorized
    topics = ["common", f"user/{subject}"]
    queue = rooms.join(topics)
    async with sse_response(request) as response:
        async for number, data in rooms.read(queue, topics):
            await response.send(data, id=number)
    return response


async def publish(request: web.Request) -> web.Response:
    """Publish one event."""
    if verify(request.headers.get("Authorization")) is None:
        raise web.HTTPUnauthorized
    body = await request.json()
    rooms.publish(body["topic"], body["data"])
    return web.json_response({}, status=201)


if __name__ == "__main__":
    port = arguments().parse_args().port
    app = web.Application()
    app.add_routes([web.get("/events", events), web.post("/events", publish)])
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=port, backlog=4096, access_log=None, print=None)
