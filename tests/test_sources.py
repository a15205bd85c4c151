"""What a token is signed with, read without pydantic: never anything else than `sseal.settings.load` says."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest

from sseal.settings import load
from sseal.sources import Signing, signing

SECRET = "correct-horse-battery-staple-0123456789"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start each test without settings, in a directory of its own."""
    for name in list(os.environ):
        if name.upper().startswith("SSEAL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def loaded() -> Signing:
    """Return the same from all settings, checked."""
    hub = load().hub()
    return Signing(**{item.name: getattr(hub, item.name) for item in fields(Signing)})


@pytest.mark.parametrize(
    ("file", "environment"),
    [
        ("", {}),
        ("", {"SSEAL_JWT_SECRET": SECRET}),
        ("", {"sseal_jwt_secret": f"{SECRET},with a comma"}),
        ("", {"SSEAL_JWT_SECRET": f'["{SECRET}", "another-{SECRET}"]', "SSEAL_JWT_ALGORITHMS": "HS512, HS256"}),
        ("", {"SSEAL_JWT_SECRET": "", "SSEAL_JWT_AUDIENCE": ""}),
        (f'jwt_secret = "{SECRET}"\njwt_audience = "a,b"\nport = 9000\n[limits]\nstreams = 5\n', {}),
        (f'jwt_secret = ["{SECRET}"]\njwt_issuer = "one"\n', {"SSEAL_JWT_ISSUER": "two"}),
        ('subject_claim = "uid"\ngrants_claim = "rights"\njwt_public_key_file = []\n', {"SSEAL_PORT": "80"}),
    ],
)
def test_it_is_what_all_settings_say(
    file: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """File and environment, texts and lists, upper and lower case: the same values in the same order."""
    (tmp_path / "sseal.toml").write_text(file)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert signing() == loaded()


@pytest.mark.parametrize(
    ("file", "environment"),
    [
        ("jwt_secret = 5\n", {}),
        ("jwt_secret = [5]\n", {}),
        ("jwt_issuer = true\n", {}),
        ("jwt_isuer = 'me'\n", {}),
        ("issuer = 'me'\n", {}),
        ("secret = 'x'\n", {}),
        ("", {"SSEAL_JWT_AUDIENCE": "[a"}),
    ],
)
def test_what_may_be_a_mistake_is_left_to_who_can_explain_it(
    file: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A value of another type, or a name that looks like one of these, is not guessed at."""
    (tmp_path / "sseal.toml").write_text(file)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert signing() is None
