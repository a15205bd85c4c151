"""One reader and its connections over time: when to connect, what to hand out, when to stop. No I/O, no clock.

The rules, most of them the HTML standard's (sections 9.2.3 and 9.2.4), some stricter or kinder:

- A stream is a 200 with ``text/event-stream``. Another type, a 204 and any redirect are the end: a hub never
  redirects, so the address is wrong, and following would send the credential to wherever it points.
- ``Last-Event-ID`` carries the last id of a complete block. It is sticky over blocks and over connections, and
  UTF-8 on the wire.
- 401 asks for a fresh credential: at once the first time, after a growing wait then, and the third in a row is
  the end. 408, 425, 429, 5xx and a network that fails are waited out with full jitter; ``Retry-After`` is the
  earliest moment and the jitter comes on top, as others were sent away with the same number. Any other status is
  the end.
- A stream that ends is taken up again after its reconnection time (``retry``). If it brought neither an event nor
  an ``auth`` it counts as a failure: only those make the waits short again, a mere 200 does not.
- A ``bye`` ends the stream there and then: with ``reconnect`` false for good, else until the reconnection time is
  over. The longest reconnection time there is means the same as ``reconnect`` false (W37), for it can be all that
  came through. After ``auth: expired`` the next connection wants a fresh credential.
- Silence longer than three heartbeats is the network's fault: the shell reports it with `ReaderSession.lost`.
- An event over the decoder's bound is the end: it would come again after every reconnect.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import msgspec

from ..errors import InvalidInput, SsealError, WireError
from ..wire import DEFAULT_MAX_EVENT, MAX_RETRY, Decoder, Event
from .backoff import Backoff
from .problem import Answer, error_of

__all__ = [
    "IDLE_TIMEOUT",
    "RECONNECTION_TIME",
    "TABLE",
    "Action",
    "Bye",
    "Control",
    "Deliver",
    "Gap",
    "GiveUp",
    "Input",
    "ReaderSession",
    "Reconnect",
    "State",
    "StreamClosed",
    "StreamIdentity",
]

IDLE_TIMEOUT: Final = 45.0
"""Seconds of silence after which a connection counts as dead: three heartbeats of 15 s."""
RECONNECTION_TIME: Final = 3.0
"""Seconds before a stream that ended is taken up again, until it says otherwise."""
MAX_UNAUTHORIZED: Final = 3
"""401 in a row that end a session: the credential at hand, a fresh one, and one more for a race with its issuer."""
MAX_SECONDS: Final = 2**53
"""Unix seconds that are believed: what every float holds exactly."""

_LATER: Final = frozenset((408, 425, 429))
_LINE_EXTRA: Final = 1024  # the name of a field beside its value


class State(Enum):
    """Where a session is."""

    WAITING = auto()  # no connection; the last `Reconnect` says when
    CONNECTING = auto()  # a request is out
    OPEN = auto()  # its stream is being read
    CLOSED = auto()  # for good


class Input(Enum):
    """What can happen to it."""

    CONNECT = auto()  # a request goes out
    ACCEPTED = auto()  # it was answered with a stream
    LOST = auto()  # refused for now, ended, cut, silent
    FINISHED = auto()  # refused for good, sent away, closed


TABLE: Final[dict[tuple[State, Input], State]] = {
    (State.WAITING, Input.CONNECT): State.CONNECTING,
    (State.WAITING, Input.ACCEPTED): State.WAITING,
    (State.WAITING, Input.LOST): State.WAITING,
    (State.WAITING, Input.FINISHED): State.CLOSED,
    (State.CONNECTING, Input.CONNECT): State.CONNECTING,
    (State.CONNECTING, Input.ACCEPTED): State.OPEN,
    (State.CONNECTING, Input.LOST): State.WAITING,
    (State.CONNECTING, Input.FINISHED): State.CLOSED,
    (State.OPEN, Input.CONNECT): State.OPEN,
    (State.OPEN, Input.ACCEPTED): State.OPEN,
    (State.OPEN, Input.LOST): State.WAITING,
    (State.OPEN, Input.FINISHED): State.CLOSED,
    (State.CLOSED, Input.CONNECT): State.CLOSED,
    (State.CLOSED, Input.ACCEPTED): State.CLOSED,
    (State.CLOSED, Input.LOST): State.CLOSED,
    (State.CLOSED, Input.FINISHED): State.CLOSED,
}
"""Every input in every state. One that leaves the state as it is has no effect and causes no action."""


class StreamClosed(SsealError):  # noqa: N818 - an end, not always a fault
    """The stream is over and will not be taken up again.

    ``reason`` is the one of the hub's ``bye``, or ``redirected``, ``no_content``, ``not_an_event_stream``,
    ``stay_away`` (the longest reconnection time without a ``bye``), ``closed`` (by its reader).
    """

    code = "stream_closed"

    def __init__(self, reason: str, detail: str = "", *, reconnect: bool = False) -> None:
        super().__init__(detail or f"the stream was closed: {reason}")
        self.reason = reason
        self.reconnect = reconnect


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamIdentity:
    """What the last ``auth`` event said (spec/protocol.md section 4.1).

    :param session: valid, expiring, refreshed, expired or revoked.
    :param connection: the name ``POST /auth/refresh`` wants.
    :param subject: None on an anonymous stream.
    :param topics: what was granted.
    :param expires_at: Unix seconds; None if the identity does not expire.
    """

    session: str
    connection: str
    subject: str | None
    topics: tuple[str, ...]
    expires_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Events between two positions cannot be had any more: fetch the current state by other means.

    :param start: the position before the gap; None when none was known.
    :param end: the position the stream continues after.
    :param reason: trimmed, unknown_position, ahead or other_epoch.
    """

    start: str | None
    end: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bye:
    """The hub ends the stream."""

    reason: str
    reconnect: bool


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand this event to the application."""

    event: Event


@dataclass(frozen=True, slots=True)
class Control:
    """Note what the hub itself said; ``last_event_id`` is the cursor after it."""

    told: StreamIdentity | Gap | Bye
    last_event_id: str


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Let go of the connection, wait, and connect again.

    :param after: seconds to wait.
    :param headers: what the request carries beside its credential.
    :param renew: whether to get a fresh credential first.
    :param why: a short name for the log.
    """

    after: float
    headers: tuple[tuple[bytes, bytes], ...]
    renew: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Let go of the connection and raise the error; there will be no other action."""

    error: SsealError


Action = Deliver | Control | Reconnect | GiveUp


class ReaderSession:
    """The rules above, applied to what one shell reports.

    Every method returns the actions to take, in order. What does not fit the state (a late end of a connection
    already given up, say) causes none.

    :param last_event_id: where to start: an id a stream has sent.
    :param reconnection_time: seconds, until a stream sends ``retry``.
    :param max_event: bytes in the data of one event.
    :param max_unauthorized: 401 in a row that are the end.
    :raises InvalidInput: a bound is not positive, or the id cannot stand in a header.
    """

    def __init__(
        self,
        *,
        last_event_id: str = "",
        reconnection_time: float = RECONNECTION_TIME,
        max_event: int = DEFAULT_MAX_EVENT,
        max_unauthorized: int = MAX_UNAUTHORIZED,
        backoff: Backoff | None = None,
    ) -> None:
        if not _sendable(last_event_id):
            raise InvalidInput("last_event_id", "holds a character that cannot stand in a header")
        if max_event < 1:
            raise InvalidInput("max_event", f"must be at least 1 byte, is {max_event}")
        self.state = State.WAITING
        self.last_event_id = last_event_id
        """The id of the last complete block whose event was handed out."""
        self.reconnection_time = reconnection_time
        """Seconds between the end of a stream and the next connection."""
        self._max_event = max_event
        self._max_unauthorized = max_unauthorized
        self._backoff = Backoff() if backoff is None else backoff
        self._decoder = self._new_decoder()
        self._healthy = False  # the stream that is open has sent an event
        self._unauthorized = 0  # answers 401 in a row
        self._stale = False  # the credential is known to be no longer good

    def first(self) -> Reconnect:
        """Return what to do first: connect at once."""
        return self._reconnect(0.0, "start")

    def connect(self) -> None:
        """Note that a request goes out.

        :raises RuntimeError: one is out already, a stream is open, or the session is closed.
        """
        if self.state is not State.WAITING:
            raise RuntimeError(f"connect in state {self.state.name}; only one connection at a time")
        self.state = TABLE[self.state, Input.CONNECT]
        self._stale = False  # this request carries the fresh credential that was asked for

    def respond(self, answer: Answer, random01: float, *, renewable: bool = False) -> list[Action]:
        """Take the head of a response, or the refusal of a credential the request needs first.

        :param random01: a fresh random number from 0 to 1, here and everywhere.
        :param renewable: whether a 401 can be met with another credential.
        """
        if self.state is not State.CONNECTING:
            return []
        status = answer.status
        if status == 200 and answer.media_type == "text/event-stream":
            self.state = TABLE[self.state, Input.ACCEPTED]
            self._decoder = self._new_decoder()
            self._healthy = False
            self._unauthorized = 0
            return []
        if status == 401:
            return self._refuse_credential(answer, random01, renewable)
        if status in _LATER or 500 <= status <= 599:
            earliest = 0.0 if answer.retry_after is None else max(0.0, answer.retry_after)
            return self._retry(earliest + self._backoff.next(random01), f"status {status}")
        return self._finish(_refusal(answer))

    def receive(self, data: bytes, random01: float) -> list[Action]:
        """Take bytes of the stream, however they were cut."""
        if self.state is not State.OPEN:
            return []
        try:
            events = self._decoder.feed(data)
        except WireError as error:
            return self._finish(error)
        if self._decoder.retry is not None:
            self.reconnection_time = self._decoder.retry / 1000
        actions: list[Action] = []
        for event in events:
            self.last_event_id = event.last_event_id
            told = _control(event)
            if isinstance(told, Bye):
                # Whatever stands after a bye is no part of the stream, and must not move the cursor.
                return [*actions, Control(told, self.last_event_id), *self._leave(told, random01)]
            self._well(told)
            actions.append(Deliver(event) if told is None else Control(told, self.last_event_id))
        self.last_event_id = self._decoder.last_event_id  # [spec] a block without data moves it too
        if self._decoder.error is not None:
            actions += self._finish(self._decoder.error)
        return actions

    def lost(self, why: str, random01: float) -> list[Action]:
        """Take the end of the connection: ended, cut, never made, or silent for the idle timeout.

        :param why: a short name for the log.
        """
        if self.state is State.CONNECTING:
            return self._retry(self._backoff.next(random01), why)
        if self.state is State.OPEN:
            return self._again(why, random01)
        return []

    def close(self) -> None:
        """End it from this side; no action follows."""
        self.state = TABLE[self.state, Input.FINISHED]

    def _refuse_credential(self, answer: Answer, random01: float, renewable: bool) -> list[Action]:
        self._unauthorized += 1
        if not renewable or self._unauthorized >= self._max_unauthorized:
            return self._finish(error_of(answer))
        self._stale = True
        wait = 0.0 if self._unauthorized == 1 else self._backoff.next(random01)
        return self._retry(wait, "status 401")

    def _well(self, told: StreamIdentity | Gap | None) -> None:
        """Note that the stream carries something of worth."""
        if isinstance(told, Gap):
            return
        if told is not None and told.session == "expired":
            self._stale = True
        self._healthy = True
        self._backoff.reset()

    def _leave(self, bye: Bye, random01: float) -> list[Action]:
        if bye.reconnect:
            return self._again(f"bye {bye.reason!r}", random01)
        return self._finish(StreamClosed(bye.reason))

    def _again(self, why: str, random01: float) -> list[Action]:
        """Take up a stream that was open, after its reconnection time."""
        if self.reconnection_time * 1000 >= MAX_RETRY:
            return self._finish(StreamClosed("stay_away", "the hub asked its readers not to come back"))
        wait = max(self.reconnection_time, self._backoff.minimum)
        if not self._healthy:
            wait = max(wait, self._backoff.next(random01))
        return self._retry(wait, why)

    def _retry(self, after: float, why: str) -> list[Action]:
        self.state = TABLE[self.state, Input.LOST]
        return [self._reconnect(after, why)]

    def _finish(self, error: SsealError) -> list[Action]:
        self.state = TABLE[self.state, Input.FINISHED]
        return [GiveUp(error)]

    def _reconnect(self, after: float, why: str) -> Reconnect:
        headers = [(b"accept", b"text/event-stream, application/problem+json"), (b"cache-control", b"no-cache")]
        # A header value has no white space at its ends; an id may have, and the receiver would strip it anyway.
        if cursor := self.last_event_id.strip(" \t"):
            headers.append((b"last-event-id", cursor.encode()))
        return Reconnect(after, tuple(headers), self._stale, why)

    def _new_decoder(self) -> Decoder:
        return Decoder(self._max_event + _LINE_EXTRA, self._max_event, last_event_id=self.last_event_id)


def _sendable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return all((char >= " " and char != "\x7f") or char == "\t" for char in text)


def _refusal(answer: Answer) -> SsealError:
    """Return why a response that is no stream is the end."""
    status = answer.status
    if status == 200:
        kind = answer.media_type[:80] or "no type"
        return StreamClosed("not_an_event_stream", f"the answer is {kind!r}, not 'text/event-stream'; is this a hub?")
    if status == 204:
        return StreamClosed("no_content", "the server answered 204, which means: do not come back")
    if 300 <= status <= 399:
        return StreamClosed(
            "redirected", f"the server redirects ({status}), which a hub never does; give the hub's own address"
        )
    return error_of(answer)


def _control(event: Event) -> StreamIdentity | Gap | Bye | None:
    """Read a control event; None for an event of the application. A member of a wrong type counts as absent."""
    if event.type not in ("auth", "gap", "bye"):
        return None
    members = _members(event.data)
    if event.type == "bye":
        # Without a clear word to stay away, a reader comes back.
        return Bye(reason=_text(members, "reason") or "", reconnect=members.get("reconnect") is not False)
    if event.type == "gap":
        end = _text(members, "to") or event.last_event_id
        return Gap(start=_text(members, "from"), end=end, reason=_text(members, "reason") or "")
    topics = members.get("topics")
    expires_at = members.get("expires_at")
    if type(expires_at) is int and abs(expires_at) <= MAX_SECONDS:
        expires_at = float(expires_at)
    return StreamIdentity(
        session=_text(members, "session") or "",
        connection=_text(members, "connection") or "",
        subject=_text(members, "subject"),
        topics=tuple(t for t in topics if isinstance(t, str)) if isinstance(topics, list) else (),
        expires_at=expires_at if isinstance(expires_at, float) else None,
    )


def _members(data: str) -> dict[str, Any]:
    try:
        members = msgspec.json.decode(data.encode())
    except (msgspec.DecodeError, RecursionError):
        return {}
    return members if isinstance(members, dict) else {}


def _text(members: dict[str, Any], name: str) -> str | None:
    value = members.get(name)
    return value if isinstance(value, str) else None
