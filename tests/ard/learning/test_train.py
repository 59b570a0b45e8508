"""The loop: it learns, selects on validation data, resumes to the bit, and refuses nonsense."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ard.data.splits import Dataset, Split, hold_out_validation
from ard.learning import learn as stages
from ard.learning.config import TrainConfig, learning_rate
from ard.learning.learn import learn
from ard.learning.pace import Clock
from ard.learning.run_state import Run, Validation
from ard.learning.step import Teachers
from ard.learning.teacher import load_teacher
from ard.learning.train import plan, training_data
from ard.methods.parts.base import LossOptions
from ard.models.weight_files import load_model, load_tensors, save_model, save_tensors
from ard.ranking.levels import RankingOptions
from edge_bench.core.errors import InputError

from ..conftest import SmallModels, small_config


def metrics(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_student_learns_to_be_robust(small_models: SmallModels) -> None:
    found = small_models.student.validation
    assert found.clean_accuracy > 0.6
    assert found.robust_accuracy > 0.2


def test_the_best_validated_epoch_is_kept(small_models: SmallModels) -> None:
    lines = metrics(small_models.student.weights.parent)
    validations = [line["validation"] for line in lines]
    best = max(validations, key=lambda v: (v["robust_accuracy"], v["clean_accuracy"]))  # type: ignore[index]
    assert small_models.student.validation == Validation(**best)  # type: ignore[arg-type]


def test_the_card_tells_recipe_teacher_and_validation(small_models: SmallModels) -> None:
    _, card = load_model(small_models.student.weights)
    assert card.parent_sha256 == small_models.teacher.sha256
    assert card.recipe["method"] == "ard"
    assert card.recipe["loss"]["ranking"]["weight_sample"] == 1.0
    assert card.recipe["validation"]["robust_accuracy"] == (
        small_models.student.validation.robust_accuracy
    )


def test_every_level_of_the_objective_is_logged(small_models: SmallModels) -> None:
    for line in metrics(small_models.student.weights.parent):
        terms = line["terms"]
        assert isinstance(terms, dict)
        assert set(terms) == {"anchor", "class", "sample", "discrepancy"}


def test_a_teacher_at_half_its_temperature_is_one_of_twice_its_logits(
    few: Dataset, small_models: SmallModels, tmp_path: Path
) -> None:
    """In the attack, too; doubling is exact, so the students are the same to the bit."""
    model, card = load_model(small_models.teacher.weights)
    last = [each for each in model.modules() if isinstance(each, nn.Linear)][-1]
    with torch.no_grad():
        last.weight.mul_(2)
        last.bias.mul_(2)
    twice = tmp_path / "twice.safetensors"
    save_model(twice, model, card, force=False)

    def student(teacher: Path, temperature: float) -> Tensor:
        loss = LossOptions(anchor="igdm", teacher_temperature=temperature)
        config = small_config(
            method="ard", inner="adaad", architecture="resnet8:4", epochs=1, loss=loss
        )
        out = tmp_path / f"{teacher.stem}-{temperature}" / "student.safetensors"
        learn(config, few, load_teacher(teacher, None, few), out)
        return torch.cat([each.flatten() for each in load_model(out)[0].parameters()])

    halved = student(small_models.teacher.weights, 0.5)
    assert torch.equal(halved, student(twice, 1.0))
    assert not torch.equal(halved, student(small_models.teacher.weights, 1.0))


class KilledError(Exception):
    """Stands for the process's end."""


@pytest.mark.parametrize("method", ["ard", "trades", "natural"])
def test_a_run_killed_in_any_epoch_resumes_to_the_same_bits(
    method: str,
    few: Dataset,
    small_models: SmallModels,
    tmp_path: Path,
) -> None:
    config = small_config(method=method, architecture="resnet8:4", inner_steps=1)
    teacher = load_teacher(small_models.teacher.weights, None, few) if method == "ard" else None
    whole = learn(config, few, teacher, tmp_path / "whole" / "w.safetensors")
    steps = 0

    def kill_in_second_epoch(done: int, total: int, text: str) -> None:
        nonlocal steps
        steps += 1
        if done == total // 2:
            raise KilledError

    weights = tmp_path / "cut" / "w.safetensors"
    with pytest.raises(KilledError):
        learn(config, few, teacher, weights, report_progress=kill_in_second_epoch)
    assert steps > 0
    assert not weights.exists()
    torch.manual_seed(99)
    resumed = learn(config, few, teacher, weights, resume=True)
    assert resumed.sha256 == whole.sha256
    first, second = metrics(weights.parent), metrics(whole.weights.parent)
    assert [line["loss"] for line in first] == [line["loss"] for line in second]


