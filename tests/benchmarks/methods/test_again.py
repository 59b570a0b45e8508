"""Students of the comparison that are judged once more: without gradients, and as INT8."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ard.data.datasets import load_dataset
from ard.learning.learn import learn
from ard.learning.recipes import build_config
from benchmarks.lines import unpack
from benchmarks.methods import blackbox, deployed, report
from benchmarks.methods.again import students
from benchmarks.methods.tables.attacks import blackbox_table, deployed_table
from edge_bench.core.errors import InputError
from edge_bench.files.store import sha256_file

from .conftest import SETTINGS

LINE = {"id": "main pgd_at 0", "stage": "main", "label": "pgd_at", "seed": 0, "weights": "pgd_at-0"}


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "lines.jsonl"
    path.write_text(json.dumps(LINE | {"settings": SETTINGS}) + "\n", encoding="utf-8")
    return path


def weights_beside(lines: Path) -> Path:
    return lines.parent / "work" / "pgd_at-0" / "student.safetensors"


def deploy(lines: Path) -> None:
    deployed.main(work=lines.parent / "work", lines=lines, images=24, attack=["pgd4", "square20"])


def ask_scores(lines: Path) -> None:
    weights = weights_beside(lines)
    blackbox.main(weights, weights, work=lines.parent / "work", lines=lines, images=24, queries=20)


def added(lines: Path) -> list[Any]:
    return [json.loads(text) for text in lines.read_text(encoding="utf-8").splitlines()][1:]


def test_a_student_is_judged_without_its_gradients_and_as_int8(
    lines: Path, brief_doubts: None
) -> None:
    weights = weights_beside(lines)
    learn(build_config(SETTINGS), load_dataset("digits", Path("unused")), None, weights)
    deploy(lines)
    ask_scores(lines)
    pair, scores = added(lines)
    for precision in ("fp32", "int8"):
        found = pair[precision]
        assert list(found["test"]) == ["clean", "pgd4", "square20", "worst case"]
        parts = {name: unpack(found | {"images": pair["images"]}, name) for name in found["masks"]}
        assert {name: float(part.mean()) for name, part in parts.items()} == found["test"]
        # Every attack on every image: neither is what the other left.
        assert (parts["worst case"] == (parts["pgd4"] & parts["square20"])).all()
        assert found["test"]["clean"] > found["test"]["worst case"]
    assert pair["weights_sha256"] == sha256_file(weights)
    assert pair["artefact_sha256"] == sha256_file(weights.with_name("student-int8.onnx"))
    head, *rows = deployed_table(report.read(lines)["deployed"])
    # Those that have no other name for readers come last.
    attacks = ["clean", "worst case", "pgd4", "square20"]
    assert head[4:] == [*attacks, "doubts"]
    named = [["main", "pgd_at", precision, "1"] for precision in ("fp32", "int8")]
    assert [row[:4] for row in rows] == named
    assert rows[0][4:8] == [f"{100 * pair['fp32']['test'][name]:.1f}" for name in attacks]

    # What is crafted on a student itself transfers whole.
    ours, theirs = (scores["test"][f"transfer from {name}"] for name in ("teacher", "independent"))
    assert ours == theirs < scores["test"]["clean"] == pair["fp32"]["test"]["clean"]
    assert scores["test"]["Square 20"] == pair["fp32"]["test"]["square20"]
    _, row = blackbox_table(report.read(lines)["blackbox"])
    told = [f"{100 * share:.1f}" for share in (scores["test"]["Square 20"], theirs, ours)]
    assert row == ["main", "pgd_at", "1", f"{100 * scores['test']['clean']:.1f}", *told]

    before = lines.read_text(encoding="utf-8")
    deploy(lines)
    ask_scores(lines)
    assert lines.read_text(encoding="utf-8") == before


@pytest.mark.parametrize("judge", [deploy, ask_scores])
def test_a_student_that_is_not_there_is_named(lines: Path, judge: Callable[[Path], None]) -> None:
    with pytest.raises(InputError, match=r"pgd_at-0.*expected a student"):
        judge(lines)


def test_a_stage_or_method_without_runs_is_named(lines: Path) -> None:
    with pytest.raises(InputError, match=r"^--stage mian: expected finished runs of it in .*lines"):
        next(students(lines, lines.parent, of="mian", stage="deployed"))
    with pytest.raises(InputError, match=r"^--stage main and --label ard: expected"):
        next(students(lines, lines.parent, of="main", stage="deployed", labels=["ard"]))


@pytest.mark.parametrize("judge", [deploy, ask_scores])
def test_lines_that_are_not_there_are_named(tmp_path: Path, judge: Callable[[Path], None]) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl.*expected lines"):
        judge(tmp_path / "none.jsonl")
