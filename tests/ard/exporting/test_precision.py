"""Calibration images, and a budget that mends the collapse of INT8 in depthwise networks."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typer.testing import CliRunner

from ard.attacks.registry import parse_attack
from ard.cli import app
from ard.commands.flags import target_of
from ard.data.splits import (
    SPLIT_SEED,
    Dataset,
    Split,
    any_subset,
    as_float,
    hold_out_validation,
    take_limit,
)
from ard.evaluation.accuracy import evaluate_attack
from ard.exporting import precision
from ard.exporting.export import export
from ard.exporting.precision import DropOptions, allowed_drop_of, calibration_images, part_of
from ard.models.predict import predict
from ard.models.weight_files import load_model, save_model
from deploy.allowed_drop.terms import CHOSEN, PLAIN, Outcome
from deploy.artifact import export_artifact
from deploy.onnx_export.export import export_fp32, finish
from deploy.onnx_export.parity import Parity
from deploy.plan import ExportPlan, Int8Plan
from edge_bench import devices
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard
from edge_bench.files.onnx_file import read_card

from ...emulated import write_haswell
from ..conftest import EPSILON, SmallModels

SMALL_EPSILON = 0.05
CARD = ModelCard(architecture="test", dataset="digits", classes=10, input_shape=(1, 8, 8))


class Depthwise(nn.Module):
    """Stem, depthwise and pointwise convolution, as in a MobileNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.pointwise = nn.Conv2d(16, 32, 1)
        self.fc = nn.Linear(32 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.pointwise(F.relu(self.depthwise(F.relu(self.stem(x))))))
        logits: Tensor = self.fc(F.max_pool2d(x, 2).flatten(1))
        return logits


@pytest.fixture(scope="module")
def trained(digits: Dataset) -> Depthwise:
    torch.manual_seed(0)
    model = Depthwise()
    training, _ = hold_out_validation(digits.train)
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(60):
        loss = F.cross_entropy(model(as_float(training.images)), training.labels)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def collapsing(trained: Depthwise, digits: Dataset) -> nn.Module:
    """A trained network whose depthwise channels span five orders of magnitude.

    Scaled up in one layer and down in the next, through a ReLU: the same function of the images,
    but an activation that 256 levels cannot hold. Training leaves MobileNets in such a state.
    """
    model = copy.deepcopy(trained)
    images = as_float(digits.train.images)
    scales = torch.logspace(-2, 3, 16)
    before = model(images)
    with torch.no_grad():
        model.depthwise.weight *= scales.view(-1, 1, 1, 1)
        assert model.depthwise.bias is not None
        model.depthwise.bias *= scales
        model.pointwise.weight /= scales.view(1, -1, 1, 1)
        torch.testing.assert_close(model(images), before, atol=1e-3, rtol=1e-3)
    return model


@pytest.fixture(scope="module")
def vanishing(trained: Depthwise, digits: Dataset) -> nn.Module:
    """The same function again, by weights of the stem that are too small for a float16."""
    model = copy.deepcopy(trained)
    images = as_float(digits.train.images)
    before = model(images)
    scales = torch.logspace(-8, -2, 16)
    # What the stem takes, the next two layers give back, a root each: neither grows too large.
    root = scales.sqrt()
    assert model.stem.bias is not None
    assert model.depthwise.bias is not None
    model.stem.weight *= scales.view(-1, 1, 1, 1)
    model.stem.bias *= scales
    model.depthwise.weight /= root.view(-1, 1, 1, 1)
    model.depthwise.bias *= root
    model.pointwise.weight /= root.view(1, -1, 1, 1)
    torch.testing.assert_close(model(images), before, atol=1e-3, rtol=1e-3)
    return model


def plan(
    model: nn.Module,
    digits: Dataset,
    budget: float | None,
    most: int | None,
    *,
    fp16: bool = False,
) -> ExportPlan:
    training, validation = hold_out_validation(digits.train)
    clean = as_float(validation.images)
    measured = None
    if budget is not None:
        options = DropOptions(max_drop=budget, max_float_layers=most)
        measured = allowed_drop_of(
            model, validation, options, classes=10, epsilon=SMALL_EPSILON, seed=0
        )
    return ExportPlan(
        parent_sha256="f" * 64,
        int8=None if fp16 else Int8Plan(target="x86-vnni", calibration=training.images[:256]),
        fp16=fp16,
        budget=measured,
        check_images={"clean": clean},
        check_labels=validation.labels,
        least_agreement=0.9,
    )