def test_a_run_from_before_a_setting_existed_resumes(few: Dataset, tmp_path: Path) -> None:
    config = small_config(epochs=1, architecture="resnet8:4")
    weights = tmp_path / "w.safetensors"
    first = learn(config, few, None, weights)
    tensors, metadata = load_tensors(tmp_path / "checkpoint.safetensors", "a checkpoint")
    saved = json.loads(metadata["config"])
    del saved["patience"], saved["loss"]["ranking"]["priority"]
    metadata["config"] = json.dumps(saved)
    save_tensors(tmp_path / "checkpoint.safetensors", tensors, metadata, force=True)
    assert learn(config, few, None, weights, resume=True).sha256 == first.sha256
    changed = replace(config, loss=LossOptions(ranking=RankingOptions(priority="teacher")))
    with pytest.raises(InputError, match=r"loss\.ranking\.priority 'uniform', but now"):
        learn(changed, few, None, weights, resume=True)


def test_automatic_precision_stays_what_it_was_when_the_run_began(
    few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(epochs=1, architecture="resnet8:4", precision="auto")
    monkeypatch.setattr(stages, "fast_precision", lambda device: "bf16")
    learn(config, few, None, tmp_path / "w.safetensors")
    monkeypatch.setattr(stages, "fast_precision", lambda device: "fp32")
    resumed = learn(config, few, None, tmp_path / "w.safetensors", resume=True)
    assert resumed.config.precision == "bf16"


def test_dropout_and_a_version_of_the_weights_resume_to_the_same_bits(
    few: Dataset, tmp_path: Path
) -> None:
    """Both of which this network of torchvision's has, whose images have colours."""
    colours = replace(
        few,
        train=Split(few.train.images.repeat(1, 3, 1, 1), few.train.labels),
        test=Split(few.test.images.repeat(1, 3, 1, 1), few.test.labels),
    )
    config = small_config(
        method="natural",
        architecture="mnasnet0_5",
        epochs=2,
        batch_size=128,
        learning_rate=0.01,
        validate_every=2,
    )
    whole = learn(config, colours, None, tmp_path / "whole" / "w.safetensors")

    def kill_after_first_epoch(done: int, total: int, text: str) -> None:
        if text:
            raise KilledError

    weights = tmp_path / "cut" / "w.safetensors"
    torch.manual_seed(5)
    with pytest.raises(KilledError):
        learn(config, colours, None, weights, report_progress=kill_after_first_epoch)
    torch.manual_seed(99)
    assert learn(config, colours, None, weights, resume=True).sha256 == whole.sha256
    model, card = load_model(weights)
    assert card.architecture == "mnasnet0_5"
    assert model(torch.rand(1, 3, 8, 8)).shape == (1, 10)


def test_the_seed_decides_the_weights(few: Dataset, tmp_path: Path) -> None:
    config = small_config(epochs=1, architecture="resnet8:4", inner_steps=1)
    found = [
        learn(replace(config, seed=seed), few, None, tmp_path / name / "w.safetensors").sha256
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert found[0] == found[1] != found[2]


def test_resuming_with_other_settings_names_the_setting(few: Dataset, tmp_path: Path) -> None:
    config = small_config(epochs=1, method="natural", architecture="resnet8:4")
    learn(config, few, None, tmp_path / "w.safetensors")
    before = (tmp_path / "w.safetensors").read_bytes()
    other = replace(config, learning_rate=0.1)
    with pytest.raises(InputError, match=r"learning_rate 0\.2, but now learning_rate is 0\.1"):
        learn(other, few, None, tmp_path / "w.safetensors", resume=True)
    assert (tmp_path / "w.safetensors").read_bytes() == before


def test_resuming_with_another_teacher_or_other_data_is_refused(
    few: Dataset, small_models: SmallModels, tmp_path: Path
) -> None:
    config = small_config(epochs=1, method="ard", architecture="resnet8:4", inner_steps=1)
    teacher = load_teacher(small_models.teacher.weights, None, few)
    other_teacher = load_teacher(small_models.student.weights, None, few)
    weights = tmp_path / "w.safetensors"
    learn(config, few, teacher, weights)
    with pytest.raises(InputError, match="was made with teacher_sha256"):
        learn(config, few, other_teacher, weights, resume=True)
    other_data = replace(few, train=Split(255 - few.train.images, few.train.labels))
    with pytest.raises(InputError, match="was made with data_sha256"):
        learn(config, other_data, teacher, weights, resume=True)


def test_a_run_resumes_without_its_metrics(few: Dataset, tmp_path: Path) -> None:
    config = small_config(epochs=1, method="natural", architecture="resnet8:4")
    first = learn(config, few, None, tmp_path / "w.safetensors")
    (tmp_path / "metrics.jsonl").unlink()
    again = learn(config, few, None, tmp_path / "w.safetensors", resume=True)
    assert again.sha256 == first.sha256


def test_narrow_networks_train_on_large_images(digits: Dataset, tmp_path: Path) -> None:
    """torch 2.15 on the CPU dies of a narrow strided 1x1 convolution in channels_last."""
    images = digits.train.images[:200].repeat(1, 1, 8, 8)
    large = replace(digits, train=Split(images, digits.train.labels[:200]))
    config = small_config(epochs=1, inner_steps=1, batch_size=32)
    assert learn(config, large, None, tmp_path / "w.safetensors").weights.is_file()


def test_existing_runs_are_not_overwritten(few: Dataset, tmp_path: Path) -> None:
    config = small_config(epochs=1, method="natural", architecture="resnet8:4")
    learn(config, few, None, tmp_path / "w.safetensors")
    before = (tmp_path / "w.safetensors").read_bytes()
    with pytest.raises(InputError, match="--resume to go on, --force to start over"):
        learn(replace(config, seed=5), few, None, tmp_path / "w.safetensors")
    assert (tmp_path / "w.safetensors").read_bytes() == before
    learn(replace(config, seed=5), few, None, tmp_path / "w.safetensors", force=True)
    assert (tmp_path / "w.safetensors").read_bytes() != before


def test_nothing_to_resume_is_said(digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to resume"):
        learn(small_config(), digits, None, tmp_path / "w.safetensors", resume=True)


def test_the_validation_images_are_never_trained_on(digits: Dataset) -> None:
    training, validation = training_data(small_config(train_fraction=0.5), digits)
    held_out = {image.numpy().tobytes() for image in validation.images}
    assert not held_out & {image.numpy().tobytes() for image in training.images}
    assert len(validation) == len(hold_out_validation(digits.train)[1])


def test_selection_is_by_robust_accuracy_and_without_attack_by_clean(digits: Dataset) -> None:
    model, _ = torch.nn.Linear(1, 1), None
    early = Validation(epoch=1, clean_accuracy=0.5, robust_accuracy=0.4)
    late = Validation(epoch=2, clean_accuracy=0.9, robust_accuracy=0.3)
    for method, best in (("pgd_at", early), ("natural", late)):
        run = Run(small_config(method=method), model)
        run.offer(early)
        run.offer(late)
        assert run.best == best


def test_a_time_budget_becomes_a_number_of_epochs(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(10_000))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    # Each step takes one tick, a second: 20 steps an epoch, and a validation of 144 images that
    # costs 11 passes forward and back of each, where a step costs 2.5 of 64 images.
    config = small_config(architecture="resnet8:4", inner_steps=1)
    found, pace = plan(config, digits, Teachers(), Clock(seconds=600, begun=-1))
    epoch = 20 + 11 / 2.5 * 144 / 64
    assert pace.step_seconds == 1
    assert found.epoch_steps == 0
    assert found.epochs in (int(560 / epoch), int(580 / epoch))
    short, _ = plan(config, digits, Teachers(), Clock(seconds=35, begun=float(next(ticks))))
    assert short.epochs * short.epoch_steps + epoch - 20 < 35
    assert 0 < short.epoch_steps < 20
    least, _ = plan(config, digits, Teachers(), Clock(seconds=0.6, begun=float(next(ticks))))
    assert (least.epochs, least.epoch_steps) == (1, 1)


def test_a_batch_larger_than_the_data_is_refused(digits: Dataset) -> None:
    with pytest.raises(InputError, match="--batch-size 64: more than the"):
        training_data(small_config(train_fraction=0.03), digits)


def test_a_diverging_loss_ends_the_run_with_a_remedy(digits: Dataset, tmp_path: Path) -> None:
    broken = Split(digits.train.images, digits.train.labels)
    config = small_config(learning_rate=1e30, epochs=2)
    with pytest.raises(InputError, match="lower --learning-rate"):
        learn(config, replace(digits, train=broken), None, tmp_path / "w.safetensors")


def test_a_teacher_of_another_dataset_is_refused(
    small_models: SmallModels, digits: Dataset
) -> None:
    def cut(split: Split) -> Split:
        return Split(split.images[:, :, :6, :6], split.labels)

    other = replace(digits, train=cut(digits.train), test=cut(digits.test))
    with pytest.raises(InputError, match="give a teacher trained on digits"):
        load_teacher(small_models.teacher.weights, None, other)


def test_a_published_checkpoint_without_its_architecture_is_refused(
    digits: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="--teacher-arch"):
        load_teacher(tmp_path / "teacher.pt", None, digits)


def rates(config: TrainConfig, steps: int) -> Tensor:
    return torch.tensor([learning_rate(config, step, steps) for step in range(steps)])


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    found = rates(small_config(learning_rate=0.2), 100)
    assert float(found.max()) == pytest.approx(0.2)
    assert int(found.argmax()) == 19
    assert bool((found > 0).all())
    assert float(found[-1]) < 0.002


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"epochs": 0}, "--epochs 0"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"inner_steps": 0}, "--inner-steps 0"),
        ({"batch_size": 1}, "--batch-size 1"),
        ({"learning_rate": 0.0}, "--learning-rate 0"),
        ({"learning_rate": float("nan")}, "--learning-rate nan"),
        ({"weight_decay": -1.0}, "--weight-decay -1"),
        ({"ema_decay": 1.5}, "--ema-decay 1.5"),
        ({"method": "natural", "inner": "ce"}, "trains without an attack"),
        ({"precision": "fp16"}, "--precision fp16"),
        ({"inner": "kl"}, "--inner kl"),
        ({"inner": "kl_clean"}, "needs a teacher"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        small_config(**changes)
