"""Schemathesis against `/openapi.json` of a real hub: no 500, and every answer is as the document says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .conftest import Fuzz
from .target import Target, token

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)
CONFIG = """
max-stream-events = 1
request-timeout = 10
"""
START_UP = 120.0
"""Seconds it may take beside its time budget, which ends no example half done; quiet: 10."""


def run(target: Target, folder: Path, *options: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run Schemathesis against the document of a hub, as somebody who may do everything."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    origin = f"http://127.0.0.1:{target.port}"
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(folder / "schemathesis.toml")),
        *("run", f"{origin}/openapi.json", "--checks", ",".join(CHECKS), "--max-time", str(max(1, round(seconds)))),
        *("--header", f"Authorization: Bearer {token()}", "--header", f"Origin: {origin}"),
        *("--generation-database", "none", "--no-color", "--warnings", "off", *options),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds + START_UP
    )


def test_the_hub_answers_as_its_document_says(fuzz: Fuzz, target: Target, tmp_path: Path) -> None:
    """Whatever Schemathesis makes of the document, valid or not, is answered as described and never with a 500."""
    done = run(target, tmp_path, "--seed", str(fuzz.seed), seconds=fuzz.share("schemathesis"))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Tested: 16" in done.stdout, done.stdout
    target.check_alive()
    assert target.complaints() == []