def test_the_budget_mends_the_collapse_that_default_int8_has(
    collapsing: nn.Module, digits: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="agrees with the torch model on"):
        export_artifact(
            collapsing, CARD, plan(collapsing, digits, None, None), tmp_path / "a.onnx", False
        )
    mended = export_artifact(
        collapsing, CARD, plan(collapsing, digits, 0.02, None), tmp_path / "b.onnx", False
    )
    outcome = mended.budget
    assert outcome is not None
    assert outcome.trials[0].drop.value > 0.2
    # The activation that cannot be held is written by one layer and read by the other.
    assert {layer.name for layer in outcome.in_float} == {"depthwise", "pointwise"}
    assert outcome.reported_drop(PLAIN).value > 0.2
    assert outcome.reported_drop(CHOSEN).value <= 0.05
    assert mended.parities[0].agreement > 0.97
    types = {i.name: i.data_type for i in onnx.load(tmp_path / "b.onnx").graph.initializer}
    assert types["depthwise.weight"] == onnx.TensorProto.FLOAT
    assert types["fc.weight_quantized"] == onnx.TensorProto.INT8
    card = read_card(tmp_path / "b.onnx")
    assert card is not None
    assert sorted(card.recipe["float_layers"]) == ["depthwise", "pointwise"]
    assert card.recipe["max_robust_drop"] == 0.02
    assert card.recipe["robust_drop"]["samples"] == len(hold_out_validation(digits.train)[1]) // 2
    assert card.recipe["robust_drop"]["drop"] == outcome.reported_drop(CHOSEN).value


def test_the_budget_mends_what_vanishes_in_fp16(
    vanishing: nn.Module, digits: Dataset, tmp_path: Path
) -> None:
    wanted = plan(vanishing, digits, None, None, fp16=True)
    with pytest.raises(InputError, match="agrees with the torch model on"):
        export_artifact(vanishing, CARD, wanted, tmp_path / "a.onnx", False)
    wanted = plan(vanishing, digits, 0.02, None, fp16=True)
    mended = export_artifact(vanishing, CARD, wanted, tmp_path / "b.onnx", False)
    outcome = mended.budget
    assert outcome is not None
    assert outcome.trials[0].drop.value > 0.2
    assert {layer.name for layer in outcome.in_float} == {"stem"}
    assert outcome.reported_drop(CHOSEN).value <= 0.05
    types = {i.name: i.data_type for i in onnx.load(tmp_path / "b.onnx").graph.initializer}
    assert types["stem.weight"] == onnx.TensorProto.FLOAT
    assert types["depthwise.weight"] == types["fc.weight"] == onnx.TensorProto.FLOAT16
    card = read_card(tmp_path / "b.onnx")
    assert card is not None
    assert card.precision == "fp16"
    assert card.recipe["float_layers"] == ["stem"]


@pytest.mark.parametrize("kind", precision.CALIBRATIONS)
def test_calibration_images_are_the_training_images_attacked_or_not(
    kind: str, small_models: SmallModels, digits: Dataset
) -> None:
    model, _ = load_model(small_models.student.weights)
    training, _ = hold_out_validation(digits.train)
    clean = calibration_images(model, training, 60, "clean", EPSILON, 0)
    found = calibration_images(model, training, 60, kind, EPSILON, 0)
    assert found.dtype == torch.uint8
    assert found.shape == clean.shape == (60, 1, 8, 8)
    change = (found.int() - clean.int()).abs().flatten(1).amax(dim=1)
    # 0.15 * 255 = 38.25
    assert change.max() <= 38
    attacked = {"clean": 0, "adversarial": 60, "mixed": 30}[kind]
    assert int((change > 0).sum()) == attacked
    if kind == "adversarial":
        labels = training.at(any_subset(training, 60, SPLIT_SEED)).labels
        right = [
            float((predict(model, as_float(i)) == labels).float().mean()) for i in (clean, found)
        ]
        assert right[1] < right[0] - 0.1


def test_all_training_images_calibrate_where_more_are_asked_for(
    small_models: SmallModels, digits: Dataset
) -> None:
    model, _ = load_model(small_models.student.weights)
    training, _ = hold_out_validation(digits.train)
    found = calibration_images(model, training, 10**6, "clean", EPSILON, 0)
    assert torch.equal(found, training.images)


