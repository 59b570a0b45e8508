"""The scripts of examples/, run as their first lines say, one after another."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from edge_bench.files.report_file import read_report, write_report

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
    found = read_report(report)
    large = replace(found, artifact=replace(found.artifact, size_bytes=3_000_000))
    write_report(report, large, force=True)
    refused = run(*gated, ARDX_REPORT=str(report))
    assert refused.returncode == 1
    assert "3000000 bytes" in refused.stdout.replace(",", "")
