"""Commands that are loaded when they are called, and values that need no conversion.

`sseal token` in a script shall cost little more than the libraries it signs with. So the group knows of each command
its name and one sentence, and imports the module of the one that is called. And where Typer hands every value to
pydantic, whose import takes as long as everything else together, a value that is what its parameter asks for already
is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Final, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

__all__ = ["CONTEXT", "MARKUP", "Lazy", "LazyGroup", "QuickCommand"]

CONTEXT: Final = {"help_option_names": ["-h", "--help"]}
MARKUP: Final = "markdown"


@dataclass(frozen=True, slots=True)
class Lazy:
    """Where a command is.

    :param module: its module in this package.
    :param attribute: the function there, or a `typer.Typer` with commands of its own.
    :param help: the first sentence of its docstring, for the list of commands.
    :param extra: the extra of sseal it needs.
    """

    module: str
    attribute: str
    help: str
    extra: str = "server"

    def load(self, name: str) -> Any:
        """Import it and return the command Typer makes of it."""
        found = getattr(import_module(f".{self.module}", __package__), self.attribute)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(context_settings=CONTEXT, rich_markup_mode=MARKUP, add_completion=False)
            alone.command(name, cls=QuickCommand)(found)
            found = alone
        return get_command(found)


def _is_ready(parameter: Any, value: object) -> bool:
    """Tell whether a value is of its parameter's type already, with nothing left to check.

    Numbers and paths come from the command line as text and go the usual way, with their bounds; so does all of it
    when a version of Typer does not say what the type is.
    """
    declared = getattr(parameter, "type_descriptor", None)
    if declared is None:
        return False
    if value is None:
        return not parameter.required
    if declared.parameter_info.parser is not None or declared.is_path:
        return False
    wanted = declared.annotation
    if get_origin(wanted) is list:
        wanted = get_args(wanted)[0]
        return wanted is str and isinstance(value, tuple | list) and all(type(item) is str for item in value)
    return wanted in (str, bool, int, float) and type(value) is wanted


def _shortened(parameter: Any) -> Callable[[Any, Any], Any]:
    """Return ``process_value`` of a parameter with the conversion left out where there is nothing to convert."""
    usual: Callable[[Any, Any], Any] = parameter.process_value

    def process_value(ctx: Any, value: Any) -> Any:
        if not _is_ready(parameter, value):
            return usual(ctx, value)
        if value is None and (parameter.multiple or parameter.nargs == -1):
            value = ()
        return value if parameter.callback is None else parameter.callback(ctx, parameter, value)

    return process_value


def _shorten(parameters: list[Any]) -> list[Any]:
    for each in parameters:
        if "process_value" not in vars(each):
            each.process_value = _shortened(each)
    return parameters


class QuickCommand(TyperCommand):
    """A command that converts only what needs it."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, ``--help`` included."""
        return _shorten(super().get_params(ctx))


class LazyGroup(TyperGroup):
    """A group that lists its commands without loading them.

    :cvar commands_at: where each command is, in the order of the list.
    """

    commands_at: ClassVar[Mapping[str, Lazy]] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, lazy in self.commands_at.items():
            self.add_command(TyperCommand(name, help=lazy.help))

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, ``--help`` included."""
        return _shorten(super().get_params(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that is called, loaded."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else self.commands_at[name].load(name), rest
