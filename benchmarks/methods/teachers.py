"""Which teachers teach badly: one objective, teachers of other strength and temperature.

    python -m benchmarks.methods.teachers --teacher TEACHER --data-dir DATA --work runs/teachers

The teachers are TEACHER, the same with its logits times a factor (surer or less sure of all it
says, and right as often), and a smaller network after one epoch. One line for each student; goes on
after an interruption. The page is written from the lines.
"""

from __future__ import annotations

import statistics
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
from ard.learning.teacher import doubt_about_confidence, load_teacher, measure
from ard.learning.train import CHECKPOINT
from ard.models.weight_files import load_model, save_model
from benchmarks.lines import RESULTS, append, commit, finished, machine, recorded
from benchmarks.methods.run import judged
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
    page_only: Annotated[bool, typer.Option(help="Write the page from the lines.")] = False,
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
    PAGE.write_text(page(list(recorded(LINES).values())), encoding="utf-8")


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
        "doubted": doubt_about_confidence(measured) is not None,
        "test": {attack: float(mask.mean()) for attack, mask in masks.items()},
        "images": images,
    }


def page(lines: list[dict[str, Any]]) -> str:
    """The table, a row for each teacher."""
    rows = []
    for name in dict.fromkeys(line["teacher"] for line in lines):
        group = [line for line in lines if line["teacher"] == name]
        told = group[0]["measured"]
        rows.append(
            f"| {name} | {100 * told['clean_accuracy']:.1f} | {100 * told['robust_accuracy']:.1f} "
            f"| {100 * told['confidence']:.1f} | {told['entropy']:.2f} "
            f"| {'yes' if group[0]['doubted'] else 'no'} "
            f"| {spread(group, 'clean')} | {spread(group, ATTACKS[-1])} |"
        )
    first = lines[0]
    return "\n".join(
        [
            "# Which teachers teach badly",
            "",
            "The same student (`resnet8`), data (CIFAR-10) and objective (RSLAD, one epoch, PGD-3 "
            "at 8/255), teachers of other strength and temperature. What a teacher says is "
            "measured on held-out training images, as `ardx teachers --measure` does; *right*, "
            "*sure* and *entropy* (1: knows nothing) after PGD-10. Students: percent of "
            f"{first['images']:,} test images, mean and SD over seeds; robust after PGD-20 and "
            "CW-20, each on what was left.",
            "",
            "| teacher | clean | right | sure | entropy | warned of | student clean | robust |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"{first['machine']}. Made by `python -m benchmarks.methods.teachers`, from "
            "`teachers.jsonl`.",
            "",
        ]
    )


def spread(group: list[dict[str, Any]], key: str) -> str:
    """Mean and SD over seeds, in percent."""
    values = [100 * line["test"][key] for line in group]
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{deviation} ({len(values)})"


if __name__ == "__main__":
    typer.run(main)
