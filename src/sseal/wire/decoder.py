"""Bytes to events, however the network cut them."""

from __future__ import annotations

from typing import Final

from ..errors import InvalidInput, WireError
from .event import MAX_RETRY, Event

__all__ = ["DEFAULT_MAX_EVENT", "DEFAULT_MAX_LINE", "Decoder"]

DEFAULT_MAX_LINE: Final = 1024 * 1024
"""Bytes in one line: room for any JSON one would push, and what an endless line may cost its reader."""
DEFAULT_MAX_EVENT: Final = 4 * 1024 * 1024
"""Bytes in the data of one event: four of the longest lines; more belongs behind a link in the event."""

_BOM: Final = b"\xef\xbb\xbf"
_CR, _LF, _COLON = b"\r\n:"
_MAX_RETRY_DIGITS: Final = len(str(MAX_RETRY))


class Decoder:
    """An incremental decoder of one event stream (HTML standard sections 9.2.5 and 9.2.6).

    It gives the same events wherever the stream is cut, and each as soon as its last byte is there. Beyond
    the standard it records the ``topic`` field, and ignores a ``retry`` above 2147483647 ms as a browser's
    timer could not hold it. What follows the last blank line of a stream is no event and needs no call.

    A line or an event above its bound ends the decoder. Events that were complete before are still handed out
    (their ids have moved the cursor, so they would be lost otherwise) and the next call raises; `error` tells
    at once.

    :param max_line: bytes in a line without its end.
    :param max_event: bytes in the data of an event, line feeds between its lines included.
    :param last_event_id: the cursor a resumed stream starts with; an id of the stream replaces it.
    :raises InvalidInput: a bound is not positive.
    """

    __slots__ = (
        "_after_cr",
        "_data",
        "_has_data",
        "_id",
        "_id_buffer",
        "_line",
        "_max_event",
        "_max_line",
        "_retry",
        "_start",
        "_topic",
        "_type",
        "error",
        "last_event_id",
        "retry",
    )

    def __init__(
        self,
        max_line: int = DEFAULT_MAX_LINE,
        max_event: int = DEFAULT_MAX_EVENT,
        *,
        last_event_id: str = "",
    ) -> None:
        for name, bound in (("max_line", max_line), ("max_event", max_event)):
            if bound < 1:
                raise InvalidInput(name, f"must be at least 1 byte, is {bound}")
        self.last_event_id = last_event_id
        """What to send as ``Last-Event-ID`` when reconnecting; moves only when a block is complete."""
        self.retry: int | None = None
        """The reconnection time in milliseconds the stream asked for last."""
        self.error: WireError | None = None
        """Why the decoder has ended, once it has."""
        self._max_line = max_line
        self._max_event = max_event
        self._start: bytes | None = b""  # what came before it was clear whether the stream begins with a BOM
        self._after_cr = False
        self._line = bytearray()  # the beginning of one that is not complete
        self._id_buffer = last_event_id  # [spec] sticky: the end of a block does not reset it
        self._has_data = False
        # What the block that is being read has said so far.
        self._data = bytearray()
        self._type = ""
        self._id: str | None = None
        self._retry: int | None = None
        self._topic: str | None = None

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that are complete with this piece of the stream.

        :raises WireError: a bound is exceeded, now or in an earlier call; the text names the bound.
        """
        if self.error is not None:
            raise WireError(self.error.detail)
        events: list[Event] = []
        try:
            self._take(self._trim(chunk), events)
        except WireError as error:
            self.error = error
            self._line.clear()
            self._clear()
            if not events:
                raise
        return events

    def _trim(self, chunk: bytes) -> bytes:
        """Take away a BOM at the very start, and a LF whose CR was the end of the previous chunk."""
        if self._start is not None:
            chunk = self._start + chunk
            if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
                self._start = chunk
                return b""
            self._start = None
            return chunk.removeprefix(_BOM)  # [spec] one leading BOM is ignored, a second is text
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[0] == _LF:
                return chunk[1:]
        return chunk

    def _take(self, chunk: bytes, events: list[Event]) -> None:
        """Run over the lines a chunk completes and keep what is left of it."""
        if not chunk:
            return
        # [spec] lines end with CRLF, LF or CR: exactly where bytes (unlike str) splits. A CR ends its line at
        # once; waiting for the LF that may follow would hold back a complete event.
        lines = chunk.splitlines()
        self._after_cr = chunk[-1] == _CR
        rest = b"" if chunk[-1] in (_CR, _LF) else lines.pop()
        if lines and self._line:
            self._extend(lines[0])
            lines[0] = bytes(self._line)
            self._line.clear()
        for line in lines:
            if len(line) > self._max_line:
                self._too_long()
            if line:
                self._field(line)
            else:
                self._dispatch(events)
        self._extend(rest)

    def _extend(self, piece: bytes) -> None:
        """Add a piece to the line that is still open, unless that makes it too long."""
        if len(self._line) + len(piece) > self._max_line:
            self._too_long()
        self._line += piece

    def _too_long(self) -> None:
        raise WireError(f"a line is longer than {self._max_line} bytes; give Decoder a larger max_line")

    def _field(self, line: bytes) -> None:
        """Interpret one line that is not blank."""
        if line[0] == _COLON:
            return  # [spec] a comment
        name, _, value = line.partition(b":")  # [spec] without a colon the whole line is the name
        value = value.removeprefix(b" ")  # [spec] one space, not all
        match name:
            case b"data":
                self._add_data(value)
            case b"event":
                self._type = value.decode("utf-8", "replace")
            case b"id":
                if b"\0" not in value:  # [spec] an id with NUL is ignored
                    self._id = self._id_buffer = value.decode("utf-8", "replace")
            case b"retry":
                self._set_retry(value)
            case b"topic":
                self._topic = value.decode("utf-8", "replace")
            case _:
                pass  # [spec] other fields, and other spellings of these, are ignored

    def _add_data(self, value: bytes) -> None:
        """Append one line of data; the bytes are decoded together, as no LF is inside a UTF-8 sequence."""
        if self._has_data:
            value = b"\n" + value
        if len(self._data) + len(value) > self._max_event:
            raise WireError(f"an event's data is longer than {self._max_event} bytes; give Decoder a larger max_event")
        self._has_data = True
        self._data += value

    def _set_retry(self, value: bytes) -> None:
        """Take a reconnection time; it holds from here on, even if its block is never completed."""
        if not value.isdigit():  # [spec] only ASCII digits; bytes.isdigit knows no others
            return
        digits = value.lstrip(b"0") or b"0"
        if len(digits) <= _MAX_RETRY_DIGITS and int(digits) <= MAX_RETRY:
            self._retry = self.retry = int(digits)

    def _dispatch(self, events: list[Event]) -> None:
        """End a block: move the cursor, and report an event if there was any data line."""
        self.last_event_id = self._id_buffer  # [spec] also when nothing is dispatched
        if self._has_data:
            events.append(
                Event(
                    type=self._type or "message",
                    data=self._data.decode("utf-8", "replace"),
                    id=self._id,
                    retry=self._retry,
                    topic=self._topic,
                    last_event_id=self.last_event_id,
                )
            )
        self._clear()

    def _clear(self) -> None:
        """Start the next block."""
        self._has_data = False
        self._data.clear()
        self._type = ""
        self._id = self._retry = self._topic = None
