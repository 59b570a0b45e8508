"""Judge trained students without their gradients; one JSON line per student.

    python -m benchmarks.methods.blackbox --data-dir DIR --teacher TEACHER --work runs/methods \
        --independent OTHER

Square asks the student for scores alone; the transferred images were crafted on the teacher and on
a model of another architecture and seed (OTHER, such as a resnet20 by ardx teach --seed 9).
Students whose line is there already are skipped.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from ard.attacks.budget import recipe_epsilon
from ard.attacks.registry import parse_attack
from ard.attacks.run import run_attack
from ard.data.datasets import load_dataset
from ard.data.splits import Split, as_float, take_limit
from ard.evaluation.accuracy import evaluate_attack
from ard.models.weight_files import load_model
from benchmarks import command
from benchmarks.lines import LINES, append, commit, machine, pack
from benchmarks.methods.again import students
from edge_bench.statistics.metrics import BoolArray
from edge_bench.terminal.console import progress

CRAFTED_WITH = ("pgd20", "cw30")
BATCH = 250


def main(
    teacher: Annotated[Path, typer.Option(help="The robust teacher's weights.")],
    independent: Annotated[Path, typer.Option(help="Weights that no student learnt from.")],
    work: Annotated[Path, typer.Option(help="Folder with the students, as run.py left it.")],
    lines: Annotated[Path, typer.Option(help="Lines to read and to add to.")] = LINES,
    data_dir: Annotated[Path, typer.Option(help="Folder with the dataset.")] = Path("data"),
    stage: Annotated[str, typer.Option(help="Whose students.")] = "main",
    images: Annotated[int, typer.Option(help="Stratified test images.")] = 500,
    queries: Annotated[int, typer.Option(help="Of Square.")] = 5000,
    label: Annotated[list[str] | None, typer.Option(help="Only this method; several.")] = None,
) -> None:
    """Add a line of stage `blackbox` for every student that has none."""
    torch.set_num_threads(1)
    origin = {"commit": commit(), "machine": machine()}
    split: Split | None = None
    for student in students(lines, work, of=stage, stage="blackbox", labels=label):
        if split is None:
            dataset = load_dataset(student.line["settings"]["dataset"], data_dir)
            split = take_limit(dataset.test, images)
            sources = {"teacher": teacher, "independent": independent}
            sets = {n: crafted(load_model(path)[0], split) for n, path in sources.items()}
        begin = time.perf_counter()
        masks = judged(student.weights, split, sets, queries)
        told = student.line | {
            "test": {name: float(mask.mean()) for name, mask in masks.items()},
            "masks": {name: pack(mask) for name, mask in masks.items()},
            "images": len(split),
            "seconds": {"judging": round(time.perf_counter() - begin, 1)},
        }
        append(lines, told | origin)


def crafted(model: nn.Module, split: Split) -> list[torch.Tensor]:
    """Adversarial images for the model, one tensor (N, C, H, W) per attack."""
    sets = []
    for name in CRAFTED_WITH:
        spec = parse_attack(name, epsilon=8 / 255)
        parts = zip(torch.split(split.images, BATCH), torch.split(split.labels, BATCH), strict=True)
        batches = [
            run_attack(model, as_float(images), labels, spec, index)
            for index, (images, labels) in enumerate(parts)
        ]
        sets.append(torch.cat(batches))
    return sets


def judged(
    weights: Path, split: Split, sets: dict[str, list[torch.Tensor]], queries: int
) -> dict[str, BoolArray]:
    """Masks: clean, right under every transferred set of a source, right after Square."""
    model, card = load_model(weights)
    clean = evaluate_attack(model, split, None)
    masks: dict[str, BoolArray] = {"clean": clean}
    for source, tensors in sets.items():
        mask = clean.copy()
        for images in tensors:
            with torch.no_grad():
                mask &= (model(images).argmax(dim=1) == split.labels).numpy()
        masks[f"transfer from {source}"] = mask
    spec = parse_attack(f"square{queries}", epsilon=recipe_epsilon(card))
    with progress(f"{weights.parent.name} square") as report_progress:
        masks[f"Square {queries}"] = evaluate_attack(
            model, split, spec, correct=clean, report_progress=report_progress
        )
    return masks


if __name__ == "__main__":
    command.run(main)
