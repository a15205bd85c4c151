"""sse-starlette as its documentation uses it, with a token check."""

from __future__ import annotations

from common import Rooms, arguments, serve, verify
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

rooms = Rooms()


async def events(request: Request) -> Response:
    """Stream the common topic and the reader's own."""
    subject = verify(request.headers.get("authorization"))
    if subject is None:
        return Response(status_code=401)
    topics = ["common", f"user/{subject}"]
    queue = rooms.join(topics)
    return EventSourceResponse(ServerSentEvent(data, id=number) async for number, data in rooms.read(queue, topics))


async def publish(request: Request) -> Response:
    """Publish one event."""
    if verify(request.headers.get("authorization")) is None:
        return Response(status_code=401)
    body = await request.json()
    rooms.publish(body["topic"], body["data"])
    return JSONResponse({}, status_code=201)


app = Starlette(routes=[Route("/events", events), Route("/events", publish, methods=["POST"])])

if __name__ == "__main__":
    serve(app, arguments().parse_args().port)
