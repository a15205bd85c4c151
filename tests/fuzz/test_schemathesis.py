"""Schemathesis against `/openapi.json` of a real hub: no 500, and every answer is as the document says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from .conftest import SECONDS, Fuzz
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
EXAMPLES = 10
"""For each operation and phase in `make test`, where a slow machine shall try as much as a fast one; quiet: 15 s."""
PATIENCE = 300.0
"""Seconds it may take, or take longer than its time."""


def run(target: Target, folder: Path, *options: str, patience: float) -> subprocess.CompletedProcess[str]:
    """Run Schemathesis against the document of a hub, as somebody who may do everything."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    origin = f"http://127.0.0.1:{target.port}"
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(folder / "schemathesis.toml")),
        *("run", f"{origin}/openapi.json", "--checks", ",".join(CHECKS)),
        *("--header", f"Authorization: Bearer {token()}", "--header", f"Origin: {origin}"),
        *("--generation-database", "none", "--no-color", "--warnings", "off", *options),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=patience)


def test_the_hub_answers_as_its_document_says(fuzz: Fuzz, target: Target, tmp_path: Path) -> None:
    """Whatever Schemathesis makes of the document, valid or not, is answered as described and never with a 500."""
    seconds = fuzz.share("schemathesis")
    if fuzz.seconds > SECONDS:
        much = ("--max-time", str(round(seconds)))
    else:
        much = ("--max-examples", str(EXAMPLES), "--phases", "examples,coverage,fuzzing")
    done = run(target, tmp_path, "--seed", str(fuzz.seed), *much, patience=seconds + PATIENCE)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    counts = re.search(r"Selected: (\d+)/(\d+)\s+Tested: (\d+)\n", done.stdout)
    assert counts is not None, done.stdout
    assert counts[1] == counts[2] == counts[3], done.stdout
    generated = re.search(r"\d+ generated, \d+ passed", done.stdout)
    fuzz.say(f"Schemathesis: {generated[0] if generated else 'nothing'}")
    target.check_alive()
    assert target.complaints() == []
