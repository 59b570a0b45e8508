"""The tables of docs/results/tensorrt.md, and one build of the script that makes its lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.lines import RESULTS
from benchmarks.tensorrt import run
from benchmarks.tensorrt.account import read_account


def made(*words: object) -> Any:
    app = typer.Typer()
    app.command()(run.main)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_document_says_what_its_lines_say() -> None:
    assert made("--check").exit_code == 0


def test_every_engine_of_the_record_keeps_the_precision_of_its_file() -> None:
    lines = [json.loads(line) for line in run.LINES.read_text().splitlines()]
    kinds = {"fp32": {"float"}, "fp16": {"half"}, "int8": {"int8"}}
    built = [line for line in lines if line.get("built")]
    assert {line["capability"] for line in built} == set(run.CAPABILITIES)
    for line in built:
        assert set(line["layers"]) == kinds[line["precision"]], line["id"]
        assert sum(line["layers"].values()) == line["weighted"]
        assert not line["tf32"]
    assert {line["precision"] for line in lines if not line["parsed"]} == set(run.OTHERS)


def test_a_build_becomes_a_line_and_a_row(
    rtx: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "NETWORKS", ("resnet8:4",))
    monkeypatch.setattr(run, "PRECISIONS", ("fp32", "int8"))
    monkeypatch.setattr(run, "OTHERS", ())
    monkeypatch.setattr(run, "CAPABILITIES", ("sm75", "sm86"))
    document = tmp_path / "document.md"
    names = ("layers", "engines")
    document.write_text("".join(f"<!-- table {name} -->\n<!-- end -->\n" for name in names))
    words = ("--lines", tmp_path / "lines.jsonl", "--document", document)
    done = made("--work", tmp_path, "--networks", "resnet8:4", *words)
    assert done.exit_code == 0, done.output
    text = document.read_text()
    assert "| resnet8:4 | int8 | yes | 10 | 10 | 0 | 0 |" in text
    assert "| resnet8:4 | fp32 | not built | 0." in text
    before = (tmp_path / "lines.jsonl").read_bytes()
    assert made("--work", tmp_path, "--networks", "resnet8:4", *words).exit_code == 0
    assert (tmp_path / "lines.jsonl").read_bytes() == before
    assert made("--check", *words).exit_code == 0


def test_what_is_no_engine_has_no_layers() -> None:
    account = read_account(b"no engine", ["conv"])
    assert (account.capabilities, account.layers, account.tf32) == ((), {}, True)
    assert (RESULTS / "tensorrt.md").is_file()
