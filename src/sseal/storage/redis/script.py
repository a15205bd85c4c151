"""Lua scripts, run by their hash and sent whole only to a server that does not know them yet."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Script"]


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the hash the server knows it by."""

    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        """Compute the hash."""
        digest = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)

    @classmethod
    def load(cls, folder: Path, name: str, *, flags: str = "", common: tuple[str, ...] = ()) -> Script:
        """Read ``name.lua``, preceded by the functions of other files.

        :param flags: of the script for the server, such as ``allow-oom``; see Redis' documentation of EVAL.
        """
        parts = [(folder / f"{part}.lua").read_text(encoding="utf-8") for part in (*common, name)]
        head = f"#!lua flags={flags}" if flags else "#!lua"
        return cls("\n".join([head, *parts]))
