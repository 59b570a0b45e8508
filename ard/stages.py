"""The stages as functions of files: what `cli` and `demo` run, each from and to the disk."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ard import precision
from ard.attacks import parse_attack
from ard.board import check_installed
from ard.checkpoint import load_known, load_model, load_published, load_tensors, save_model
from ard.config import TrainConfig
from ard.data import Dataset, as_float, hold_out_validation, take_limit
from ard.distributed import ALONE, World
from ard.losses import LOSSES
from ard.precision import BudgetOptions
from ard.recipes import CONFIG, write_config
from ard.state import Validation
from ard.step import Teachers, fast_precision
from ard.teachers import teacher_for
from ard.train import CHECKPOINT, VALIDATION_ATTACK, plan_epochs, train
from deploy.artifact import Exported, export_artifact
from deploy.calibration import require_method
from deploy.plan import ExportPlan, Int8Plan
from edge_bench.console import Monitor, ProgressCallback, no_progress, silent
from edge_bench.errors import InputError
from edge_bench.spec import NORMS, ModelCard, parse_epsilon
from edge_bench.store import sha256_file

if TYPE_CHECKING:
    from ard.start import Start

CHECK_IMAGES = 512
LEAST_AGREEMENT_FLOAT = 0.999
LEAST_AGREEMENT_INT8 = 0.9
"""Rounding to 256 levels moves some images near a boundary over it. The FP32 graph that is
quantised must still reach `deploy.artifact.LEAST_FIDELITY`."""
LEAST_AGREEMENT_TRAINED = 0.95
"""Of what was trained as INT8: torch sums in floats and a runtime in integers, so that ties round
either way. On a MobileNetV2 with 52 layers that moved 2 % of the classes, on a ResNet-8 0.2 %."""


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A teacher that fits the dataset, and the file it came from."""

    model: nn.Module
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A finished training run."""

    weights: Path
    sha256: str
    config: TrainConfig
    validation: Validation


def load_teacher(path: Path, architecture: str | None, dataset: Dataset) -> Teacher:
    """Load a teacher written by ardx, or a published checkpoint.

    `architecture` is needed where the file is published under a name that `ard.teachers` does not
    know; it is an architecture, or the name of the known teacher that the file is.

    Raises:
        InputError: unreadable, or of another number of classes or image shape.
    """
    model: nn.Module
    known = teacher_for(path, architecture, dataset.name)
    if known is not None:
        model, sha256 = load_known(path, known)
        return Teacher(model=model, sha256=sha256)
    channels = dataset.image_shape[0]
    if architecture is not None:
        model = load_published(path, architecture, channels, dataset.classes)
        return Teacher(model=model, sha256=sha256_file(path))
    if path.suffix in (".pt", ".pth"):
        raise InputError(
            f"{path}: a published checkpoint does not say what it is; give --teacher-arch, an "
            "architecture or a name that `ardx teachers` lists"
        )
    model, card = load_model(path)
    if card.classes != dataset.classes or card.input_shape != dataset.image_shape:
        raise InputError(
            f"{path}: a teacher of {card.classes} classes on images {card.input_shape} "
            f"({card.dataset}), but {dataset.name} has {dataset.classes} classes on "
            f"{dataset.image_shape}; give a teacher trained on {dataset.name}"
        )
    return Teacher(model=model, sha256=sha256_file(path))


def learn(
    config: TrainConfig,
    dataset: Dataset,
    teacher: Teacher | None,
    weights: Path,
    *,
    clean_teacher: Teacher | None = None,
    start: Start | None = None,
    minutes: float | None = None,
    resume: bool = False,
    force: bool = False,
    torch_device: str = "cpu",
    world: World = ALONE,
    tensorboard: bool = False,
    report_progress: ProgressCallback = no_progress,
) -> Learned:
    """Train, keep the most robust weights on validation data, and write them with their card.

    The config that was used lies beside them as a recipe, `config.toml`.
    """
    out = weights.parent
    needs_clean = LOSSES[config.method].needs_second_teacher
    if needs_clean != (clean_teacher is not None):
        raise InputError(
            f"--clean-teacher: {config.method} needs the weights of a teacher trained on clean "
            "images; make one with ardx teach --method natural"
            if needs_clean
            else f"--clean-teacher: {config.method} has one teacher only; leave it out"
        )
    if config.qat is not None and start is None:
        raise InputError(
            f"--qat: fine-tunes trained weights for {config.qat}, and none were given; give them "
            "as --init"
        )
    if tensorboard:
        check_installed()
    world.from_first(lambda: _check_out(weights, resume, force))
    if config.precision == "auto":
        # Settled when the run began, and the same for the rest of it.
        config = replace(
            config,
            precision=world.from_first(lambda: _saved_setting(out / CHECKPOINT, "precision"))
            if resume
            else _precision(config, torch_device),
        )
    config = replace(
        config,
        teacher_sha256=teacher.sha256 if teacher else None,
        clean_teacher_sha256=clean_teacher.sha256 if clean_teacher else None,
        start_sha256=start.sha256 if start else None,
        data_sha256=dataset.train.sha256,
    )
    init = start.model if start else None
    command = {"minutes": minutes, "resume": resume, "force": force}
    environment = {"torch": torch.__version__, "device": torch_device.partition(":")[0]}
    world.check_agreement(asdict(config) | command | environment)
    teachers = Teachers(
        robust=teacher.model if teacher else None,
        clean=clean_teacher.model if clean_teacher else None,
    )
    if minutes is not None:
        if not 0 < minutes < inf:
            raise InputError(f"--minutes {minutes:g}: expected a value above 0")
        if resume:
            # The plan was made, and must stay the same, when the run started.
            epochs = world.from_first(lambda: _saved_setting(out / CHECKPOINT, "epochs"))
            config = replace(config, epochs=epochs)
        else:
            config = plan_epochs(config, dataset, teachers, minutes, torch_device, world, init)
    if config.milestones and config.milestones[-1] >= config.epochs:
        raise InputError(
            f"milestones {list(config.milestones)}: the run ends at epoch {config.epochs}, before "
            "the last of them; give earlier ones, or --set schedule=one-cycle --set 'milestones=[]'"
        )
    student, validation = train(
        config,
        dataset,
        teachers,
        out,
        init=init,
        resume=resume,
        torch_device=torch_device,
        world=world,
        tensorboard=tensorboard,
        report_progress=report_progress,
    )
    card = ModelCard(
        architecture=config.architecture,
        dataset=dataset.name,
        classes=dataset.classes,
        input_shape=dataset.image_shape,
        parent_sha256=teacher.sha256 if teacher else None,
        recipe=asdict(config) | {"validation": asdict(validation)},
    )

    def write() -> str:
        save_model(weights, student, card, force=True)
        write_config(out / CONFIG, config)
        return sha256_file(weights)

    sha256 = world.from_first(write)
    return Learned(weights=weights, sha256=sha256, config=config, validation=validation)


def _precision(config: TrainConfig, torch_device: str) -> str:
    """What `auto` is; rounding to INT8 needs more digits than bf16 has."""
    return "fp32" if config.qat else fast_precision(torch_device)


def _check_out(weights: Path, resume: bool, force: bool) -> None:
    """Refuse to overwrite a run, or to resume where there is none."""
    out = weights.parent
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder for --out, found a file; name a folder")
    if not (resume or force):
        for name in (weights.name, CHECKPOINT, CONFIG):
            if (out / name).exists():
                raise InputError(
                    f"{out / name} exists already; pass --resume to go on, --force to start over, "
                    "or choose another --out"
                )
    if resume and not (out / CHECKPOINT).exists():
        raise InputError(f"{out / CHECKPOINT}: nothing to resume; leave --resume out to start")


def _saved_setting(checkpoint: Path, name: str) -> Any:
    """A setting that was settled when the run of a checkpoint began."""
    _, metadata = load_tensors(checkpoint, "a training checkpoint")
    if "config" not in metadata:
        raise InputError(f"{checkpoint}: holds no settings, so it is no training checkpoint")
    return json.loads(metadata["config"])[name]


def recipe_epsilon(card: ModelCard, fallback: float = 8 / 255) -> float:
    """The budget that a model was trained against."""
    value = card.recipe.get("epsilon", fallback)
    return float(value) if isinstance(value, int | float) else fallback


def budget_of(epsilon: str | None, norm: str, card: ModelCard) -> float:
    """The value of --epsilon in --norm; by default the L-inf budget of the model's training."""
    if norm not in NORMS:
        raise InputError(f"--norm {norm}: expected {' or '.join(NORMS)}")
    if epsilon:
        return parse_epsilon(epsilon, norm=norm)
    if norm != "linf":
        raise InputError(f"--norm {norm}: no budget of training is in this norm; give --epsilon")
    return recipe_epsilon(card)


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
    budget: BudgetOptions | None = None,
    input_type: str = "float32",
    batch_size: int | None = None,
    least_agreement: float | None = None,
    seed: int = 0,
    force: bool = False,
    monitor: Monitor = silent,
) -> Exported:
    """Export weights to ONNX, checked on clean and adversarial held-out images.

    `target` (of fp32 and fp16), `input_type` and `batch_size` as in `ExportPlan`.

    Raises:
        BudgetError: the budget cannot be met; nothing is written.
    """
    model, card = load_model(model_path)
    check_dataset(model_path, card, dataset)
    training, validation = hold_out_validation(dataset.train)
    check = take_limit(validation, CHECK_IMAGES)
    clean = as_float(check.images)
    epsilon = recipe_epsilon(card)
    spec = parse_attack(VALIDATION_ATTACK, epsilon=epsilon, seed=seed)
    adversarial = precision.adversarial_images(model, check, spec)
    if least_agreement is None:
        least_agreement = LEAST_AGREEMENT_INT8 if int8_target else LEAST_AGREEMENT_FLOAT
        if card.recipe.get("qat"):
            least_agreement = LEAST_AGREEMENT_TRAINED
    int8 = None
    if int8_target is not None and card.recipe.get("qat"):
        int8 = Int8Plan(target=int8_target)
    elif int8_target is not None:
        require_method(calibration_method)
        images = precision.calibration_images(
            model, training, calibration_images, calibration, epsilon, seed, monitor
        )
        int8 = Int8Plan(
            target=int8_target, calibration=images, kind=calibration, method=calibration_method
        )
    measured = None
    if budget is not None:
        measured = precision.budget_of_precision(
            model,
            validation,
            budget,
            classes=card.classes,
            epsilon=epsilon,
            seed=seed,
            monitor=monitor,
        )
    plan = ExportPlan(
        parent_sha256=sha256_file(model_path),
        int8=int8,
        fp16=fp16,
        target=target,
        budget=measured,
        input=input_type,
        batch_size=batch_size,
        check_images={"clean": clean, "adversarial": adversarial},
        check_labels=check.labels,
        least_agreement=least_agreement,
    )
    return export_artifact(model, card, plan, out, force, monitor)


def check_dataset(model_path: Path, card: ModelCard, dataset: Dataset) -> None:
    """Refuse a dataset whose classes or images are not the model's."""
    if card.classes != dataset.classes or card.input_shape != dataset.image_shape:
        raise InputError(
            f"{model_path}: reads images {card.input_shape} of {card.classes} classes, but "
            f"{dataset.name} has {dataset.image_shape} of {dataset.classes}; give the dataset it "
            f"was trained on ({card.dataset})"
        )
