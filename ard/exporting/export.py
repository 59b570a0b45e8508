"""From weights to an ONNX artefact, checked on clean and adversarial held-out images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from ard.attacks.budget import recipe_epsilon
from ard.attacks.registry import parse_attack
from ard.data.datasets import matched
from ard.data.splits import Dataset, Split, as_float, take_limit, training_and_validation
from ard.exporting import precision
from ard.exporting.precision import DropOptions
from ard.learning.train import VALIDATION_ATTACK
from ard.models.weight_files import load_model
from deploy.allowed_drop.terms import AllowedDrop
from deploy.artifact import Exported, export_artifact
from deploy.plan import ExportPlan, Int8Plan
from deploy.quantization.calibration import require_method
from edge_bench import devices
from edge_bench.core.progress import Monitor, silent
from edge_bench.core.spec import ModelCard
from edge_bench.files.store import sha256_file

CHECK_IMAGES = 512


LEAST_AGREEMENT_FLOAT = 0.999


LEAST_AGREEMENT_INT8 = 0.9
"""Rounding to 256 levels moves some images near a boundary over it. The FP32 graph that is
quantised must still reach `deploy.artifact.LEAST_FIDELITY`."""


LEAST_AGREEMENT_TRAINED = 0.95
"""Of what was trained as INT8: torch sums in floats and a runtime in integers, so that ties round
either way. On a MobileNetV2 with 52 layers that moved 2 % of the classes, on a ResNet-8 0.2 %."""


def export(
    model_path: Path,
    dataset: Dataset,
    out: Path,
    *,
    int8_target: str | None = None,
    calibration: str = "clean",
    calibration_method: str = "minmax",
    calibration_images: int = 512,
    fp16: bool = False,
    target: str | None = None,
    budget: DropOptions | None = None,
    input_type: str = "float32",
    batch_size: int | None = None,
    least_agreement: float | None = None,
    seed: int = 0,
    force: bool = False,
    monitor: Monitor = silent,
    root: Path = devices.ROOT,
) -> Exported:
    """Export weights to ONNX, checked on clean and adversarial held-out images.

    Example:
        export(Path("student.safetensors"), digits, Path("student.onnx"), int8_target="arm")

    `target` (of fp32 and fp16), `input_type` and `batch_size` as in `ExportPlan`, `root` as in
    `export_artifact`.

    Raises:
        DropError: the budget cannot be met; nothing is written.
    """
    model, card = load_model(model_path)
    dataset = matched(model_path, card, dataset)
    training, validation = training_and_validation(dataset)
    check = take_limit(validation, CHECK_IMAGES)
    epsilon = recipe_epsilon(card)
    spec = parse_attack(VALIDATION_ATTACK, epsilon=epsilon, seed=seed)
    adversarial = precision.adversarial_images(model, check, spec)
    int8 = None if int8_target is None else Int8Plan(target=int8_target)
    if int8 is not None and not card.recipe.get("qat"):
        require_method(calibration_method)
        images = precision.calibration_images(
            model, training, calibration_images, calibration, epsilon, seed, monitor
        )
        int8 = replace(int8, calibration=images, kind=calibration, method=calibration_method)
    held_to = (model, validation, card, seed, monitor, root)
    plan = ExportPlan(
        parent_sha256=sha256_file(model_path),
        int8=int8,
        fp16=fp16,
        target=target,
        budget=None if budget is None else _measured(budget, *held_to),
        input=input_type,
        batch_size=batch_size,
        check_images={"clean": as_float(check.images), "adversarial": adversarial},
        check_labels=check.labels,
        least_agreement=_least_agreement(card, int8_target, least_agreement),
    )
    return export_artifact(model, card, plan, out, force, monitor, root)


def _measured(
    budget: DropOptions,
    model: nn.Module,
    validation: Split,
    card: ModelCard,
    seed: int,
    monitor: Monitor,
    root: Path,
) -> AllowedDrop:
    """The budget, with what the fp32 artefact is held to."""
    return precision.allowed_drop_of(
        model,
        validation,
        budget,
        classes=card.classes,
        epsilon=recipe_epsilon(card),
        seed=seed,
        monitor=monitor,
        root=root,
    )


def _least_agreement(card: ModelCard, int8_target: str | None, asked: float | None) -> float:
    """The share of equal classes that an artefact is held to, `asked` for or by its precision."""
    if asked is not None:
        return asked
    if card.recipe.get("qat"):
        return LEAST_AGREEMENT_TRAINED
    return LEAST_AGREEMENT_INT8 if int8_target else LEAST_AGREEMENT_FLOAT
