"""The commands put together, and how each of them ends."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ..errors import SsealError
from ..extras import needed
from .exit_codes import EXIT_CODES, FAILED, INTERRUPTED, WRONG_INPUT, exit_code
from .lazy import CONTEXT, MARKUP, Lazy, LazyGroup
from .output import AsJson, say, say_json

__all__ = ["COMMANDS", "app", "run"]

COMMANDS = {
    "serve": Lazy("serving", "serve", "Run a hub on its own, beside an app in any language."),
    "demo": Lazy("serving", "demo", "Show everything on one page in the browser.", extra="demo"),
    "token": Lazy("tokens", "token", "Print a JWT, signed with the newest jwt_secret of the settings."),
    "publish": Lazy("streams", "publish", "Publish one event and print its id."),
    "listen": Lazy("streams", "listen", "Print events as they come; reconnects by itself."),
    "user": Lazy("accounts", "app", "Add, remove and list the hub's own accounts."),
    "version": Lazy("app", "version", "Print the version."),
}


class _Commands(LazyGroup):
    commands_at = COMMANDS


app = typer.Typer(
    name="sseal",
    help="Server-sent events that stay authenticated from the first byte to the last reconnect.",
    epilog="Start with `sseal demo`. `sseal COMMAND --help` explains a command.\n\nExit codes:\n\n"
    + "\n".join(f"* {code} - {meaning}" for code, meaning in EXIT_CODES.items()),
    cls=_Commands,
    context_settings=CONTEXT,
    rich_markup_mode=MARKUP,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def version(as_json: AsJson = False) -> None:
    """Print the version."""
    from importlib.metadata import version as installed  # loads the whole of `email`, for this command alone

    if as_json:
        say_json(version=installed("sseal"))
    else:
        say(f"sseal {installed('sseal')}")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.", show_default=False)] = False,
) -> None:
    if context.invoked_subcommand is not None:
        return
    if show_version:
        version()
    else:
        say(context.get_help())


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code, see `EXIT_CODES`; every error is one line on stderr."""
    name = arguments[0] if arguments and arguments[0] in COMMANDS else ""
    try:
        with needed(f"sseal {name}".strip(), COMMANDS[name].extra if name else "server"):
            code = app(args=arguments, prog_name="sseal", standalone_mode=False)
    except typer.TyperException as error:
        _complain(error.format_message())
        print("Try `sseal --help`, or `sseal COMMAND --help`.", file=sys.stderr)
        return WRONG_INPUT
    except SsealError as error:
        _complain(error.detail)
        return exit_code(error)
    except OSError as error:
        _complain(f"{error.filename or 'the system'}: {error.strerror or error}")
        return FAILED
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _complain(text: str) -> None:
    print(f"sseal: error: {text}", file=sys.stderr)
