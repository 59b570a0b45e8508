"""Whether attacks that climb by gradients in bf16 find as much as those of fp32, on one student.

    python -m benchmarks.methods.gradients STUDENT --data-dir DIR

Prints the accuracies by either, the seconds, and on how many images they end otherwise.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from ard.attacks.budget import recipe_epsilon
from ard.data.datasets import load_dataset
from ard.data.splits import take_limit
from ard.models.weight_files import load_model
from benchmarks import command
from benchmarks.methods.run import GRADIENTS, judged

ATTACKS = ["apgd_ce", "apgd_t"]


def main(
    student: Annotated[Path, typer.Argument(help="Its weights, as run.py left them.")],
    data_dir: Annotated[Path, typer.Option(help="Folder with the dataset.")] = Path("data"),
    images: Annotated[int, typer.Option(help="Stratified test images.")] = 5000,
    attack: Annotated[list[str], typer.Option(help="One after another.")] = ATTACKS,
) -> None:
    """Judge STUDENT by both."""
    torch.set_num_threads(1)
    model, card = load_model(student)
    split = take_limit(load_dataset(card.dataset, data_dir).test, images)
    epsilon = recipe_epsilon(card)
    found = {}
    for precision in GRADIENTS:
        begin = time.perf_counter()
        found[precision] = judged(model, split, attack, epsilon, precision)
        figures = {name: f"{100 * mask.mean():.2f}" for name, mask in found[precision].items()}
        typer.echo(f"{precision}: {figures}, {time.perf_counter() - begin:.0f} s")
    for name in attack:
        first, second = (masks[name] for masks in found.values())
        only = [int((a & ~b).sum()) for a, b in ((first, second), (second, first))]
        told = ", ".join(f"{n} by {p} alone" for n, p in zip(only, GRADIENTS, strict=True))
        typer.echo(f"robust to {name}: {told}")


if __name__ == "__main__":
    command.run(main)
