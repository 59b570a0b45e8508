"""What a teacher keeps of held-out images is told before a student learns from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from ard.cli import app
from ard.data.splits import Dataset
from ard.learning.teacher import Measured, Teacher, doubt_about, load_teacher, measure
from ard.models.checkpoints import Reading
from edge_bench.core.errors import InputError

from ..conftest import SmallModels

RUNNER = CliRunner()


def teacher(claimed: float | None, is_ours: bool) -> Teacher:
    return Teacher(model=torch.nn.Identity(), sha256="", claimed=claimed, is_ours=is_ours)


@pytest.mark.parametrize(
    ("claimed", "is_ours", "found", "doubted"),
    [
        (0.8534, False, 0.339, True),
        (0.8534, False, 0.74, True),
        (0.8534, False, 0.76, False),
        (None, False, 0.339, True),
        (None, False, 0.458, True),
        (None, False, 0.6, False),
        (None, True, 0.339, False),
        (None, True, 0.15, True),
        (0.9, True, 0.5, True),
    ],
)
def test_a_low_accuracy_is_doubted(
    claimed: float | None, is_ours: bool, found: float, doubted: bool
) -> None:
    measured = Measured(clean_accuracy=found, images=1000)
    sentence = doubt_about(teacher(claimed, is_ours), measured, 10)
    assert (sentence is not None) == doubted
    if sentence and not is_ours:
        assert "--teacher-mean and --teacher-std" in sentence


def test_a_teacher_of_ours_keeps_what_its_card_states(
    small_models: SmallModels, digits: Dataset
) -> None:
    loaded = load_teacher(small_models.teacher.weights, None, digits)
    assert measure(loaded, digits, "cpu").clean_accuracy == pytest.approx(loaded.claimed)
    with pytest.raises(InputError, match="--teacher-mean, --teacher-std and --teacher-key: are of"):
        load_teacher(small_models.teacher.weights, None, digits, Reading(key="ema"))


def test_distil_tells_what_its_teacher_keeps(small_models: SmallModels, tmp_path: Path) -> None:
    words = ["distill", "--dataset", "digits", "--student", "resnet8:4", "--epochs", "1"]
    words += ["--inner-steps", "1", "--train-fraction", "0.1", "--torch-device", "cpu"]
    ours = [*words, "--teacher", str(small_models.teacher.weights), "--out"]
    told = RUNNER.invoke(app, [*ours, str(tmp_path / "a")])
    assert told.exit_code == 0, told.output
    assert "teacher: clean accuracy" in told.stdout.splitlines()[0]
    summary = json.loads(RUNNER.invoke(app, [*ours, str(tmp_path / "b"), "--json"]).stdout)
    assert f"accuracy {100 * summary['teacher']['clean_accuracy']:.1f} %" in told.stdout
    assert 0 < summary["teacher"]["images"] <= 1000
