"""Which teachers teach badly: one objective, teachers of other strength and temperature.

    python -m benchmarks.methods.teachers --teacher TEACHER --data-dir DATA --work runs/teachers

The teachers are TEACHER, the same with its logits times a factor (surer or less sure of all it
says, and right as often), and a smaller network after one epoch. One line for each student; goes on
after an interruption. The table of the page is made from the lines.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn

from ard.data.datasets import load_dataset
from ard.data.splits import Dataset, take_limit
from ard.learning.config import TrainConfig
from ard.learning.learn import learn
from ard.learning.teacher import Measured, doubt_about_confidence, load_teacher, measure
from ard.learning.train import CHECKPOINT
from ard.models.weight_files import load_model, save_model
from benchmarks import command
from benchmarks.documents import Maker, Rows, markdown, update
from benchmarks.lines import RESULTS, append, commit, finished, machine, recorded
from benchmarks.methods.run import judged
from benchmarks.methods.tables.figures import spread
from edge_bench.terminal.console import progress

LINES, PAGE = RESULTS / "teachers.jsonl", RESULTS / "teachers.md"
FACTORS = (1.0, 4.0, 2.0, 0.5)
WEAK = "a smaller one, one epoch"
EPSILON = 8 / 255
ATTACKS = ["pgd20", "cw20"]
SETTINGS: dict[str, Any] = {
    "dataset": "cifar10",
    "epsilon": EPSILON,
    "step_size": EPSILON / 2,
    "inner_steps": 3,
    "precision": "bf16",
    "epochs": 1,
}


def main(
    teacher: Annotated[Path, typer.Option(help="A robust teacher of CIFAR-10.")],
    work: Annotated[Path, typer.Option(help="Folder for weights and checkpoints.")],
    data_dir: Annotated[Path, typer.Option(help="Folder with the dataset.")] = Path("data"),
    seeds: Annotated[int, typer.Option(help="Students of each teacher.")] = 3,
    images: Annotated[int, typer.Option(help="Test images that students are judged by.")] = 2000,
    page_only: Annotated[bool, typer.Option(help="Make the table of the lines there are.")] = False,
) -> None:
    """Distil from each teacher by RSLAD, and judge the students on test images."""
    if not page_only:
        torch.set_num_threads(1)
        origin = {"commit": commit(), "machine": machine()}
        dataset = load_dataset("cifar10", data_dir)
        work.mkdir(parents=True, exist_ok=True)
        files = {f"logits x {factor:g}": sharpened(teacher, factor, work) for factor in FACTORS}
        files[WEAK] = weak(dataset, work)
        for seed in range(seeds):
            for name, file in files.items():
                run = f"{name} {seed}"
                if run not in finished(LINES):
                    append(LINES, one(run, name, file, seed, dataset, work, images) | origin)
    update(PAGE, maker(list(recorded(LINES).values())), check=False)


def sharpened(teacher: Path, factor: float, work: Path) -> Path:
    """A file of the same network, its logits times `factor`: a softmax at temperature 1/factor."""
    model, card = load_model(teacher)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.weight.mul_(factor)
        last.bias.mul_(factor)
    out = work / f"times-{factor:g}.safetensors"
    save_model(out, model, replace(card, recipe=card.recipe | {"logits_times": factor}), force=True)
    return out


def weak(dataset: Dataset, work: Path) -> Path:
    """A teacher that learnt little."""
    out = work / "weak" / "teacher.safetensors"
    if not out.exists():
        config = TrainConfig(
            architecture="resnet8:16", method="pgd_at", learning_rate=0.2, **SETTINGS
        )
        with progress("weak teacher") as told:
            resume = (out.parent / CHECKPOINT).exists()
            learn(config, dataset, None, out, resume=resume, force=True, report_progress=told)
    return out


def one(
    run: str, name: str, file: Path, seed: int, dataset: Dataset, work: Path, images: int
) -> dict[str, Any]:
    """Train one student, and tell what it keeps and what its teacher said before."""
    teacher = load_teacher(file, None, dataset)
    measured = measure(teacher, dataset, "cpu", EPSILON)
    config = TrainConfig(
        architecture="resnet8", method="rslad", learning_rate=0.8, seed=seed, **SETTINGS
    )
    out = work / run.replace(" ", "-") / "student.safetensors"
    with progress(run) as told:
        resume = (out.parent / CHECKPOINT).exists()
        learn(config, dataset, teacher, out, resume=resume, force=True, report_progress=told)
    masks = judged(load_model(out)[0], take_limit(dataset.test, images), ATTACKS, EPSILON, "fp32")
    return {
        "id": run,
        "teacher": name,
        "seed": seed,
        "measured": asdict(measured),
        "test": {attack: float(mask.mean()) for attack, mask in masks.items()},
        "images": images,
    }


def maker(lines: list[dict[str, Any]]) -> Maker:
    """How the table of the page is made."""
    return lambda kind, name: markdown(table(lines))


def table(lines: list[dict[str, Any]]) -> Rows:
    """A row for each teacher: what it says, and its students."""
    said = ["clean", "right", "sure", "entropy", "warned of"]
    rows = [["teacher", *said, "seeds", "clean", "PGD-20", "PGD-20 and CW-20"]]
    for name in dict.fromkeys(line["teacher"] for line in lines):
        group = [line for line in lines if line["teacher"] == name]
        told = Measured(**group[0]["measured"])
        rows.append(
            [
                name,
                f"{100 * told.clean_accuracy:.1f}",
                f"{100 * told.robust_accuracy:.1f}",
                f"{100 * told.confidence:.1f}",
                f"{told.entropy:.2f}",
                "yes" if doubt_about_confidence(told) else "no",
                str(len(group)),
                *(spread(group, lambda line, n=n: line["test"][n]) for n in ("clean", *ATTACKS)),
            ]
        )
    return rows


if __name__ == "__main__":
    command.run(main)
