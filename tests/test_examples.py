"""The scripts of examples/, run as their first lines say, one after another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | variables,
    )


def test_the_examples_end_at_a_gate(tmp_path: Path) -> None:
    distilled = run(EXAMPLES / "distil_and_export.py", tmp_path, "2")
    assert distilled.returncode == 0, distilled.stderr
    replayed = run(EXAMPLES / "attack_and_replay.py", tmp_path)
    assert replayed.returncode == 0, replayed.stderr
    assert "worst" in replayed.stdout
    gated = ("-m", "pytest", "-q", "-p", "no:cacheprovider", EXAMPLES / "test_gate.py")
    report = tmp_path / "report.json"
    assert run(*gated, ARDX_REPORT=str(report)).returncode == 0
    # One more megabyte than the gate allows.
    report.write_text(report.read_text().replace('"size_bytes": ', '"size_bytes": 99'))
    refused = run(*gated, ARDX_REPORT=str(report))
    assert refused.returncode == 1
    assert "max_size_bytes" in refused.stdout or "bytes" in refused.stdout
