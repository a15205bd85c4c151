"""What commands print: results on stdout, everything else on stderr, and quiet when nobody reads it."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer

from .exit_codes import BROKEN_PIPE

__all__ = ["AsJson", "escaped", "hint", "say", "say_json"]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a line, for a script.")]


def say(text: str) -> None:
    """Print a result at once.

    :raises typer.Exit: nobody reads stdout any more.
    """
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(BROKEN_PIPE) from None


def say_json(**members: object) -> None:
    """Print a result as one line of JSON.

    :raises typer.Exit: nobody reads stdout any more.
    """
    say(json.dumps(members, ensure_ascii=False))


def hint(text: str) -> None:
    """Print a remark for a person."""
    print(f"sseal: {text}", file=sys.stderr, flush=True)


def escaped(text: str) -> str:
    """Return one line of foreign text without what would steer a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
