"""Found by every Python the tests start: writes down each secret that process makes, for `secret_watch`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

FILE = "TESTS_SECRETS_FILE"
MAKERS = {"sseal.identity_sources.secret": "new_secret", "sseal.auth.jwt": "sign"}
"""Modules, and what in them makes secrets."""


def note(secret: str) -> None:
    """Append a secret to the file; one write, so that processes do not mix theirs."""
    if path := os.environ.get(FILE):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, secret.encode() + b"\n")
        finally:
            os.close(descriptor)


def watched(make: Callable[..., str]) -> Callable[..., str]:
    """Return a maker of secrets that also notes them."""

    def noting(*args: object, **options: object) -> str:
        secret = make(*args, **options)
        note(secret)
        return secret

    noting.__doc__ = make.__doc__
    return noting


class Finder:
    """Finds the modules that make secrets, as ever, and has their makers watched."""

    @staticmethod
    def find_spec(name: str, path: list[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return where a module is; None for all others."""
        if name not in MAKERS or (spec := PathFinder.find_spec(name, path, target)) is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            setattr(module, MAKERS[name], watched(getattr(module, MAKERS[name])))

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if os.environ.get(FILE):
    sys.meta_path.insert(0, Finder)  # type: ignore[arg-type]
