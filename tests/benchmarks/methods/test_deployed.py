"""Students of the comparison beside their INT8 artefacts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ard.data.datasets import load_dataset
from ard.learning.learn import learn
from ard.learning.recipes import build_config
from benchmarks.lines import unpack
from benchmarks.methods import deployed, report
from edge_bench.core.errors import InputError
from edge_bench.files.store import sha256_file

SETTINGS = {
    "dataset": "digits",
    "architecture": "resnet8:4",
    "method": "pgd_at",
    "epsilon": 8 / 255,
    "inner_steps": 1,
    "epochs": 4,
    "train_fraction": 0.3,
}
LINE = {"id": "main pgd_at 0", "stage": "main", "label": "pgd_at", "seed": 0, "weights": "pgd_at-0"}


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "lines.jsonl"
    path.write_text(json.dumps(LINE | {"settings": SETTINGS}) + "\n", encoding="utf-8")
    return path


def asked(lines: Path) -> None:
    deployed.main(work=lines.parent / "work", lines=lines, images=24, attack=["pgd4", "square20"])


def test_a_student_and_its_artefact_are_attacked_on_the_same_images(lines: Path) -> None:
    weights = lines.parent / "work" / "pgd_at-0" / "student.safetensors"
    learn(build_config(SETTINGS), load_dataset("digits", Path("unused")), None, weights)
    asked(lines)
    _, line = (json.loads(text) for text in lines.read_text(encoding="utf-8").splitlines())
    for precision in ("fp32", "int8"):
        found = line[precision]
        assert list(found["test"]) == ["clean", "pgd4", "square20", "worst case"]
        parts = {name: unpack(found | {"images": line["images"]}, name) for name in found["masks"]}
        assert {name: float(part.mean()) for name, part in parts.items()} == found["test"]
        # Every attack on every image: neither is what the other left.
        assert (parts["worst case"] == (parts["pgd4"] & parts["square20"])).all()
        assert found["test"]["clean"] > found["test"]["worst case"]
    assert line["fp32"]["sha256"] == sha256_file(weights)
    assert line["int8"]["sha256"] == sha256_file(weights.with_name("student-int8.onnx"))
    table = report.deployed_table(report.read(lines)["deployed"])
    assert [row[:3] for row in table[1:]] == [["pgd_at", "fp32", "1"], ["pgd_at", "int8", "1"]]
    assert table[1][3:7] == [f"{100 * share:.1f}" for share in line["fp32"]["test"].values()]
    before = lines.read_text(encoding="utf-8")
    asked(lines)
    assert lines.read_text(encoding="utf-8") == before


def test_a_student_that_is_not_there_is_named(lines: Path) -> None:
    with pytest.raises(InputError, match=r"pgd_at-0.*expected a student"):
        asked(lines)
