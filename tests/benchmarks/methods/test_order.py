"""How far a student shares its teacher's order, against counts by hand and scipy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from torch import nn

from ard.attacks.registry import parse_attack
from ard.attacks.run import run_attack
from ard.data.datasets import load_dataset
from ard.data.splits import Split, as_float
from ard.learning.learn import learn
from ard.learning.recipes import build_config
from benchmarks.methods import order, report
from benchmarks.methods.order import among_likeliest, label_pairs, likeliest, shared_order, taus
from benchmarks.methods.tables.order import FIGURES, order_table

from .conftest import SETTINGS


def test_pairs_of_the_label_are_those_of_both_sides() -> None:
    first = np.array([[3.0, 1.0, 2.0, 0.0], [0.0, 1.0, 2.0, 3.0]])
    second = np.array([[2.0, 3.0, 1.0, 0.0], [3.0, 2.0, 1.0, 0.0]])
    # Label 0 is over classes 2 and 3 in both of the first row; label 1 on no same side.
    assert label_pairs(first, second, np.array([0, 1])).tolist() == [2 / 3, 0.0]
    assert taus(first, second).tolist() == pytest.approx([1 / 3, -1.0])


def test_each_figure_is_of_what_it_says() -> None:
    """A linear student whose attacked images are known: PGD leads to a corner of the ball."""
    torch.manual_seed(0)
    student, teacher = (
        nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).requires_grad_(False) for _ in range(2)
    )
    levels = torch.randint(60, 200, (6, 3, 2, 2), dtype=torch.uint8)
    split = Split(levels, torch.arange(6) % 5)
    found = shared_order(student, teacher, split, 8 / 255)

    ours, theirs = (model(as_float(levels)).double().numpy() for model in (student, teacher))
    clean = np.mean([kendalltau(a, b).statistic for a, b in zip(ours, theirs, strict=True)])
    assert found["clean"] == pytest.approx(clean)
    adversarial = run_attack(
        student, as_float(levels), split.labels, parse_attack("pgd10", epsilon=8 / 255), 0
    )
    moved, taught = (model(adversarial).double().numpy() for model in (student, teacher))
    for name, a, b in (
        ("adversarial", moved, taught),
        ("change", ours - moved, theirs - taught),
    ):
        expected = [kendalltau(*rows).statistic for rows in zip(a, b, strict=True)]
        assert found[name] == pytest.approx(np.mean(expected)) != pytest.approx(clean)
    sides = [
        (moved[i, y] > moved[i, j]) == (taught[i, y] > taught[i, j])
        for i, y in enumerate(split.labels.tolist())
        for j in range(5)
        if j != y
    ]
    assert found["label"] == pytest.approx(np.mean(sides))
    itself = shared_order(student, student, split, 8 / 255)
    for name in ("clean", "adversarial", "change", "label"):
        assert itself[name] == pytest.approx(1.0)
    assert [itself[name] for name in itself if name.startswith("among")] == [
        found[name] for name in found if name.startswith("among")
    ]


def test_a_student_gets_one_line_and_the_table_compares_seeds(tmp_path: Path) -> None:
    line: dict[str, Any] = {
        "id": "main pgd_at 0",
        "stage": "main",
        "label": "pgd_at",
        "seed": 0,
        "weights": "pgd_at-0",
        "settings": SETTINGS | {"epochs": 1},
    }
    lines = tmp_path / "lines.jsonl"
    lines.write_text(json.dumps(line) + "\n", encoding="utf-8")
    weights = tmp_path / "work" / "pgd_at-0" / "student.safetensors"
    learn(build_config(line["settings"]), load_dataset("digits", Path("unused")), None, weights)
    for _ in range(2):
        order.main(weights, tmp_path / "work", "main", lines, images=24)
    (stage,) = set(report.read(lines)) - {"main"}
    assert stage == "order"
    head, *rows = order_table(report.read(lines)["order"])
    assert head == ["students of", "", "pgd_at"]
    # A teacher that is the student itself is agreed with whole.
    assert [row[-1] for row in rows[:4]] == ["1.000", "1.000", "1.000", "100.0 %"]
    clean, attacked = (float(row[-1].removesuffix(" %")) for row in rows[4:])
    assert 100 >= clean >= attacked > 0


def test_the_label_is_among_two_of_ten_and_five_of_a_hundred() -> None:
    logits = np.array([[3.0, 1.0, 2.0, 0.0], [3.0, 1.0, 2.0, 0.0], [3.0, 1.0, 2.0, 0.0]])
    assert among_likeliest(logits, np.array([0, 2, 1])).tolist() == [1, 1, 0]
    assert [likeliest(classes) for classes in (10, 40, 100)] == [2, 2, 5]


def test_ours_comes_first_and_leads_are_of_common_seeds() -> None:
    def one(seed: int, value: float, of: str = "main") -> dict[str, Any]:
        return {"seed": seed, "of": of, "order": dict.fromkeys(FIGURES, value)}

    groups = {
        "rslad": [one(0, 0.5)],
        "igdm": [one(0, 0.79), one(1, 0.82), one(0, 0.7, "later")],
        "ard": [one(0, 0.8), one(1, 0.84), one(0, 0.9, "later")],
    }
    head, *rows = order_table(groups)
    assert head == ["students of", "", "ard", "igdm", "rslad", "ard minus igdm"]
    assert [row[0] for row in rows] == ["later"] * len(FIGURES) + ["main"] * len(FIGURES)
    later, main = rows[0], rows[len(FIGURES)]
    assert later[2:] == ["0.900", "0.700", "", "+0.200 (one seed)"]
    assert main[2:] == ["0.820 ± 0.028", "0.805 ± 0.021", "0.500", "+0.015 (p 0.20)"]
    assert rows[-1][2:] == ["82.0 ± 2.8 %", "80.5 ± 2.1 %", "50.0 %", "+1.5 (p 0.20)"]
