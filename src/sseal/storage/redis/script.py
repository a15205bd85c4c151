"""Lua scripts, run by their hash and sent whole only to a server that does not know them yet."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from .connection import Reply

__all__ = ["Script"]

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Script(Generic[Answer]):
    """A script, the hash the server knows it by, and what its reply means.

    :param decode: makes the answer of the reply; raises `msgspec.ValidationError` when it is none.
    """

    source: str
    decode: Callable[[Reply], Answer]
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        """Compute the hash."""
        digest = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)

    @classmethod
    def load(
        cls,
        folder: Path,
        name: str,
        decode: Callable[[Reply], Answer],
        *,
        flags: str = "",
        common: tuple[str, ...] = (),
    ) -> Script[Answer]:
        """Read ``name.lua``, preceded by the functions of other files.

        :param flags: of the script for the server, such as ``allow-oom``; see Redis' documentation of EVAL.
        """
        parts = [(folder / f"{part}.lua").read_text(encoding="utf-8") for part in (*common, name)]
        head = f"#!lua flags={flags}" if flags else "#!lua"
        return cls("\n".join([head, *parts]), decode)
