"""What cannot be trained is refused before a teacher is measured, or a time planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ard.cli import app
from ard.data.splits import Dataset
from ard.learning.learn import learn
from ard.learning.teacher import Teacher, load_teacher
from ard.methods.parts.base import LossOptions
from edge_bench.core.errors import InputError

from ..commands.typed import RUNNER
from ..conftest import SmallModels, small_config

QUICK: dict[str, Any] = {"architecture": "resnet8:4", "inner_steps": 1, "epochs": 1}
QUICK |= {"train_fraction": 0.1}


@pytest.fixture
def teacher(small_models: SmallModels, digits: Dataset) -> Teacher:
    return load_teacher(small_models.teacher.weights, None, digits)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"architecture": "nope"}, "architecture nope"),
        ({"batch_size": 1000}, "--batch-size 1000"),
        ({"schedule": "steps", "milestones": (1,)}, "milestones"),
        ({"method": "adaad", "loss": LossOptions(alpha=2.0)}, "loss.alpha 2"),
        ({"loss": LossOptions(anchor="rslad", alpha=2.0)}, "loss.alpha 2"),
        ({"unlabelled": "nowhere"}, "--unlabelled nowhere"),
    ],
)
def test_what_cannot_be_trained_is_refused_first(
    changes: dict[str, Any], named: str, teacher: Teacher, digits: Dataset, tmp_path: Path
) -> None:
    config = small_config(**QUICK | {"method": "ard"} | changes)
    weights = tmp_path / "w.safetensors"
    asked: list[str] = []
    with pytest.raises(InputError, match=named):
        learn(config, digits, teacher, weights, when_checked=lambda: asked.append("early"))
    assert asked == []
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_run_of_other_settings_is_refused_first(
    teacher: Teacher, digits: Dataset, tmp_path: Path
) -> None:
    weights, asked = tmp_path / "w.safetensors", ["once"]
    learn(small_config(**QUICK, method="rslad"), digits, teacher, weights)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"was made with learning_rate 0\.2"):
        learn(
            small_config(**QUICK, method="rslad", learning_rate=0.1),
            digits,
            teacher,
            weights,
            resume=True,
            when_checked=lambda: asked.append("early"),
        )
    assert asked == ["once"]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_damaged_metrics_are_refused_first_and_their_loss_is_none_of_the_run(
    digits: Dataset, tmp_path: Path
) -> None:
    config, weights, asked = small_config(**QUICK), tmp_path / "w.safetensors", ["once"]
    first = learn(config, digits, None, weights)
    (tmp_path / "metrics.jsonl").write_bytes(b'\xff\xfe{"epoch": 1}\n')
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def resumed() -> str:
        return learn(
            config, digits, None, weights, resume=True, when_checked=lambda: asked.append("early")
        ).sha256

    with pytest.raises(InputError, match=r"metrics\.jsonl: expected a line .*; move it away, and"):
        resumed()
    assert asked == ["once"]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "metrics.jsonl").unlink()
    assert resumed() == first.sha256


@pytest.mark.parametrize("minutes", [None, 0.01])
def test_what_can_be_is_told_before_the_plan_and_the_first_epoch(
    minutes: float | None,
    teacher: Teacher,
    digits: Dataset,
    tmp_path: Path,
) -> None:
    happened: list[str] = []
    state = torch.get_rng_state()
    learn(
        small_config(**QUICK, method="rslad"),
        digits,
        teacher,
        tmp_path / "w.safetensors",
        minutes=minutes,
        tell=lambda _: happened.append("plan"),
        when_checked=lambda: happened.append("checked"),
        report_progress=lambda *_: happened.append("step"),
    )
    in_order = list(dict.fromkeys(happened))
    assert in_order == ["checked", *([] if minutes is None else ["plan"]), "step"]
    assert happened.count("checked") == 1
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--out", "taken"), "exists already"),
        (("--out", "new", "--resume"), "nothing to resume"),
        (("--out", "new", "--minutes", "0"), "--minutes 0"),
        (("--out", "new", "--minutes", "nan"), "--minutes nan: expected minutes above 0"),
        (("--out", "new", "--minutes", "inf"), "--minutes inf"),
        (("--out", "new", "--set", "minutes=1e308"), "--set minutes 1e+308"),
        (("--out", "new", "--clean-teacher", "TEACHER"), "ard has one teacher only"),
        (("--out", "new", "--student", "vgg"), "vgg"),
    ],
)
def test_the_command_measures_no_teacher_for_nothing(
    options: tuple[str, ...],
    named: str,
    small_models: SmallModels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "student.safetensors").write_bytes(b"mine")
    teacher = str(small_models.teacher.weights)
    command = ["distill", "--dataset", "digits", "--student", "resnet8:4", "--teacher", teacher]
    found = RUNNER.invoke(app, command + [teacher if x == "TEACHER" else x for x in options])
    assert found.exit_code == 2, found.output
    assert named in found.stderr
    assert found.stdout == ""
    assert (tmp_path / "taken" / "student.safetensors").read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
