"""What a step of each method costs, as a ratio to a step of RSLAD in the same run.

    python -m benchmarks.methods.cost benchmarks/methods/earlier/cifar10.toml --data-dir DIR \
        --teacher TEACHER --clean-teacher CLEAN
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import torch
import typer

from ard.data.datasets import load_dataset
from ard.learning.recipes import build_config, read_toml
from ard.learning.step import Teachers
from ard.learning.teacher import load_teacher
from ard.learning.train import timed_steps
from ard.methods.registry import METHODS
from benchmarks import command
from benchmarks.documents import markdown
from benchmarks.lines import machine
from benchmarks.methods.plan import in_force, one_of

UNIT = "rslad"
STAGE = "main"


def main(
    grid: Annotated[Path, typer.Argument(help="The grid file.")],
    teacher: Annotated[Path, typer.Option(help="The robust teacher's weights.")],
    clean_teacher: Annotated[Path, typer.Option(help="For methods with two.")],
    data_dir: Annotated[Path, typer.Option(help="Folder with the dataset.")] = Path("data"),
    rounds: Annotated[int, typer.Option(help="Turns of all methods.")] = 5,
    steps: Annotated[int, typer.Option(help="Timed steps of a turn, after one warm-up.")] = 4,
) -> None:
    """Time steps of every method in GRID's main stage in turns, and print ratios."""
    torch.set_num_threads(1)
    table = read_toml(grid)
    dataset = load_dataset(table["common"]["dataset"], data_dir)
    teachers = Teachers(
        robust=load_teacher(teacher, None, dataset).model,
        clean=load_teacher(clean_teacher, None, dataset).model,
    )
    # Other stages give the same labels to other budgets.
    entries = [entry for entry in table["runs"] if entry["stage"] == STAGE]
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for entry in entries:
            settings = one_of(entry, 0, table["common"])["settings"]
            config = build_config(in_force(table, settings))
            alone = teachers if METHODS[config.method].distils else Teachers()
            seconds[entry["label"]] += timed_steps(config, dataset, alone, steps)
    medians = {label: statistics.median(values) for label, values in seconds.items()}
    rows = [["method", "time of a step", "quartiles"]]
    for label, median in sorted(medians.items(), key=lambda item: item[1]):
        low, _, high = statistics.quantiles(seconds[label], n=4)
        unit = medians[UNIT]
        rows.append([label, f"{median / unit:.2f}", f"{low / unit:.2f} to {high / unit:.2f}"])
    print(markdown(rows))
    print(f"\n{machine()}; {UNIT}: {medians[UNIT]:.3f} s a step", file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
