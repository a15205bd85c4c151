"""Exit codes: what each kind of error becomes, and that everybody is told the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from running import sseal
from sseal import errors
from sseal.cli.exit_codes import EXIT_CODES, exit_code
from sseal.client import StreamClosed
from test_hygiene import ROOT


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidInput("topic", "is wrong"), 2),
        (errors.TooLarge("data", "is too long"), 2),
        (errors.NotFound("there is no account 'x'"), 2),
        (errors.SsealError("add this line", code="settings_refused"), 2),
        (errors.CredentialMissing(), 3),
        (errors.CredentialInvalid("bad signature"), 3),
        (errors.CredentialExpired(), 3),
        (errors.Forbidden("not yours"), 3),
        (errors.Conflict("key was used"), 3),
        (errors.Misdirected("another name"), 3),
        (StreamClosed("revoked"), 3),
        (StreamClosed("replaced"), 3),
        (errors.TooManyRequests("too often"), 4),
        (errors.Unavailable("not now"), 4),
        (errors.Unavailable("nobody there", code="unreachable"), 4),
        (errors.SsealError("no ids", code="not_a_hub"), 4),
        (StreamClosed("redirected"), 4),
        (StreamClosed("not_an_event_stream"), 4),
        (StreamClosed("no_content"), 4),
        (errors.SsealError("a fault"), 1),
        (errors.InvalidInput("port", "is taken", code="not_started"), 1),
        (errors.SsealError("the log is damaged", code="not_started"), 1),
    ],
)
def test_an_exit_code_says_of_which_kind_an_error_is(error: errors.SsealError, code: int) -> None:
    """Wrong input, refused and unreachable are three things to a script; the rest has failed."""
    assert exit_code(error) == code


def test_the_reference_has_every_exit_code() -> None:
    """The table of the page and that of the code are one."""
    text = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\d+)` \| (.+?) \|$", text, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == {
        code: meaning.replace("Ctrl-C", "`Ctrl-C`") for code, meaning in EXIT_CODES.items()
    }


def test_the_help_has_every_exit_code(tmp_path: Path) -> None:
    """Who asks for help reads the same table."""
    shown = " ".join(sseal("--help", cwd=tmp_path).stdout.split())
    for code, meaning in EXIT_CODES.items():
        assert f"{code} - {meaning}" in shown
