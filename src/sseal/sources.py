"""Where settings are written, as they are before anybody checks them: a TOML file, and texts of the environment.

This needs no pydantic, whose import takes longer than all the rest of `sseal token`. What that command has to know is
read here, by `signing`; `sseal.settings` reads and checks everything.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from .errors import InvalidInput

__all__ = ["DEFAULT_FILE", "NESTED", "PREFIX", "WHOLE", "Signing", "items", "read_file", "signing", "whole"]

DEFAULT_FILE: Final = "sseal.toml"
"""Read from the working directory when no other file is named."""
PREFIX: Final = "SSEAL_"
NESTED: Final = "__"
WHOLE: Final = ("jwt_secret", "jwt_public_key")
"""Lists whose items may contain a comma: one item as it is, or a JSON array."""
_SIMILAR: Final = 0.75
"""How alike two names are of which one may be the other misspelt: ``issuer`` and ``jwt_issuer`` just so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """What of `HubSettings` decides how a token looks; the same names, defaults and meanings."""

    jwt_secret: tuple[str, ...] = ()
    jwt_algorithms: tuple[str, ...] = ()
    jwt_issuer: str | None = None
    jwt_audience: tuple[str, ...] = ()
    subject_claim: str = "sub"
    grants_claim: str = "sseal"


def items(value: object) -> object:
    """Split a list given as text: a JSON array, or separated by commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return _json_array(value)
    return [item.strip() for item in value.split(",") if item.strip()]


def whole(value: object) -> object:
    """Read a list given as text: a JSON array, or one item with all its commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return _json_array(value)
    return [value] if value else []


def _json_array(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError("starts like a JSON array and is none") from None


def read_file(config: str | os.PathLike[str] | None) -> tuple[Path, dict[str, Any]]:
    """Return the path of the settings file and what is in it: nothing when no file is named and there is none.

    :param config: the file to read; else ``SSEAL_CONFIG``, else ``sseal.toml``.
    :raises InvalidInput: it cannot be read; says why.
    """
    named = config or os.environ.get(f"{PREFIX}CONFIG")
    path = Path(named or DEFAULT_FILE)
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise InvalidInput(str(path), "there is no such file") from None
        return path, {}
    except OSError as error:
        raise InvalidInput(str(path), f"cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InvalidInput(str(path), "is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(str(path), f"is not TOML: {error}") from None


def signing(config: str | os.PathLike[str] | None = None) -> Signing | None:
    """Read what a token is signed with, and look at no other setting.

    :returns: None when a value is not of its type, or a name in the file may be one of these misspelt:
        `sseal.settings.load` then says what is wrong.
    :raises InvalidInput: the file cannot be read.
    """
    _, written = read_file(config)
    names = {item.name: item.default for item in fields(Signing)}
    if any(difflib.get_close_matches(name, names, n=1, cutoff=_SIMILAR) for name in written.keys() - names):
        return None
    environment = {name.upper(): value for name, value in os.environ.items()}
    given = {name: environment.get(f"{PREFIX}{name}".upper(), written.get(name)) for name in names}
    try:
        values = {name: _typed(name, value, names[name]) for name, value in given.items() if value is not None}
    except ValueError:
        return None
    return Signing(**values)


def _typed(name: str, value: object, default: object) -> Any:
    """Return a value as a text, or a tuple of texts if its default is one.

    :raises ValueError: it is something else.
    """
    if isinstance(default, tuple):
        value = whole(value) if name in WHOLE else items(value)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif isinstance(value, str):
        return value
    raise ValueError(name)
