"""How a command ends, as a script sees it: the table of exit codes, and which errors get which."""

from __future__ import annotations

from typing import Final

from ..errors import InvalidInput, NotFound, SsealError, TooManyRequests, Unavailable

__all__ = ["BROKEN_PIPE", "EXIT_CODES", "FAILED", "INTERRUPTED", "WRONG_INPUT", "exit_code"]

FAILED: Final = 1
WRONG_INPUT: Final = 2
REFUSED: Final = 3
UNREACHABLE: Final = 4
INTERRUPTED: Final = 130
"""128 and the number of SIGINT."""
BROKEN_PIPE: Final = 141
"""What a shell reports of a program whose reader has gone: 128 and the number of SIGPIPE."""

EXIT_CODES: Final = {
    0: "done",
    FAILED: "failed: a file, the log or the store cannot be used, a port is taken, the hub has a fault",
    WRONG_INPUT: "wrong input: a flag, an argument or a setting",
    REFUSED: "refused by the hub: who you are, or what you may do",
    UNREACHABLE: "unreachable: no hub answers at that address, or it is too busy",
    INTERRUPTED: "ended by Ctrl-C",
    BROKEN_PIPE: "nobody reads the output any more",
}
"""Every exit code and its meaning; docs/reference/cli.md has the same table."""

_REFUSALS: Final = (401, 403, 409, 421)
_NO_HUB: Final = ("not_a_hub", "not_an_event_stream", "redirected", "no_content")
"""Codes and reasons of an answer that no hub gives."""


def exit_code(error: SsealError) -> int:
    """Return the exit code of an error."""
    if error.code == "not_started":
        return FAILED  # whatever it is called: the settings were read, and the machine says no
    if isinstance(error, InvalidInput | NotFound) or error.code == "settings_refused":
        return WRONG_INPUT
    if error.status in _REFUSALS:
        return REFUSED
    if isinstance(error, TooManyRequests | Unavailable) or error.code in _NO_HUB:
        return UNREACHABLE
    if error.code == "stream_closed":  # for good: by a hub, or by what answers there instead
        return UNREACHABLE if getattr(error, "reason", "") in _NO_HUB else REFUSED
    return FAILED
