"""From the bytes of a JSON body to a Struct; what is wrong is said by field, fault and remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec
from msgspec import inspect

from ..errors import InvalidInput

__all__ = ["decode"]

T = TypeVar("T")

MAX_NAME: Final = 200
"""Characters of a field's name that an answer repeats."""
_PLACE: Final = " - at `$"
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(?:\d+|\.\.\.)\]")
_EXPECTED: Final = re.compile(r"Expected `([^`]+)`, got `([^`]+)`")
_MISSING: Final = re.compile(r"Object missing required field `(.*)`")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$([^`]*)`)?", re.DOTALL)
_WANTED: Final = {
    "object": "a JSON object",
    "array": "an array",
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
}
_GIVEN: Final = {
    "object": "an object",
    "array": "an array",
    "str": "a string",
    "int": "a number",
    "float": "a number",
    "bool": "a boolean",
    "null": "null",
}


def decode(raw: bytes | bytearray, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a body.

    :raises InvalidInput: it is not JSON, or not of this shape; names the place.
    """
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        _check_json(raw)  # a body that is cut short is that first, whatever stands in front of the cut
        raise _explained(str(error), decoder.type) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _no_json(error) from None


def _check_json(raw: bytes | bytearray) -> None:
    try:
        msgspec.json.decode(raw)
    except msgspec.ValidationError:
        return  # a number out of range, which the caller names with its place
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _no_json(error) from None


def _no_json(error: Exception) -> InvalidInput:
    return InvalidInput("body", f"is not JSON: {error}")


def _explained(message: str, shape: object) -> InvalidInput:
    """Return the error for a message of msgspec, which ends with the place unless that is the body itself."""
    if (match := _UNKNOWN.fullmatch(message)) is not None:  # first: the name is the caller's, and may look like ours
        place = match[2] or ""
        known = ", ".join(sorted(_known(shape, place)))
        return InvalidInput(
            _field(place, match[1]), f"is not a field; {f'known are {known}' if known else 'none is known here'}"
        )
    fault, found, place = message.rpartition(_PLACE)
    fault, place = (fault, place[:-1]) if found else (message, "")
    if (match := _MISSING.fullmatch(fault)) is not None:
        return InvalidInput(_field(place, match[1]), "is missing")
    return InvalidInput(_field(place) or "body", _problem(fault))


def _field(place: str, name: str | None = None) -> str:
    """Return how a field is called: ``[3].topics[1]`` for ``$[3].topics[1]``."""
    path = place.removeprefix(".")
    if name is not None:
        path = f"{path}.{name}" if path else name
    return path if len(path) <= MAX_NAME else f"{path[:MAX_NAME]}..."


def _problem(fault: str) -> str:
    if fault.startswith("Expected `str` of length >= 1"):
        return "must be a string that is not empty"
    if (match := _EXPECTED.fullmatch(fault)) is None:
        return "is a number out of range" if fault == "Number out of range" else fault
    wanted = [_WANTED.get(kind, kind) for kind in match[1].split(" | ") if kind != "null"]
    return f"must be {' or '.join(wanted)}, not {_GIVEN.get(match[2], match[2])}"


def _known(shape: object, place: str) -> Sequence[str]:
    """Return the names of the fields that an object at some place may have."""
    found: Sequence[inspect.Type] = (inspect.type_info(shape),)
    for step in _STEP.finditer(place):
        found = [inner for kind in found for inner in _inside(kind, step[1])]
    return [item.encode_name for kind in _flat(found) if isinstance(kind, inspect.StructType) for item in kind.fields]


def _inside(kind: inspect.Type, name: str | None) -> list[inspect.Type]:
    """Return what a field of that name, or an item, may be."""
    flat = _flat([kind])
    if name is None:
        return [each.item_type for each in flat if isinstance(each, inspect.ListType)]
    structs = [each for each in flat if isinstance(each, inspect.StructType)]
    return [item.type for each in structs for item in each.fields if item.encode_name == name]


def _flat(kinds: Sequence[inspect.Type]) -> list[inspect.Type]:
    found: list[inspect.Type] = []
    for kind in kinds:
        bare = kind.type if isinstance(kind, inspect.Metadata) else kind
        found += _flat(bare.types) if isinstance(bare, inspect.UnionType) else [bare]
    return found