def test_the_halves_are_held_out_images_and_share_none(
    small_models: SmallModels, digits: Dataset
) -> None:
    model, _ = load_model(small_models.student.weights)
    _, validation = hold_out_validation(digits.train)
    found = allowed_drop_of(
        model, validation, DropOptions(max_drop=0.1, images=50), classes=10, epsilon=0.02, seed=0
    )

    def nearest(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], split: Split) -> list[int]:
        flat = torch.from_numpy(images).flatten(1).double()
        distance = torch.cdist(flat, split.images.flatten(1).double(), p=float("inf"))
        return [int(i) for i in distance.argmin(dim=1)]

    first, second = (
        nearest(half.adversarial, validation) for half in (found.deciding, found.reporting)
    )
    assert len(first) == len(second) == 25
    assert not set(first) & set(second)
    for half, index in ((found.deciding, first), (found.reporting, second)):
        assert torch.equal(validation.labels[index], torch.from_numpy(half.labels))


def test_the_judge_of_fp32_finds_what_an_evaluation_of_the_weights_finds(
    small_models: SmallModels, digits: Dataset, tmp_path: Path
) -> None:
    model, card = load_model(small_models.student.weights)
    split = take_limit(hold_out_validation(digits.train)[1], 60)
    spec = parse_attack("pgd10", epsilon=EPSILON)
    half = part_of(model, split, spec, 10)
    export_fp32(model, card.input_shape, tmp_path / "m.onnx")
    finish(tmp_path / "m.onnx", card)
    judged = half.judge(tmp_path / "m.onnx")
    assert np.array_equal(judged.clean, evaluate_attack(model, split, None))
    replayed = predict(model, as_float(torch.from_numpy(half.adversarial))) == split.labels
    own = evaluate_attack(model, split, replace(spec, seed=precision.OTHER_SEED))
    expected = judged.clean & replayed.numpy() & own
    assert (judged.robust == expected).mean() > 0.96
    assert 0 < judged.robust.sum() <= min(replayed.sum(), own.sum())


def test_a_budget_decides_for_its_target_on_a_machine_that_would_saturate(
    small_models: SmallModels, digits: Dataset, tmp_path: Path
) -> None:
    def outcome(name: str, root: Path) -> tuple[Outcome, list[Parity]]:
        done = export(
            small_models.student.weights,
            digits,
            tmp_path / f"{name}.onnx",
            int8_target="x86-vnni",
            calibration_images=64,
            budget=DropOptions(max_drop=0.5, images=24),
            root=root,
        )
        assert done.budget is not None
        return done.budget, done.parities

    here, checks = outcome("here", devices.ROOT)
    there, others = outcome("there", write_haswell(tmp_path / "haswell"))
    assert others == checks
    for ours, theirs in zip(here.trials, there.trials, strict=True):
        assert np.array_equal(ours.judged.clean, theirs.judged.clean)
        assert np.array_equal(ours.judged.robust, theirs.judged.robust)
    assert (tmp_path / "there.onnx").read_bytes() == (tmp_path / "here.onnx").read_bytes()


@pytest.mark.parametrize(
    ("target", "flags", "is_said"),
    [("x86-vnni", "avx2", True), ("x86-vnni", "avx_vnni", False), ("x86", "avx2", False)],
)
def test_a_target_that_this_processor_is_not_is_said_at_the_start(
    target: str, flags: str, is_said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert target_of(target, write_haswell(tmp_path, flags)) == target
    said = capsys.readouterr().err
    assert ("--target x86-vnni: this processor has no VNNI, and the file" in said) == is_said


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_drop": 1.0}, r"--max-robust-drop 1: expected a fraction from 0"),
        ({"max_drop": -0.1}, r"--max-robust-drop -0.1"),
        ({"max_drop": 0.1, "images": 1}, r"--budget-images 1: expected 2 to 144"),
        ({"max_drop": 0.1, "images": 5000}, r"--budget-images 5000"),
    ],
)
def test_budgets_that_mean_nothing_are_refused(
    options: dict[str, float], sentence: str, small_models: SmallModels, digits: Dataset
) -> None:
    model, _ = load_model(small_models.student.weights)
    _, validation = hold_out_validation(digits.train)
    with pytest.raises(InputError, match=sentence):
        allowed_drop_of(
            model,
            validation,
            DropOptions(**options),  # type: ignore[arg-type]
            classes=10,
            epsilon=EPSILON,
            seed=0,
        )


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def invoke(weights: Path, *options: object) -> tuple[int, str, str]:
        out = tmp_path / "out.onnx"
        arguments = ("export", weights, "--out", out, "--int8", *options)
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        return result.exit_code, result.stdout, result.stderr

    return invoke


