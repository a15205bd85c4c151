"""What is not installed with the core, and how to say so: the package that is missing and the line to type."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from .errors import SsealError

__all__ = ["MissingPackage", "needed"]

_PACKAGES: Final = {
    "argon2": "argon2-cffi",
    "httptools": "httptools",
    "httpx2": "httpx2",
    "prometheus_client": "prometheus-client",
    "psutil": "psutil",
    "pydantic": "pydantic",
    "pydantic_settings": "pydantic-settings",
    "redis": "redis",
    "structlog": "structlog",
    "typer": "typer",
    "uvicorn": "uvicorn",
}
"""The packages of the extras, by the name they are imported under."""


class MissingPackage(SsealError, ImportError):  # noqa: N818 - it is named after what is wrong
    """A feature was asked for whose package is not installed; says what to type."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(f"{feature} needs the package {package}; type: pip install 'sseal[{extra}]'")
        self.name = package


@contextmanager
def needed(feature: str, extra: str) -> Iterator[None]:
    """Tell what to install when an import inside the ``with`` fails.

    :param feature: what was asked for, as the reader of the error knows it: a setting, a command, a module.
    :param extra: the extra of sseal that brings it.
    :raises MissingPackage: a package of an extra is not installed. Any other failed import is raised as it is: also
        that of a module which an installed package has in other versions only.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = _PACKAGES.get(error.name or "")
        if package is None:
            raise
        raise MissingPackage(feature, package, extra) from None
