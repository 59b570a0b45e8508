"""Quantisation-aware fine-tuning: trained, kept, resumed, attacked and exported as one network."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ard.attacks.steps.ascent import cross_entropy, gradient_and_logits
from ard.attacks.victims import open_victim
from ard.cli import app
from ard.data.splits import Dataset, as_float, take_limit
from ard.exporting.export import export
from ard.exporting.precision import DropOptions
from ard.learning.config import TrainConfig
from ard.learning.learn import Learned, learn
from ard.learning.start import Start, load_start
from ard.learning.teacher import load_teacher
from ard.models.folding import FoldedTwin
from ard.models.weight_files import load_model, load_tensors, save_tensors
from deploy.qat.qdq_layout import arrays_of
from deploy.qat.qdq_network import QDQNetwork
from deploy.quantization.twin import open_as_target
from edge_bench.core.errors import InputError
from edge_bench.robustness.inference import stored_logits

from ..conftest import SmallModels, small_config
from .test_train import KilledError, metrics

TARGET = "x86-vnni"


def qat_config(**changes: object) -> TrainConfig:
    settings: dict[str, object] = {
        "method": "ard",
        "qat": TARGET,
        "epochs": 2,
        "inner_steps": 1,
        "train_fraction": 0.4,
        "learning_rate": 0.01,
    }
    return small_config(**(settings | changes))


@pytest.fixture(scope="module")
def start(small_models: SmallModels, digits: Dataset) -> Start:
    """The student as plain quantisation has it."""
    return load_start(small_models.student.weights, qat_config(), digits)


@pytest.fixture(scope="module")
def tuned(
    small_models: SmallModels,
    start: Start,
    digits: Dataset,
    tmp_path_factory: pytest.TempPathFactory,
) -> Learned:
    """The student, fine-tuned as INT8."""
    teacher = load_teacher(small_models.teacher.weights, None, digits)
    out = tmp_path_factory.mktemp("qat") / "student.safetensors"
    return learn(qat_config(), digits, teacher, out, start=start)


@pytest.fixture(scope="module")
def artifact(tuned: Learned, digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("artifact") / "student-int8.onnx"
    export(tuned.weights, digits, out, int8_target=TARGET)
    return out


def test_the_weights_are_those_of_the_quantised_network(
    tuned: Learned, small_models: SmallModels
) -> None:
    model, card = load_model(tuned.weights)
    assert isinstance(model, QDQNetwork)
    assert model.target == card.recipe["qat"] == TARGET
    assert card.recipe["start_sha256"] == small_models.student.sha256
    assert tuned.validation.clean_accuracy > 0.6


def test_the_artefact_computes_what_was_trained(
    tuned: Learned, artifact: Path, digits: Dataset
) -> None:
    images = as_float(digits.test.images)
    model, _ = load_model(tuned.weights)
    with open_as_target(artifact, 1) as backend, torch.no_grad():
        theirs, ours = torch.from_numpy(backend.infer(images.numpy())), model(images)
        assert backend.card is not None
        assert backend.card.precision == "int8"
        assert backend.card.parent_sha256 == tuned.sha256
        assert backend.card.recipe["int8_target"] == TARGET
        assert "calibration_images" not in backend.card.recipe
    assert (ours.argmax(1) == theirs.argmax(1)).float().mean() >= 0.98
    assert (ours - theirs).abs().mean() < 0.001 * ours.abs().mean()


def test_the_artefact_may_read_levels_by_the_batch(
    tuned: Learned, artifact: Path, digits: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "levels.onnx"
    done = export(tuned.weights, digits, out, int8_target=TARGET, input_type="uint8", batch_size=8)
    assert min(parity.agreement for parity in done.parities) >= 0.98
    levels = digits.test.images[:64].numpy()
    with open_as_target(out, 1) as backend, open_as_target(artifact, 1) as floats:
        reads = backend.input
        assert (reads.dtype, reads.channels_last, reads.batch_size) == ("uint8", True, 8)
        found, expected = (stored_logits(each, levels, 10) for each in (backend, floats))
    assert np.array_equal(found, expected)


def test_training_starts_from_the_float_weights_of_every_layer(
    small_models: SmallModels, start: Start
) -> None:
    model = start.model
    assert isinstance(model, QDQNetwork)
    # Off the middles of their steps, all of them: none was taken from the integers.
    rounded = [name for name in model.weights if name.endswith("weight_quantized")]
    assert len(rounded) == 10
    middles = arrays_of(model.filled().graph)
    for name in rounded:
        integers = middles[name.replace("/", ".")]
        scale = middles[name.replace("/", ".").replace("weight_quantized", "weight_scale")]
        off = model.weights[name].detach().numpy() - integers * scale.reshape(
            [-1] + [1] * (integers.ndim - 1)
        )
        assert np.abs(off).mean() > 0.1 * scale.mean(), name


def test_scales_and_weights_were_learnt(tuned: Learned, start: Start) -> None:
    model, _ = load_model(tuned.weights)
    before, after = dict(start.model.named_parameters()), dict(model.named_parameters())
    assert tuned.validation.epoch > 0
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_run_that_was_killed_resumes_to_the_same_bits(
    epoch: int,
    small_models: SmallModels,
    start: Start,
    digits: Dataset,
    tuned: Learned,
    tmp_path: Path,
) -> None:
    def kill(done: int, total: int, text: str) -> None:
        if done == total * epoch // 2 - 3:
            raise KilledError

    def run(**more: object) -> Learned:
        teacher = load_teacher(small_models.teacher.weights, None, digits)
        out = tmp_path / "student.safetensors"
        return learn(qat_config(), digits, teacher, out, start=start, **more)  # type: ignore[arg-type]

    with pytest.raises(KilledError):
        run(report_progress=kill)
    # Before the first epoch's end there is nothing to go on from.
    resumed = run(resume=True) if epoch > 1 else run()
    assert resumed.sha256 == tuned.sha256
    first, second = metrics(tmp_path), metrics(tuned.weights.parent)
    assert [line["loss"] for line in first] == [line["loss"] for line in second]


def test_the_start_is_kept_where_training_finds_nothing_better(
    start: Start, digits: Dataset, tmp_path: Path
) -> None:
    config = qat_config(method="pgd_at", learning_rate=0.5, epochs=1, ema_decay=0.0)
    found = learn(config, digits, None, tmp_path / "w.safetensors", start=start)
    assert found.validation.epoch == 0
    kept, expected = load_model(found.weights)[0].state_dict(), start.model.state_dict()
    assert all(torch.equal(kept[name], expected[name]) for name in expected)


def test_training_starts_from_weights_in_float_too(
    small_models: SmallModels, digits: Dataset, tmp_path: Path
) -> None:
    config = small_config(learning_rate=1e-6, epochs=1, train_fraction=0.2)
    start = load_start(small_models.student.weights, config, digits)
    found = learn(config, digits, None, tmp_path / "w.safetensors", start=start)
    before = small_models.student.validation
    assert abs(found.validation.clean_accuracy - before.clean_accuracy) < 0.05


def test_the_attack_in_training_sees_the_rounding_that_is_learnt(
    start: Start, digits: Dataset
) -> None:
    student = copy.deepcopy(start.model)
    images = as_float(take_limit(digits.test, 16).images)
    twin = FoldedTwin(student)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(1.2)
        assert not torch.equal(twin.module(images), student(images))
        assert torch.equal(twin.refresh()(images), student(images))


def test_an_attack_gets_the_straight_through_gradient_of_the_network_itself(
    tuned: Learned, artifact: Path, digits: Dataset
) -> None:
    split = take_limit(digits.test, 64)
    images, labels = as_float(split.images), split.labels
    with open_victim(tuned.weights) as victim:
        gradient, _ = gradient_and_logits(
            victim.cheapest(), images, lambda z: cross_entropy(z, labels)
        )
    # Nothing is masked: every image has a gradient, and it points to where the loss rises.
    assert (gradient.flatten(1).abs().sum(1) > 0).all()
    with open_victim(artifact, parent=tuned.weights, threads=1) as victim, torch.no_grad():
        before = cross_entropy(victim.module(images), labels)
        after = cross_entropy(victim.module((images + 0.02 * gradient.sign()).clamp(0, 1)), labels)
    assert (after > before).float().mean() > 0.9


def test_weights_trained_for_a_target_are_exported_as_nothing_else(
    tuned: Learned, digits: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "a.onnx"
    with pytest.raises(InputError, match=r"--target: .* for x86-vnni, came --int8 --target arm"):
        export(tuned.weights, digits, out, int8_target="arm")
    for fp16 in (False, True):
        with pytest.raises(InputError, match=r"for x86-vnni, came no --int8; give --int8 --target"):
            export(tuned.weights, digits, out, fp16=fp16)
    budget = DropOptions(max_drop=0.1, images=20)
    with pytest.raises(InputError, match=r"--max-robust-drop: .* trained as INT8 in every layer"):
        export(tuned.weights, digits, out, int8_target=TARGET, budget=budget)
    for ignored in (("--calibration", "clean"), ("--calibration-images", "7")):
        asked = ("export", tuned.weights, "--int8", *ignored, "--out", out)
        told = CliRunner().invoke(app, [str(argument) for argument in asked])
        assert told.exit_code == 2
        assert f"{' '.join(ignored)}: the INT8 ranges of" in " ".join(told.stderr.split())
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_is_refused_as_a_start(
    tuned: Learned, small_models: SmallModels, digits: Dataset
) -> None:
    weights = small_models.student.weights
    with pytest.raises(InputError, match=r"holds a resnet8:8, but the student is a resnet20"):
        load_start(weights, qat_config(architecture="resnet20"), digits)
    with pytest.raises(InputError, match=r"trained as INT8 for x86-vnni already"):
        load_start(tuned.weights, qat_config(), digits)
    with pytest.raises(InputError, match=r"--target pentium: expected auto or one of x86"):
        load_start(weights, qat_config(qat="pentium"), digits)
    other = replace(digits, classes=7, class_names=None)
    with pytest.raises(InputError, match="of 10 classes"):
        load_start(weights, qat_config(), other)
    parts = [
        split.at((split.labels < 9).nonzero().squeeze(1)) for split in (digits.train, digits.test)
    ]
    few = replace(digits, train=parts[0], test=parts[1], classes=9, class_names=tuple("012345678"))
    with pytest.raises(InputError, match=r"classes of other names: '0'.*10 in all"):
        load_start(weights, qat_config(), few)


def test_fine_tuning_needs_a_start_and_more_digits_than_bf16(
    digits: Dataset, start: Start, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"--qat: fine-tunes trained weights .* as --init"):
        learn(qat_config(method="pgd_at"), digits, None, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"--precision bf16: --qat needs fp32"):
        qat_config(precision="bf16")
    config = qat_config(method="pgd_at", precision="auto", epochs=1)
    found = learn(config, digits, None, tmp_path / "w.safetensors", start=start)
    assert found.config.precision == "fp32"


def test_a_file_that_lost_a_scale_is_refused(tuned: Learned, tmp_path: Path) -> None:
    tensors, metadata = load_tensors(tuned.weights, "weights")
    del tensors[next(name for name in tensors if name.startswith("quantisers."))]
    save_tensors(tmp_path / "w.safetensors", tensors, metadata, force=False)
    with pytest.raises(InputError, match=r"w\.safetensors: .* trained as INT8 for x86-vnni, but"):
        load_model(tmp_path / "w.safetensors")
