"""What was read from a client and waits for room: uvicorn's flow control with the bytes that are held."""

from __future__ import annotations

from .uvicorn_internals import FlowControl

__all__ = ["HoldingFlow"]


class HoldingFlow(FlowControl):
    """uvicorn's flow control, which reads no more for a body while bytes are held that were read already.

    :ivar held: those bytes; None while there are none.
    :ivar start: where in them the part begins that was not parsed yet.
    """

    held: bytes | None = None
    start = 0

    def hold(self, data: bytes, start: int) -> None:
        """Keep bytes from ``start`` on, and read no more."""
        self.held, self.start = data, start
        self.pause_reading()

    def add(self, data: bytes) -> int:
        """Keep more behind what is held; return how many bytes that makes."""
        assert self.held is not None
        self.held, self.start = self.held[self.start :] + data, 0
        return len(self.held)

    def release(self) -> tuple[bytes, int]:
        """Return what was held, and where its rest begins; nothing is held any more."""
        held, self.held = self.held or b"", None
        return held, self.start

    def resume_reading(self) -> None:
        """Read on, unless there is enough to parse."""
        if self.held is None:
            super().resume_reading()