def test_export_within_a_budget_tells_what_each_choice_bought(
    small_models: SmallModels, run: Run, tmp_path: Path
) -> None:
    picture = tmp_path / "p.svg"
    options = ("--max-robust-drop", "0.5", "--budget-images", "40", "--pareto", picture)
    choices = ("--calibration", "mixed", "--calibration-method", "percentile")
    few = ("--calibration-images", "64", "--json")
    code, out, err = run(small_models.student.weights, "--target", "auto", *options, *choices, *few)
    assert code == 0, err
    found = json.loads(out)
    assert "--target auto: " in err
    assert f"--target auto: {found['int8_target']} (" in err
    budget = found["budget"]
    assert budget["met"]
    assert budget["trials"][budget["chosen"]]["float_layers"] == []
    assert budget["fp32"]["size_bytes"] > budget["trials"][0]["size_bytes"]
    assert budget["trials"][0]["drop"]["samples"] == 20
    assert picture.read_text().startswith("<?xml")
    card = read_card(tmp_path / "out.onnx")
    assert card is not None
    kept = ("calibration", "calibration_method", "max_robust_drop", "float_layers")
    assert [card.recipe[key] for key in kept] == ["mixed", "percentile", 0.5, []]


def test_a_budget_that_cannot_be_met_writes_nothing_and_exits_1(
    small_models: SmallModels, run: Run, tmp_path: Path
) -> None:
    model, card = load_model(small_models.student.weights)
    block = model.get_submodule("network.layer1.0")
    scales = torch.logspace(-2, 3, 8)
    with torch.no_grad():
        for name in ("bn1.weight", "bn1.bias"):
            block.get_parameter(name).mul_(scales)
        block.get_parameter("conv2.weight").div_(scales.view(1, -1, 1, 1))
    weights = tmp_path / "planted.safetensors"
    save_model(weights, model, card, force=False)
    out = tmp_path / "out.onnx"
    out.write_bytes(b"the artefact from before")
    options = ("--max-robust-drop", "0", "--max-float-layers", "1", "--force")
    few = ("--budget-images", "40", "--calibration-images", "64")
    code, table, err = run(weights, *options, *few, "--pareto", tmp_path / "p.png")
    assert code == 1
    assert "so nothing was written" in err.splitlines()[-1]
    assert "network.layer1.0.conv" in table
    assert out.read_bytes() == b"the artefact from before"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"planted.safetensors", "out.onnx"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--calibration", "noise"), "--calibration noise: expected clean, adversarial, mixed"),
        (("--calibration-method", "mean"), "--calibration-method mean: expected one of minmax"),
        (("--budget-images", "100"), "--budget-images 100: belongs to a robustness budget"),
        (("--pareto", "p.svg"), "--pareto p.svg: belongs to a robustness budget"),
        (("--max-robust-drop", "0.1", "--pareto", "p.gif"), "ends in .svg or .png"),
        (("--max-robust-drop", "2"), "--max-robust-drop 2"),
    ],
)
def test_options_of_precision_that_are_wrong_get_a_sentence(
    options: tuple[str, ...], named: str, small_models: SmallModels, run: Run, tmp_path: Path
) -> None:
    code, _, err = run(small_models.student.weights, *options)
    assert code == 2
    assert named in err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--calibration-images", "3"), "chooses INT8 settings; add --int8, or leave it out"),
        (("--calibration", "clean"), "chooses INT8 settings; add --int8, or leave it out"),
        (("--fp16", "--target", "arm"), "chooses INT8 settings; add --int8, or leave it out"),
        (
            ("--max-robust-drop", "0.1"),
            "chooses what stays in float of a lower precision; add --int8 or --fp16, or leave it "
            "out",
        ),
    ],
)
def test_options_of_precision_need_one_that_they_serve(
    options: tuple[str, ...], sentence: str, small_models: SmallModels, tmp_path: Path
) -> None:
    arguments = ("export", small_models.student.weights, "--out", tmp_path / "a.onnx", *options)
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 2
    assert f"{options[-2]} {options[-1]}: {sentence}" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_fp16_is_exported_within_a_budget(small_models: SmallModels, tmp_path: Path) -> None:
    out = tmp_path / "a.onnx"
    options = ("--fp16", "--max-robust-drop", "0.1", "--budget-images", "40", "--json")
    arguments = ("export", small_models.student.weights, "--out", out, *options)
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.stderr
    budget = json.loads(result.stdout)["budget"]
    assert budget["met"]
    assert budget["trials"][0]["drop"]["samples"] == 20
    card = read_card(out)
    assert card is not None
    found = (card.precision, card.recipe["max_robust_drop"], card.recipe["float_layers"])
    assert found == ("fp16", 0.1, [])
