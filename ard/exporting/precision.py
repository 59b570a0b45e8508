"""Images by which a lower precision is calibrated, chosen and reported.

All are of the training set: ranges come from images that training saw, and choices are made and
reported on images that it held out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ard.attacks.registry import parse_attack
from ard.attacks.run import run_attack
from ard.attacks.steps.grid import round_to_grid
from ard.data.splits import SPLIT_SEED, Split, any_subset, as_float, calibration_part, take_limit
from ard.evaluation.accuracy import evaluate_attack
from ard.models.deployed import Deployed
from ard.models.folding import for_attack
from deploy.allowed_drop.terms import AllowedDrop, Judged, Part
from deploy.quantization.twin import open_as_target
from edge_bench import devices
from edge_bench.core.errors import InputError
from edge_bench.core.progress import Monitor, ProgressCallback, no_progress, silent
from edge_bench.core.spec import AttackSpec

CALIBRATIONS = ("clean", "adversarial", "mixed")
CALIBRATION_ATTACK = "pgd10"
BUDGET_ATTACK = "pgd20"
# A MobileNetV2 takes 14 MB an image for its gradients.
AT_ONCE = 64
# The attacks on artefacts must not start where those that made the stored images did.
OTHER_SEED = 1


@dataclass(frozen=True, kw_only=True)
class DropOptions:
    """The robustness budget as a user gives it.

    Attributes:
        max_drop: of worst-case robust accuracy, a fraction.
        images: held-out images to decide and report on, half each; None: all.
        max_float_layers: most layers to keep in float; None: all but one.
    """

    max_drop: float
    images: int | None = None
    max_float_layers: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop < 1:
            raise InputError(
                f"--max-robust-drop {self.max_drop:g}: expected a fraction from 0 to below 1, such "
                "as 0.01 for one point"
            )


def calibration_images(
    model: nn.Module,
    training: Split,
    count: int,
    kind: str,
    epsilon: float,
    seed: int,
    monitor: Monitor = silent,
) -> Tensor:
    """Training images (N, C, H, W) uint8 to calibrate with, N at most `count`.

    Args:
        model: in eval mode, on the CPU; adversarial images are made on it.
        kind: `clean`, `adversarial`, or `mixed`: every second image is attacked.

    Raises:
        InputError: no such kind.
    """
    if kind not in CALIBRATIONS:
        raise InputError(f"--calibration {kind}: expected {', '.join(CALIBRATIONS)}")
    training = calibration_part(training, count, seed)
    images = training.images
    if kind == "clean":
        return images
    chosen = torch.arange(0, len(training), 1 if kind == "adversarial" else 2)
    spec = parse_attack(CALIBRATION_ATTACK, epsilon=epsilon, seed=seed)
    images = images.clone()
    with monitor("calibration images") as report:
        images[chosen] = adversarial_levels(model, training.at(chosen), spec, report)
    return images


def allowed_drop_of(
    model: nn.Module,
    validation: Split,
    options: DropOptions,
    *,
    classes: int,
    epsilon: float,
    seed: int,
    monitor: Monitor = silent,
    root: Path = devices.ROOT,
) -> AllowedDrop:
    """Held-out images in two halves, each with adversarial ones made on `model` and a judge.

    Raises:
        InputError: more images than were held out, or too few to be halved.
    """
    count = len(validation) if options.images is None else options.images
    if not 2 <= count <= len(validation):
        raise InputError(
            f"--budget-images {count}: expected 2 to {len(validation)}, the images of the training "
            "set that were held out"
        )
    images = take_limit(validation, count)
    first = any_subset(images, count // 2, SPLIT_SEED)
    rest = torch.ones(count, dtype=torch.bool)
    rest[first] = False
    spec = parse_attack(BUDGET_ATTACK, epsilon=epsilon, seed=seed)
    with monitor("adversarial images") as report:
        deciding = part_of(model, images.at(first), spec, classes, report, root)
        others = images.at(rest.nonzero().squeeze(1))
        reporting = part_of(model, others, spec, classes, report, root)
    return AllowedDrop(
        max_drop=options.max_drop,
        max_float_layers=options.max_float_layers,
        deciding=deciding,
        reporting=reporting,
    )


def part_of(
    model: nn.Module,
    split: Split,
    spec: AttackSpec,
    classes: int,
    report_progress: ProgressCallback = no_progress,
    root: Path = devices.ROOT,
) -> Part:
    """Images with a judge that replays the parent's adversarial ones and attacks the artefact.

    A replay alone flatters an artefact that computes something else than its parent. What stands
    it is attacked along the parent's gradients at the artefact's own logits (see `deployed`);
    the fp32 artefact, by the same two, so that no precision is attacked more often than another.
    What is attacked is what the target computes, whatever machine the files of `root` are of.
    """
    levels = adversarial_levels(model, split, spec, report_progress)
    replayed = Split(levels, split.labels)
    own = replace(spec, seed=spec.seed + OTHER_SEED)

    def judge(artifact: Path) -> Judged:
        with open_as_target(artifact, root=root) as backend:
            deployed = Deployed(backend, model, classes)
            clean = evaluate_attack(deployed, split, None, batch_size=AT_ONCE)
            stood = evaluate_attack(deployed, replayed, None, correct=clean, batch_size=AT_ONCE)
            robust = evaluate_attack(deployed, split, own, correct=stood, batch_size=AT_ONCE)
        return Judged(clean=clean, robust=robust)

    return Part(adversarial=levels.numpy(), labels=split.labels.numpy(), judge=judge)


def adversarial_levels(
    model: nn.Module, split: Split, spec: AttackSpec, report_progress: ProgressCallback
) -> Tensor:
    """Adversarial images (N, C, H, W) uint8 that `model` (eval mode) was attacked for."""
    return torch.cat(
        [
            round_to_grid(found, part.images, spec.epsilon, spec.norm)
            for part, found in _attacked(model, split, spec, report_progress)
        ]
    )


def adversarial_images(model: nn.Module, split: Split, spec: AttackSpec) -> Tensor:
    """The same in [0, 1], off the 8-bit grid."""
    return torch.cat([found for _, found in _attacked(model, split, spec, no_progress)])


def _attacked(
    model: nn.Module, split: Split, spec: AttackSpec, report_progress: ProgressCallback
) -> Iterator[tuple[Split, Tensor]]:
    """Samples and their adversarial images, a few at a time, which bounds memory."""
    cheaper = for_attack(model)
    for index, begin in enumerate(range(0, len(split), AT_ONCE)):
        part = split.part(begin, begin + AT_ONCE)
        yield part, run_attack(cheaper, as_float(part.images), part.labels, spec, index)
        report_progress(begin + len(part), len(split), "")
