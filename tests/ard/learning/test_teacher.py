"""What a teacher keeps of held-out images is told before a student learns from it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from ard.cli import app
from ard.data.splits import Dataset
from ard.learning.teacher import (
    Measured,
    Teacher,
    doubt_about,
    doubt_about_confidence,
    load_teacher,
    measure,
)
from ard.models.checkpoints import Reading
from edge_bench.core.errors import InputError

from ..conftest import SmallModels

RUNNER = CliRunner()


MEASURED = Measured(
    clean_accuracy=0.9,
    images=1000,
    robust_accuracy=0.4,
    attacked=200,
    epsilon=8 / 255,
    confidence=0.5,
    entropy=0.5,
)


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
    measured = replace(MEASURED, clean_accuracy=found)
    sentence = doubt_about(teacher(claimed, is_ours), measured, 10)
    assert (sentence is not None) == doubted
    if sentence and not is_ours:
        assert "--teacher-mean and --teacher-std" in sentence


def test_a_teacher_of_ours_keeps_what_its_card_states(
    small_models: SmallModels, digits: Dataset
) -> None:
    loaded = load_teacher(small_models.teacher.weights, None, digits)
    found = measure(loaded, digits, "cpu", 0.15)
    assert found.clean_accuracy == pytest.approx(loaded.claimed)
    assert 0 < found.robust_accuracy <= found.clean_accuracy
    assert found.attacked == 144
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


class Says(torch.nn.Module):
    """Logits of two classes that no image changes: class 0, by a margin."""

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        flat = images.flatten(1).sum(dim=1) * 0
        return torch.stack([flat + self.margin, flat], dim=1)


@pytest.mark.parametrize("margin", [0.0, 1.0, 30.0])
def test_confidence_and_entropy_are_those_of_what_is_said(margin: float, digits: Dataset) -> None:
    labels = digits.train.labels % 2
    two = replace(digits, classes=2, train=replace(digits.train, labels=labels), class_names=None)
    of_class_0 = Teacher(model=Says(margin), sha256="")
    found = measure(of_class_0, two, "cpu", 0.1, attacked=50)
    sure = 1 / (1 + math.exp(-margin))
    entropy = -sum(p * math.log(p) for p in (sure, 1 - sure) if p) / math.log(2)
    assert found.confidence == pytest.approx(sure)
    assert found.entropy == pytest.approx(entropy, abs=1e-9)
    assert found.robust_accuracy == pytest.approx(0.5, abs=0.05)
    doubt = doubt_about_confidence(found)
    assert ("says little" in (doubt or "")) == (entropy > 0.9)
    assert ("sure of its word by 100.0 %" in (doubt or "")) == (sure > 0.9)
    assert (doubt is None) == (margin == 1.0)


def test_a_teacher_is_asked_where_the_images_are(digits: Dataset) -> None:
    """On a GPU images go there batch by batch; the teacher comes from a file, on the CPU."""
    calls: list[str] = []

    class Moved(Says):
        def to(self, *given: object, **named: object) -> Moved:
            calls.append(f"to {given[0]}")
            return self

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            calls.append("asked")
            return super().forward(images)

    labels = digits.train.labels % 2
    two = replace(digits, classes=2, train=replace(digits.train, labels=labels), class_names=None)
    measure(Teacher(model=Moved(1.0), sha256=""), two, "cpu", 0.1, attacked=8)
    assert calls[0] == "to cpu"


def test_a_teacher_is_measured_as_its_student_hears_it(digits: Dataset) -> None:
    labels = digits.train.labels % 2
    two = replace(digits, classes=2, train=replace(digits.train, labels=labels), class_names=None)
    of_class_0 = Teacher(model=Says(1.0), sha256="")
    found = measure(of_class_0, two, "cpu", 0.1, 50, 0.1)
    assert found.confidence == pytest.approx(1 / (1 + math.exp(-10)))
    assert found.own_confidence == pytest.approx(1 / (1 + math.exp(-1)))
    assert str(found).endswith(" at a temperature of 0.1")
    assert "a higher loss.teacher_temperature" in (doubt_about_confidence(found) or "")
    found = measure(of_class_0, two, "cpu", 0.1, 50, 4.0)
    assert "--set loss.teacher_temperature=2, or less" in (doubt_about_confidence(found) or "")


@pytest.mark.parametrize(
    ("temperature", "confidence", "own", "doubted"),
    [
        (1.0, 0.7, 0.7, True),
        (1.0, 0.6, 0.6, False),
        # What ARD's usual temperature adds is no fault of the teacher's.
        (0.5, 0.9, 0.6, False),
        (0.5, 0.9, 0.7, True),
        (0.25, 0.9, 0.6, True),
        # Nor is what a higher one took away again.
        (2.0, 0.6, 0.9, False),
    ],
)
def test_a_teacher_is_doubted_for_what_makes_it_too_sure(
    temperature: float, confidence: float, own: float, doubted: bool
) -> None:
    found = replace(MEASURED, temperature=temperature, confidence=confidence, own_confidence=own)
    assert (doubt_about_confidence(found) is not None) == doubted


@pytest.mark.parametrize("temperature", [1.0, 0.125])
def test_distil_measures_at_the_temperature_that_is_set(
    temperature: float, small_models: SmallModels, tmp_path: Path
) -> None:
    words = ["distill", "--dataset", "digits", "--student", "resnet8:4", "--epochs", "1", "--json"]
    words += ["--inner-steps", "1", "--train-fraction", "0.1", "--torch-device", "cpu"]
    words += ["--method", "mtard", "--set", f"loss.teacher_temperature={temperature}"]
    weights = str(small_models.teacher.weights)
    words += ["--teacher", weights, "--clean-teacher", weights, "--out", str(tmp_path / "a")]
    told = json.loads(RUNNER.invoke(app, words).stdout)
    heard, clean = told["teacher"], told["clean_teacher"]
    assert (heard["temperature"], clean["temperature"]) == (temperature, 1.0)
    assert (heard["confidence"] > clean["confidence"] + 0.05) == (temperature < 1)
    assert clean["confidence"] == clean["own_confidence"]


@pytest.mark.parametrize(("option", "value"), [("--limit", "40"), ("--epsilon", "8/255")])
def test_what_only_a_measurement_takes_is_refused_without_it(option: str, value: str) -> None:
    told = RUNNER.invoke(app, ["teachers", option, value])
    assert told.exit_code == 2
    assert f"{option} {value}: is of --measure; add it" in told.stderr


def test_a_file_is_measured_as_a_teacher(small_models: SmallModels) -> None:
    words = ["teachers", "--measure", str(small_models.teacher.weights), "--limit", "40"]
    words += ["--dataset", "digits", "--epsilon", "0.1", "--torch-device", "cpu"]
    summary = json.loads(RUNNER.invoke(app, [*words, "--json"]).stdout)
    assert summary["attacked"] == 40
    assert summary["epsilon"] == 0.1
    told = RUNNER.invoke(app, words)
    assert f"sure by {100 * summary['confidence']:.1f} %" in told.stdout
    refused = RUNNER.invoke(app, ["teachers", "--measure", "--dataset", "digits"])
    assert refused.exit_code == 2
    assert "give the teacher's FILE" in refused.stderr
