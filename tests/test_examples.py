"""The scripts of examples/, run as their first lines say, one after another."""

from __future__ import annotations

import json
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
    for script in ("distil_and_export.py", "attack_and_replay.py"):
        again = run(EXAMPLES / script, tmp_path, "2")
        assert (again.returncode, again.stderr.count("\n")) == (1, 1), again.stderr
        assert again.stderr.startswith("error: ")
        assert "exists already" in again.stderr
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


ARDX = """#!/bin/sh
for word in "$@"; do [ "$last" = --out ] && echo '{}' >"$word"; last=$word; done
printf '{\n  "gate": {"passed": false}\n}\n'
exit 1
"""


def test_a_board_of_a_fleet_that_has_its_report_keeps_its_code(tmp_path: Path) -> None:
    (tmp_path / "ardx").write_text(ARDX, encoding="utf-8")
    (tmp_path / "ardx").chmod(0o755)
    words = [str(EXAMPLES / "fleet.sh"), "student.ardx", "pi@one", str(tmp_path / "reports")]
    path = f"{tmp_path}:{os.environ['PATH']}"
    codes = [
        subprocess.run(["/bin/sh", *words], env=os.environ | {"PATH": path}, check=False).returncode
        for _ in range(2)
    ]
    assert codes == [1, 1]
    line = (tmp_path / "reports/pi@one.line").read_text(encoding="utf-8")
    assert json.loads(line)["exit_code"] == 1
    (tmp_path / "reports/pi@one.line").unlink()
    assert subprocess.run(["/bin/sh", *words], check=False).returncode == 4
