"""The commands put together, and how each of them ends."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from ..errors import SsealError
from . import accounts, serving, streams, tokens
from .output import say

__all__ = ["app", "main"]

INTERRUPTED = 130
"""128 and the number of SIGINT."""

app = typer.Typer(
    name="sseal",
    help="Server-sent events that stay authenticated from the first byte to the last reconnect.",
    epilog="Start with `sseal demo`. `sseal COMMAND --help` explains a command.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("serve")(serving.serve)
app.command("demo")(serving.demo)
app.command("token")(tokens.token)
app.command("publish")(streams.publish)
app.command("listen")(streams.listen)
app.add_typer(accounts.app, name="user")


def main() -> None:
    """Run the command line and exit."""
    sys.exit(_run(sys.argv[1:]))


@app.command()
def version() -> None:
    """Print the version."""
    say(f"sseal {installed_version('sseal')}")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.", show_default=False)] = False,
) -> None:
    if context.invoked_subcommand is None:
        say(f"sseal {installed_version('sseal')}" if show_version else context.get_help())


def _run(arguments: list[str]) -> int:
    """Run one command; every error is one line on stderr."""
    try:
        code = app(args=arguments, prog_name="sseal", standalone_mode=False)
    except typer.TyperException as error:
        _complain(error.format_message())
        print("Try `sseal --help`, or `sseal COMMAND --help`.", file=sys.stderr)
        return 2
    except SsealError as error:
        _complain(error.detail)
        return 1
    except OSError as error:
        _complain(f"{error.filename or 'the system'}: {error.strerror or error}")
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _complain(text: str) -> None:
    print(f"sseal: error: {text}", file=sys.stderr)
