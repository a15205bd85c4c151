"""The command line: ``sseal serve``, ``demo``, ``token``, ``publish``, ``listen``, ``user``, ``version``."""

from __future__ import annotations

import sys

from ..extras import MissingPackage, needed

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit."""
    try:
        with needed("the command sseal", "server"):
            from .app import run
    except MissingPackage as error:
        print(f"sseal: error: {error.detail}", file=sys.stderr)
        sys.exit(1)
    sys.exit(run(sys.argv[1:]))
