"""fastapi.sse as its documentation uses it, with a token check as a dependency."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Annotated

from common import Rooms, arguments, serve, verify
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

app = FastAPI()
rooms = Rooms()


async def subject(authorization: Annotated[str | None, Header()] = None) -> str:
    """Return who asks."""
    found = verify(authorization)
    if found is None:
        raise HTTPException(401)
    return found


class Event(BaseModel):
    """What is published."""

    topic: str
    data: str


@app.get("/events", response_class=EventSourceResponse)
async def events(who: Annotated[str, Depends(subject)]) -> AsyncIterable[ServerSentEvent]:
    """Stream the common topic and the reader's own."""
    topics = ["common", f"user/{who}"]
    queue = rooms.join(topics)
    yield ServerSentEvent(comment="open")
    async for number, data in rooms.read(queue, topics):
        yield ServerSentEvent(raw_data=data, id=number)


@app.post("/events", status_code=201, dependencies=[Depends(subject)])
async def publish(event: Event) -> dict[str, str]:
    """Publish one event."""
    rooms.publish(event.topic, event.data)
    return {}


if __name__ == "__main__":
    serve(app, arguments().parse_args().port)
