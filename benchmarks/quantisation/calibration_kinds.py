"""What calibrations cost in robust accuracy.

    python -m benchmarks.quantisation.calibration_kinds WEIGHTS DATA

INT8 artefacts of a model that learned CIFAR-10, by every kind of calibration images and every
method, on all held-out images of the training set: under a replay and BPDA, as the budget judges.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from ard.attacks.budget import recipe_epsilon
from ard.attacks.registry import parse_attack
from ard.data.datasets import load_dataset
from ard.data.splits import hold_out_validation
from ard.exporting.precision import BUDGET_ATTACK, CALIBRATIONS, calibration_images, part_of
from ard.models.weight_files import load_model
from deploy.allowed_drop.terms import Drop
from deploy.onnx_export.export import export_fp32, finish
from deploy.plan import Int8Plan
from deploy.quantization.calibration import METHODS
from deploy.quantization.quantize import Quantiser

TARGET, IMAGES, SEEDS = "x86-vnni", 512, (0, 1)


def main(weights: Path, data_dir: Path, folder: Path) -> None:
    model, card = load_model(weights)
    training, validation = hold_out_validation(load_dataset("cifar10", data_dir).train)
    epsilon = recipe_epsilon(card)
    half = part_of(model, validation, parse_attack(BUDGET_ATTACK, epsilon=epsilon), card.classes)
    graph, reference, int8 = (folder / f"{name}.onnx" for name in ("graph", "fp32", "int8"))
    for path in (graph, reference):
        export_fp32(model, card.input_shape, path)
    finish(reference, card)
    fp32 = half.judge(reference)
    print(
        f"fp32: {fp32.clean.mean():.1%} clean, {fp32.robust.mean():.1%} robust, {len(fp32.clean)}"
    )
    print("| seed | images | method | clean | robust | lost, points (95%) |")
    print("|---|---|---|---|---|---|")
    for seed in SEEDS:
        for kind in CALIBRATIONS:
            images = calibration_images(model, training, IMAGES, kind, epsilon, seed)
            for method in METHODS:
                Quantiser(graph, folder, images.numpy(), TARGET, method).make(int8)
                plan = Int8Plan(target=TARGET, calibration=images, kind=kind, method=method)
                finish(int8, plan.applied_to(card))
                judged = half.judge(int8)
                print(
                    f"| {seed} | {kind} | {method} | {100 * judged.clean.mean():.1f} "
                    f"| {100 * judged.robust.mean():.1f} "
                    f"| {Drop.between(fp32.robust, judged.robust)} |",
                    flush=True,
                )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(sys.argv[1]), Path(sys.argv[2]), Path(folder))
