"""What compression changed: a resumable runner, and tables from its lines alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ard.crafting.corruptions import CORRUPTIONS
from ard.data.datasets import load_dataset
from ard.exporting.export import export
from ard.learning.config import TrainConfig
from ard.learning.learn import learn
from benchmarks.changed import path, path_tables, report, run
from benchmarks.documents import filled
from benchmarks.lines import append, pack, recorded, unpack

IMAGES = 30


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Weights and their INT8 artefact."""
    folder = tmp_path_factory.mktemp("changed")
    digits = load_dataset("digits", Path("unused"))
    config = TrainConfig(
        dataset="digits",
        architecture="resnet8:4",
        method="natural",
        epochs=1,
        epsilon=0.1,
        step_size=0.05,
    )
    weights = learn(config, digits, None, folder / "student.safetensors").weights
    export(weights, digits, folder / "x86.onnx", int8_target="x86", least_agreement=0.1)
    return weights, folder / "x86.onnx"


def ask(pair: tuple[Path, Path], lines: Path, only: str) -> None:
    run.main(pair[0], [pair[1]], lines, Path("unused"), limit=IMAGES, queries=9, only=only)


def test_every_question_is_answered_once_and_not_again(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = tmp_path / "lines.jsonl"
    monkeypatch.setattr(run, "DIFFERENTIAL", ("apgd_apart3",))
    monkeypatch.setattr(run, "CORRUPTIONS", {"fog": CORRUPTIONS["fog"]})
    ask(pair, lines, "")
    asked = [line["question"] for line in recorded(lines).values()]
    assert asked == [
        "clean",
        "corruption fog",
        "apgd_apart3, artefact errs",
        "apgd_apart3, parent errs",
        "bpda cw20",
        "rays9",
        "square9",
    ]
    before = lines.read_bytes()
    ask(pair, lines, "")
    assert lines.read_bytes() == before
    told = {line["question"]: line for line in recorded(lines).values()}
    kept = unpack(told["rays9"], "artefact")
    assert not (kept & ~unpack(told["clean"], "artefact")).any()


def line(question: str, masks: dict[str, list[int]]) -> dict[str, Any]:
    return {
        "id": question,
        "artefact": "x86",
        "architecture": "package.networks:mine",
        "question": question,
        "images": 4,
        "masks": {key: pack(np.array(mask, dtype=np.bool_)) for key, mask in masks.items()},
    }


def test_tables_count_what_the_lines_say(tmp_path: Path) -> None:
    lines, parent = tmp_path / "lines.jsonl", [1, 1, 1, 0]
    clean = {"parent": parent, "artefact": [1, 1, 0, 0], "differ": [0, 0, 1, 1]}
    append(lines, line("clean", clean))
    for question, artefact in (("artefact errs", [0, 1, 0, 0]), ("parent errs", [1, 1, 1, 1])):
        masks = {"parent": parent, "artefact": artefact}
        append(lines, line(f"apgd_apart25, {question}", masks))
    masks = {f"parent {s}": [1, 1, 1, 1] for s in range(1, 6)}
    masks |= {f"artefact {s}": [1, 1, 1, 0] for s in range(1, 6)}
    append(lines, line("corruption fog", masks))
    found = report.answers(lines)["mine"]
    (_, row) = [*report.differential_rows(found)]
    assert [cell.split(" ")[0] for cell in row[:4]] == ["`x86`", "50.0", "50.0", "25.0"]
    assert row[-1].startswith("75.0")
    (_, row) = [*report.corruption_rows(found)]
    assert [cell.split(" ")[0] for cell in row[1:5]] == ["1", "100.0", "75.0", "25.0"]


def test_the_document_says_what_the_committed_lines_say() -> None:
    text = report.DOCUMENT.read_text(encoding="utf-8")
    made = report.maker(report.answers(run.LINES), path_tables.walked(path.LINES))
    assert filled(text, made) == text
