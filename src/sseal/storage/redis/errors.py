"""What goes wrong between a process and its server."""

from __future__ import annotations

__all__ = ["Lost"]


class Lost(Exception):  # noqa: N818 - a state, as those of sseal.errors
    """The connection is gone. Never reaches a caller of a broker or a store, who gets `Unavailable`.

    :param sent: whether the command had been written, so that the server may have run it.
    """

    def __init__(self, why: str, *, sent: bool = False) -> None:
        super().__init__(why)
        self.sent = sent
