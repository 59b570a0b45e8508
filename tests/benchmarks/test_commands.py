"""What a user can mend ends a benchmark in one sentence, whichever it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import command
from benchmarks.documents import update
from benchmarks.lines import ROOT, read_lines, recorded
from benchmarks.quantisation import report
from edge_bench.core.errors import InputError


def test_a_document_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "none.md"
    monkeypatch.setattr(sys, "argv", ["report", "--document", str(page)])
    with pytest.raises(SystemExit) as ended:
        command.run(report.main)
    assert str(ended.value).startswith(f"error: {page}: expected a document")
    with pytest.raises(InputError, match="no file there"):
        update(page, lambda kind, name: "", check=True)
    assert not page.exists()


def test_lines_that_are_not_there_or_damaged_are_named(tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    with pytest.raises(InputError, match=r"lines\.jsonl: expected lines of finished runs"):
        read_lines(lines)
    assert recorded(lines) == {}
    lines.touch()
    assert recorded(lines) == {}
    for damaged in ('{"id": "b", "se', "[1]"):
        lines.write_text(f'{{"id": "a"}}\n{damaged}\n', encoding="utf-8")
        with pytest.raises(InputError, match="line 2: expected a JSON object"):
            read_lines(lines)
    lines.write_text('{"id": "a"}\n{"id": "b"}\n', encoding="utf-8")
    assert read_lines(lines) == [{"id": "a"}, {"id": "b"}]


def test_every_benchmark_is_run_so() -> None:
    asked = [
        path for path in (ROOT / "benchmarks").rglob("*.py") if "typer.run(" in path.read_text()
    ]
    assert [path.name for path in asked] == ["command.py"]


def test_the_chain_on_cifar10_takes_a_folder_with_a_blank_in_its_name(tmp_path: Path) -> None:
    told = tmp_path / "ardx"
    told.write_text("#!/bin/sh\nprintf '<%s>' \"$@\"; echo\n", encoding="utf-8")
    told.chmod(0o755)
    chain = ROOT / "benchmarks" / "cifar10_chain.sh"
    words = ["bash", str(chain), "--data-dir", "my data", "--out", str(tmp_path / "runs")]
    ended = subprocess.run(
        words, env=os.environ | {"ARDX": str(told)}, capture_output=True, text=True, check=True
    )
    asked = [line for line in ended.stdout.splitlines() if "<--data-dir>" in line]
    assert len(asked) == 11
    assert all("<--data-dir><my data>" in line for line in asked)
