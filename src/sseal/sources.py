"""Where settings are written, as they are before anybody checks them: a TOML file, and texts of the environment.

This needs no pydantic, whose import takes longer than all the rest of `sseal token`. What that command has to know is
read here, by `signing`; `sseal.settings` reads and checks everything.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from .errors import InvalidInput

__all__ = [
    "DEFAULT_FILE",
    "DURATION",
    "NESTED",
    "NOT_SETTINGS",
    "PREFIX",
    "WHOLE",
    "Signing",
    "duration",
    "injected",
    "items",
    "misspelt",
    "read_file",
    "refuse_misspelt",
    "seconds",
    "signing",
    "variable",
    "whole",
]

DEFAULT_FILE: Final = "sseal.toml"
"""Read from the working directory when no other file is named."""
PREFIX: Final = "SSEAL_"
NESTED: Final = "__"
WHOLE: Final = ("jwt_secret", "jwt_public_key")
"""Lists whose items may contain a comma: one item as it is, or a JSON array."""
NOT_SETTINGS: Final = ("config", "url", "token", "ticket")
"""Names of ``SSEAL_*`` variables that the command line reads and that are no settings."""
DURATION: Final = "must be a number of seconds, or a duration such as 90s, 15m, 1h or 2d"
_SIMILAR: Final = 0.75
"""How alike two names are of which one may be the other misspelt: ``issuer`` and ``jwt_issuer`` just so."""
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_INJECTED: Final = re.compile(
    rf"{PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_INJECTED_PORT: Final = re.compile(r"(tcp|udp|sctp)://.*")


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


def duration(value: object) -> object:
    """Read a duration given as text, such as ``90s`` or ``1h``, as seconds; any other value is returned as it is."""
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return float(match[1]) * _UNITS[match[2]]
    return value


def seconds(field: str, text: str, *, least: float = 0.0) -> float:
    """Return a duration given as text in seconds.

    :param text: a number of seconds, or a number and one of the units s, m, h and d.
    :raises InvalidInput: it is neither, or less than ``least``.
    """
    try:
        value = float(duration(text))  # type: ignore[arg-type]
    except ValueError:
        raise InvalidInput(field, DURATION) from None
    if not math.isfinite(value):
        raise InvalidInput(field, DURATION)
    if value < least:
        raise InvalidInput(field, f"must be at least {least:g} seconds")
    return value


def variable(name: str) -> str:
    """Return the name of the environment variable of a setting; ``limits.streams`` is a nested one."""
    return f"{PREFIX}{name.upper().replace('.', NESTED)}"


def injected(name: str, value: str) -> bool:
    """Tell whether an environment variable is one that Kubernetes sets for a service named sseal, or sseal-something.

    ``SSEAL_PORT`` is both: ``tcp://10.0.0.1:8000`` is from Kubernetes, a number is the setting.
    """
    name = name.upper()
    if name.startswith(PREFIX) and name.endswith("_PORT") and _INJECTED_PORT.fullmatch(value):
        return True
    return _INJECTED.fullmatch(name) is not None


def misspelt(known: Iterable[str], *, similar: float = _SIMILAR) -> Iterator[tuple[str, str]]:
    """Yield each ``SSEAL_*`` variable that is none of these names but close to one, and the variable it is close to.

    :param known: names of settings, nested ones with a dot.
    :param similar: how alike the two are at least, from 0 to 1.
    """
    known = [*known]
    for spelled, value in sorted(os.environ.items()):
        name = spelled.upper().removeprefix(PREFIX).lower().replace(NESTED, ".")
        if not spelled.upper().startswith(PREFIX) or name in known or injected(spelled, value):
            continue
        if close := difflib.get_close_matches(name, known, n=1, cutoff=similar):
            yield spelled, variable(close[0])


def refuse_misspelt(known: Iterable[str]) -> None:
    """Refuse a misspelt ``SSEAL_*`` variable, as a misspelt flag is refused; what is close to no name is not ours.

    :param known: names of settings, nested ones with a dot.
    :raises InvalidInput: there is one; names it, and the one that was meant.
    """
    for spelled, meant in misspelt(known):
        raise InvalidInput(spelled, f"is no setting; did you mean {meant}?")


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

    :returns: None when a value is not of its type, or a name in the file or the environment may be one of these
        misspelt: `sseal.settings.load` then says what is wrong.
    :raises InvalidInput: the file cannot be read.
    """
    _, written = read_file(config)
    names = {item.name: item.default for item in fields(Signing)}
    if any(misspelt(names)) or any(
        difflib.get_close_matches(name, names, n=1, cutoff=_SIMILAR) for name in written.keys() - names
    ):
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
