"""``sseal publish`` and ``sseal listen``: a hub's client at the command line."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec
import typer

from .. import client
from ..auth.origin import is_loopback
from ..client import Gap
from ..errors import CredentialMissing, InvalidInput, NotFound, SsealError
from ..sources import refuse_misspelt, seconds
from ..wire import Event
from .output import AsJson, escaped, hint, say, say_json

__all__ = ["VARIABLES", "listen", "publish"]

VARIABLES: Final = ("url", "token")
"""What these commands read from the environment."""

Url = Annotated[str, typer.Option(envvar="SSEAL_URL", help="Base address of the hub.", metavar="URL")]
BearerToken = Annotated[
    str | None, typer.Option(envvar="SSEAL_TOKEN", help="A JWT, see `sseal token`.", metavar="JWT", show_default=False)
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Send the token over plain http to another machine all the same.")
]
DEFAULT_URL = "http://127.0.0.1:8000"
_FLAGS: Final = {"url": "--url", "token": "--token", "ticket": "--ticket", "last_event_id": "--last-event-id"}
"""What an argument of the client is called here."""
_REMEDY: Final = "add --token JWT, or set SSEAL_TOKEN; `sseal token` makes one"


def publish(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="The topic.", show_default=False)],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="The data: JSON if it is some, else text; - reads stdin.")
    ],
    event: Annotated[str | None, typer.Option(help="The event type.", show_default="message", metavar="TYPE")] = None,
    ttl: Annotated[
        str | None,
        typer.Option(
            help="How long it is worth reading: seconds, or 15m, 1h, 2d.", metavar="DURATION", show_default=False
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: repeating the command publishes once.", metavar="TEXT")
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Send DATA as text even if it is JSON.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: BearerToken = None,
    insecure: Insecure = False,
) -> None:
    """Publish one event and print its id."""
    content = sys.stdin.read().removesuffix("\n") if data == "-" else data
    value: object = content
    if not text:
        try:
            value = msgspec.json.decode(content)
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
            value = content
    life = None if ttl is None else seconds("--ttl", ttl)
    _check(url, token, insecure=insecure)
    with _in_words_of_the_command_line(token):
        ids = asyncio.run(client.publish(url, token, topic, value, event=event, ttl=life, key=key, insecure=insecure))
    for position in ids:
        if as_json:
            say_json(id=position)
        else:
            say(position)


def listen(
    topics: Annotated[
        list[str] | None,
        typer.Argument(metavar="TOPIC", help="Topics or patterns; none means one's own user/NAME."),
    ] = None,
    url: Url = DEFAULT_URL,
    token: BearerToken = None,
    ticket: Annotated[
        bool, typer.Option("--ticket", help="Get in with a one-time ticket bought with the token.")
    ] = False,
    last_event_id: Annotated[
        str | None, typer.Option(help="Go on after this id.", metavar="ID", show_default="what is new")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line: id, topic, type, data.")] = False,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many events.", metavar="NUMBER")] = None,
    insecure: Insecure = False,
) -> None:
    """Print events as they come; reconnects by itself. Ctrl-C ends it."""
    _check(url, token, insecure=insecure)
    told = logging.StreamHandler()
    told.setFormatter(logging.Formatter("sseal: %(message)s"))
    logger = logging.getLogger("sseal.client")
    logger.addHandler(told)
    logger.setLevel(logging.INFO)
    if ticket and not token:
        raise InvalidInput("--ticket", f"is bought with a token; {_REMEDY}")
    with _in_words_of_the_command_line(token):
        stream = client.connect(
            url,
            topics=topics or (),
            token=token,
            ticket=ticket,
            last_event_id=last_event_id,
            on_gap=_tell_gap,
            insecure=insecure,
        )
        asyncio.run(_print_events(stream, as_json=as_json, count=count))


@contextmanager
def _in_words_of_the_command_line(token: str | None) -> Iterator[None]:
    """Say of an error which flag it is about, where the client says which argument."""
    try:
        yield
    except InvalidInput as error:
        if error.field not in _FLAGS:
            raise
        raise InvalidInput(_FLAGS[error.field], error.problem) from None
    except CredentialMissing as error:
        if token:
            raise
        raise CredentialMissing(f"{error.detail}: {_REMEDY}") from None
    except NotFound as error:
        raise SsealError(f"{error.detail}; is --url the address of a hub?", code="not_a_hub") from None


def _check(url: str, token: str | None, *, insecure: bool) -> None:
    """Refuse a token over plain http in the words of the command line; the client has the rest of the rules."""
    refuse_misspelt(VARIABLES)
    parts = urlsplit(url)
    if token and parts.scheme == "http" and not insecure and not is_loopback(parts.hostname or ""):
        raise InvalidInput("--url", "is plain http: everybody on the way could read the token. Use https or --insecure")


async def _print_events(stream: client.EventStream, *, as_json: bool, count: int | None) -> None:
    async with stream:
        hint("listening")
        async for event in stream:
            if as_json:
                say_json(id=_position(event), topic=event.topic, type=event.type, data=event.data)
            else:
                say(_as_lines(event))
            if count is not None:
                count -= 1
                if not count:
                    return


def _tell_gap(gap: Gap) -> None:
    hint(f"gap: events were missed before {gap.end} ({gap.reason})")


def _position(event: Event) -> str:
    """Return the id without the resume token, which is a credential."""
    return event.last_event_id.rpartition("_")[2]


def _as_lines(event: Event) -> str:
    lines = event.data.split("\n")
    if sys.stdout.isatty():
        lines = [escaped(line) for line in lines]
    kind = "" if event.type == "message" else f" {escaped(event.type)}:"
    return f"{_position(event)} {escaped(event.topic or '-')}{kind} " + "\n  ".join(lines)
