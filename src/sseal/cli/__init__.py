"""The command line: ``sseal serve``, ``demo``, ``token``, ``publish``, ``listen``, ``user``, ``version``."""

from __future__ import annotations

from .app import main

__all__ = ["main"]
