"""Train and judge every run of a grid file; one JSON line per finished run.

    python -m benchmarks.methods.run benchmarks/methods/frontiers.toml --data-dir DIR \
        --teacher TEACHER --work runs/methods

Runs whose line is there already are skipped, so the same command goes on after an interruption
(a run that was cut off resumes from its checkpoint), and lines of later runs add to the earlier
ones. Several processes may share one grid: each takes what no other is at.

A processor without bf16 instructions emulates them, many times slower than fp32. There what a
grid asks for in bf16 is computed in fp32; the line tells it (`config`, `gradients`). A stage that
was begun on such a processor goes on alike on any with `--fp32`.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn

from ard.attacks.registry import parse_attack
from ard.data.datasets import load_dataset
from ard.data.splits import Dataset, Split, hold_out_validation, rest_of, take_limit
from ard.evaluation.accuracy import evaluate_attack
from ard.learning.config import TrainConfig
from ard.learning.learn import learn
from ard.learning.recipes import build_config, read_toml
from ard.learning.step import DivergedError, fast_precision
from ard.learning.teacher import Teacher, load_teacher
from ard.learning.train import CHECKPOINT, METRICS
from ard.methods.registry import METHODS
from ard.models.folding import for_attack, for_attack_in_bf16
from ard.models.weight_files import load_model
from benchmarks import command
from benchmarks.lines import LINES, append, claim, commit, finished, machine, pack, recorded
from benchmarks.methods.plan import expand, in_force, judge_of, stage_of
from edge_bench.core.errors import InputError
from edge_bench.core.spec import parse_epsilon
from edge_bench.statistics.metrics import BoolArray
from edge_bench.terminal.console import progress

GRADIENTS = {"fp32": for_attack, "bf16": for_attack_in_bf16}


def main(
    grid: Annotated[Path, typer.Argument(help="The grid file.")],
    teacher: Annotated[Path, typer.Option(help="The robust teacher's weights.")],
    work: Annotated[Path, typer.Option(help="Folder for weights and checkpoints.")],
    lines: Annotated[Path, typer.Option(help="Where finished runs are written.")] = LINES,
    data_dir: Annotated[Path, typer.Option(help="Folder with the dataset.")] = Path("data"),
    clean_teacher: Annotated[Path | None, typer.Option(help="For methods with two.")] = None,
    stage: Annotated[str | None, typer.Option(help="Only the runs of this stage.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only this method; several.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Start no run after this time.")] = None,
    threads: Annotated[int, typer.Option(help="Threads of this process.")] = 1,
    fp32: Annotated[
        bool, typer.Option("--fp32", help="Nothing in bf16, as where it would be emulated.")
    ] = False,
) -> None:
    """Train and judge every run of GRID that has no line yet."""
    torch.set_num_threads(threads)
    begin = time.monotonic()
    # The code that is loaded now, whatever the checkout becomes while it runs.
    origin = {"commit": commit(), "machine": machine()}
    table = read_toml(grid)
    loaded = cache(partial(load_dataset, data_dir=data_dir))
    is_known = False
    for run in expand(table, lambda: recorded(lines)):
        if not is_asked_for(table, run["stage"], stage) or (label and run["label"] not in label):
            continue
        is_known = True
        if minutes is not None and time.monotonic() - begin > 60 * minutes:
            break
        folder = work / run["weights"]
        with claim(folder) as is_ours:
            if not is_ours or run["id"] in finished(lines):
                continue
            dataset = loaded(run["settings"]["dataset"])
            try:
                config = build_config(in_force(table, run["settings"]))
                judge = judge_of(table, run["stage"])
                if fp32 or fast_precision("cpu") != "bf16":
                    config, judge = in_fp32(config, judge)
                line = one_run(run, config, judge, dataset, teacher, clean_teacher, folder)
            except DivergedError as error:
                # As much of a finding as a figure: nothing is gained by trying it again.
                line = run | {"diverged": str(error)}
            append(lines, line | origin)
    if not is_known:
        raise InputError(
            f"{grid}: expected runs of --stage {stage or 'any'} and --label "
            f"{', '.join(label) if label else 'any'}, and it has none; name those that stand there "
            "(what a search chooses stands there once it has its lines)"
        )


def is_asked_for(table: dict[str, Any], stage: str, asked: str | None) -> bool:
    """Whether the runs of a stage are to be made; one that stands `apart` only when it is named."""
    return stage == asked if asked is not None else not stage_of(table, stage).get("apart", False)


def in_fp32(config: TrainConfig, judge: dict[str, Any]) -> tuple[TrainConfig, dict[str, Any]]:
    """How a run is trained and judged where nothing is to be computed in bf16."""
    return replace(config, precision="fp32"), judge | {"gradients": "fp32"}


def one_run(
    run: dict[str, Any],
    config: TrainConfig,
    judge: dict[str, Any],
    dataset: Dataset,
    teacher_path: Path,
    clean_teacher_path: Path | None,
    folder: Path,
) -> dict[str, Any]:
    """Train, judge, and tell all that is needed to read the figures later."""
    teacher = teacher_of(config, teacher_path, dataset)
    clean_teacher = second_teacher_of(config, clean_teacher_path, dataset)
    with progress(run["id"]) as report_progress:
        learned = learn(
            config,
            dataset,
            teacher,
            folder / "student.safetensors",
            clean_teacher=clean_teacher,
            resume=(folder / CHECKPOINT).exists(),
            force=True,
            report_progress=report_progress,
        )
    # Of all its sittings, where the run was cut off.
    epochs = [json.loads(text) for text in (folder / METRICS).read_text("utf-8").splitlines()]
    seconds = {"training": sum(epoch["seconds"] for epoch in epochs)}
    model, _ = load_model(learned.weights)
    begin = time.perf_counter()
    attacks = run["attacks"] if run["attacks"] is not None else judge["attacks"]
    split = take_limit(judged_images(judge["part"], dataset, config), judge["images"])
    epsilon = parse_epsilon(judge["epsilon"]) if "epsilon" in judge else config.epsilon
    gradients = judge.get("gradients", "fp32")
    masks = judged(model, split, attacks, epsilon, gradients)
    return {
        "id": run["id"],
        "stage": run["stage"],
        "label": run["label"],
        "weights": run["weights"],
        "seed": run["seed"],
        "settings": run["settings"],
        "config": asdict(learned.config),
        "teacher_sha256": teacher.sha256 if teacher else None,
        "weights_sha256": learned.sha256,
        "validation": {
            "clean": learned.validation.clean_accuracy,
            "pgd10": learned.validation.robust_accuracy,
            "epoch": learned.validation.epoch,
        },
        "gradients": gradients,
        judge["part"]: {name: float(mask.mean()) for name, mask in masks.items()},
        "masks": {name: pack(mask) for name, mask in masks.items()},
        "images": len(split),
        "seconds": {
            name: round(value, 1)
            for name, value in (seconds | {"judging": time.perf_counter() - begin}).items()
        },
    }


def teacher_of(config: TrainConfig, path: Path, dataset: Dataset) -> Teacher | None:
    """The robust teacher, where the method distils."""
    return load_teacher(path, None, dataset) if METHODS[config.method].distils else None


def second_teacher_of(config: TrainConfig, path: Path | None, dataset: Dataset) -> Teacher | None:
    """The clean teacher, where the method has two."""
    if not METHODS[config.method].needs_second_teacher:
        return None
    if path is None:
        raise typer.BadParameter(f"{config.method} needs --clean-teacher")
    return load_teacher(path, None, dataset)


def judged_images(part: str, dataset: Dataset, config: TrainConfig) -> Split:
    """The `test` images, or those of the training set that this run leaves `unused`.

    What is decided on the unused ones may be reported on the test images later.
    """
    if part == "test":
        return dataset.test
    training, _ = hold_out_validation(dataset.train)
    return rest_of(training, config.train_fraction, config.seed)


def judged(
    model: nn.Module, split: Split, attacks: list[str], epsilon: float, gradients: str
) -> dict[str, BoolArray]:
    """Masks by attack; each attack sees only what the earlier ones left, as in AutoAttack.

    Args:
        gradients: the precision of those that the attacks climb by (see `GRADIENTS`); what they
            find is judged in fp32.
    """
    masks = {"clean": evaluate_attack(model, split, None)}
    survivors = masks["clean"]
    for name in attacks:
        spec = parse_attack(name, epsilon=epsilon)
        survivors = evaluate_attack(
            model, split, spec, correct=survivors, climbed=GRADIENTS[gradients]
        )
        masks[name] = survivors
    return masks


if __name__ == "__main__":
    command.run(main)
