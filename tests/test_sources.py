"""What a token is signed with, read without pydantic: never anything else than `sseal.settings.load` says."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest

from sseal.cli.streams import VARIABLES
from sseal.errors import InvalidInput
from sseal.settings import load
from sseal.sources import NOT_SETTINGS, Signing, misspelt, seconds, signing

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
        ("", {"SSEAL_JWT_ISUER": "me"}),
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90.0), ("0.5", 0.5), ("90s", 90.0), ("15m", 900.0), ("1h", 3600.0), ("2d", 172_800.0), (" 1.5h ", 5400.0)],
)
def test_a_duration_is_a_number_of_seconds_or_has_a_unit(text: str, expected: float) -> None:
    """Without a unit it is seconds, as everywhere else."""
    assert seconds("--ttl", text) == expected


@pytest.mark.parametrize("text", ["", "x", "1w", "1h30m", "nan", "inf", "1e400", "h"])
def test_what_is_no_duration_is_named(text: str) -> None:
    """The error names the field and the forms there are; numbers that are none are refused as well."""
    with pytest.raises(InvalidInput) as caught:
        seconds("--ttl", text)
    assert str(caught.value) == "--ttl: must be a number of seconds, or a duration such as 90s, 15m, 1h or 2d"


def test_a_duration_may_be_too_short() -> None:
    """A bound is told with its number."""
    with pytest.raises(InvalidInput, match=r"--ttl: must be at least 1 seconds"):
        seconds("--ttl", "0.5s", least=1)


def test_a_variable_is_misspelt_when_it_is_close_to_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names there are, names far from all of them and names of Kubernetes are passed over."""
    for name in ("SSEAL_URL", "SSEAL_TOKN", "sseal_configg", "SSEAL_HOME", "SSEAL_SERVICE_HOST", "OTHER_TOKN"):
        monkeypatch.setenv(name, "x")
    assert list(misspelt(NOT_SETTINGS)) == [("SSEAL_TOKN", "SSEAL_TOKEN"), ("sseal_configg", "SSEAL_CONFIG")]


def test_no_setting_looks_like_a_misspelt_name_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sseal publish` knows no settings, and shall not take one for a mistake."""
    loaded = load()
    for name in type(loaded).model_fields:
        monkeypatch.setenv(f"SSEAL_{name.upper()}", "x")
    assert list(misspelt(VARIABLES)) == []
