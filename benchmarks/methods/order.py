"""How far students have taken over their teacher's order of the classes; a JSON line per student.

    python -m benchmarks.methods.order --stage "100 classes" --teacher TEACHER --data-dir DIR \
        --work runs/methods

Both are asked about test images and about what PGD-10 on the student makes of them. Students whose
line is there already are skipped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from scipy.stats import kendalltau
from torch import Tensor, nn

from ard.attacks.budget import recipe_epsilon
from ard.attacks.registry import parse_attack
from ard.attacks.run import run_attack
from ard.data.datasets import load_dataset
from ard.data.splits import Split, as_float, take_limit
from ard.models.weight_files import load_model
from benchmarks import command
from benchmarks.lines import LINES, append, commit, machine
from benchmarks.methods.again import students
from benchmarks.methods.tables.figures import FloatArray

BATCH = 250
ATTACK = "pgd10"


def main(
    teacher: Annotated[Path, typer.Option(help="Weights of the teacher that they learnt from.")],
    work: Annotated[Path, typer.Option(help="Folder with the students, as run.py left it.")],
    stage: Annotated[str, typer.Option(help="Whose students.")],
    lines: Annotated[Path, typer.Option(help="Lines to read and to add to.")] = LINES,
    data_dir: Annotated[Path, typer.Option(help="Folder with the dataset.")] = Path("data"),
    images: Annotated[int, typer.Option(help="Stratified test images.")] = 1000,
    label: Annotated[list[str] | None, typer.Option(help="Only this method; several.")] = None,
) -> None:
    """Add a line of stage `order` for every student that has none."""
    torch.set_num_threads(1)
    origin = {"commit": commit(), "machine": machine()}
    split: Split | None = None
    for student in students(lines, work, of=stage, stage="order", labels=label):
        if split is None:
            dataset = load_dataset(student.line["settings"]["dataset"], data_dir)
            split = take_limit(dataset.test, images)
            taught = load_model(teacher)[0]
        begin = time.perf_counter()
        model, card = load_model(student.weights)
        told = student.line | {
            "order": shared_order(model, taught, split, recipe_epsilon(card)),
            "images": len(split),
            "seconds": {"judging": round(time.perf_counter() - begin, 1)},
        }
        append(lines, told | origin)


def shared_order(
    student: nn.Module, teacher: nn.Module, split: Split, epsilon: float
) -> dict[str, float]:
    """Means over the images x, and over x' that the attack makes of them.

    `clean` and `adversarial` are Kendall's tau-b of both networks' logits at x and at x', `change`
    that of what x' takes off each logit, `label` is the share of the pairs of the label and another
    class that both order alike at x', and `among clean` and `among adversarial` are accuracies: the
    label is one of the student's `likeliest` few.
    """
    found: dict[str, list[FloatArray]] = {}
    spec = parse_attack(ATTACK, epsilon=epsilon)
    parts = zip(torch.split(split.images, BATCH), torch.split(split.labels, BATCH), strict=True)
    for index, (levels, labels) in enumerate(parts):
        clean = as_float(levels)
        adversarial = run_attack(student, clean, labels, spec, index)
        ours, theirs = (_logits(model, clean, adversarial) for model in (student, teacher))
        told = {
            "clean": taus(ours[0], theirs[0]),
            "adversarial": taus(ours[1], theirs[1]),
            "change": taus(ours[0] - ours[1], theirs[0] - theirs[1]),
            "label": label_pairs(ours[1], theirs[1], labels.numpy()),
            "among clean": among_likeliest(ours[0], labels.numpy()),
            "among adversarial": among_likeliest(ours[1], labels.numpy()),
        }
        for name, values in told.items():
            found.setdefault(name, []).append(values)
    return {name: float(np.concatenate(values).mean()) for name, values in found.items()}


def _logits(model: nn.Module, *images: Tensor) -> list[FloatArray]:
    with torch.no_grad():
        return [model(each).double().numpy() for each in images]


def taus(first: FloatArray, second: FloatArray) -> FloatArray:
    """(B,) Kendall's tau-b of each row of two (B, C)."""

    def each() -> Iterator[float]:
        for a, b in zip(first, second, strict=True):
            yield float(kendalltau(a, b).statistic)

    return np.fromiter(each(), dtype=np.float64)


def label_pairs(first: FloatArray, second: FloatArray, labels: NDArray[np.int64]) -> FloatArray:
    """(B,) shares of the other classes that lie on the same side of the label in both (B, C)."""
    rows = np.arange(len(labels))
    above = [z[rows, labels][:, None] > z for z in (first, second)]
    same = above[0] == above[1]
    # The label beside itself is no pair.
    found: FloatArray = (same.sum(axis=1) - 1) / (first.shape[1] - 1)
    return found


def likeliest(classes: int) -> int:
    """How many guesses are a fair question: 2 of 10 classes, 5 of 100."""
    return max(2, classes // 20)


def among_likeliest(logits: FloatArray, labels: NDArray[np.int64]) -> FloatArray:
    """(B,) 1 where the label is among the `likeliest` few of its row of (B, C), else 0."""
    of_label = logits[np.arange(len(labels)), labels][:, None]
    found: FloatArray = ((logits > of_label).sum(axis=1) < likeliest(logits.shape[1])) * 1.0
    return found


if __name__ == "__main__":
    command.run(main)
