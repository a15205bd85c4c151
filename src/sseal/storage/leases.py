"""Sets whose entries last as long as the node that put them in: what nodes count together, and a crash frees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Changes", "Held"]

Changes = Mapping[tuple[str, str], bytes | None]
"""(set, id) to the value that the entry shall have, None to take it out."""


class Held(NamedTuple):
    """One entry of a set."""

    owner: str
    id: str
    value: bytes
