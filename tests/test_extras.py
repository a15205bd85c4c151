"""The error of a feature whose package is not installed."""

from __future__ import annotations

import re
import tomllib

import pytest

from sseal.errors import SsealError
from sseal.extras import _PACKAGES, MissingPackage, needed
from test_hygiene import ROOT


def test_it_names_the_feature_the_package_and_the_line_to_type() -> None:
    """It is an error of sseal and of an import, as its reader may expect either."""
    with pytest.raises(MissingPackage) as caught, needed("accounts", "server"):
        raise ModuleNotFoundError("No module named 'argon2'", name="argon2")
    assert str(caught.value) == "accounts needs the package argon2-cffi; type: pip install 'sseal[server]'"
    assert isinstance(caught.value, SsealError)
    assert isinstance(caught.value, ImportError)
    assert caught.value.name == "argon2-cffi"


@pytest.mark.parametrize("name", ["nonsense", "uvicorn.protocols.http.moved", None])
def test_another_failed_import_is_not_explained_away(name: str | None) -> None:
    """A module that is no package of an extra, or a part that an installed one lacks, is raised as it is."""
    original = ModuleNotFoundError("No module named ...", name=name)
    with pytest.raises(ModuleNotFoundError) as caught, needed("it", "server"):
        raise original
    assert caught.value is original


def test_every_package_it_names_is_in_an_extra() -> None:
    """What it says to install brings the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    brought = {re.split(r"[^\w-]", line)[0] for lines in extras.values() for line in lines}
    assert set(_PACKAGES.values()) <= brought
