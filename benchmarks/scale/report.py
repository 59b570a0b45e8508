"""Write the figures of docs/explanation/scale.md from the lines of `run`.

python -m benchmarks.scale.report [--check]
"""

from __future__ import annotations

import math
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer

from ard.attacks.pace import PASSES, TARGETS
from benchmarks import command
from benchmarks.documents import Maker, Rows, markdown, update
from benchmarks.lines import ROOT, Line, recorded
from benchmarks.scale.case import LARGE_BATCH, RANKED
from benchmarks.scale.run import (
    CLASSES,
    HOSTS,
    IMAGES,
    LINES,
    PROCESSES,
    SHARED,
    name_of,
    seconds_of,
)

PAGE = ROOT / "docs/explanation/scale.md"
N = (1, 8, 64, 512)
TRAINING, TEST, MILLION = 1_281_167, 50_000, 1_000_000
BATCH = 250
SQUARE_QUERIES = 5000
STEPS, INNER = 20, 3

Lines = dict[str, Line]


def cpu(lines: Lines, what: str, size: int, processes: int = 1) -> float:
    """Median seconds of a case: of the processors, or by the clock (see `seconds_of`)."""
    return float(median(lines[name_of((what, size, processes))][seconds_of(what)]))


def exponent(sizes: tuple[int, ...], seconds: list[float]) -> float:
    """The power of the size by which the seconds grow: least squares over logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def growth(lines: Lines, what: str, sizes: tuple[int, ...]) -> tuple[list[float], float]:
    """Seconds by size, and their exponent."""
    seconds = [cpu(lines, what, size) for size in sizes]
    return seconds, exponent(sizes, seconds)


def images_rows(lines: Lines) -> Rows:
    """Seconds and memory of evaluate and attack by the number of images."""
    found = [["", *(f"{size:,}" for size in IMAGES), "exponent"]]
    for what in ("evaluate", "attack"):
        seconds, power = growth(lines, what, IMAGES)
        found.append([f"`{what}`, s", *map(figure, seconds), f"{power:.2f}"])
        peaks = [median(lines[name_of((what, size, 1))]["peak_mib"]) for size in IMAGES]
        found.append([f"`{what}`, MiB", *(f"{peak:.0f}" for peak in peaks), "-"])
    return found


def classes_rows(lines: Lines) -> Rows:
    """Seconds of the ranking losses by the number of classes."""
    seconds, power = growth(lines, "ranking", CLASSES)
    last = exponent(CLASSES[-2:], seconds[-2:])
    header = ["classes", *(f"{size:,}" for size in CLASSES), "exponent", "of the last two"]
    return [header, ["s", *map(figure, seconds), f"{power:.2f}", f"{last:.2f}"]]


def processes_rows(lines: Lines) -> Rows:
    """Processor seconds of all processes together, over those of one."""
    found = [["", *(f"{count}" for count in PROCESSES)]]
    cases = [(f"`{what}`, {SHARED:,} images", what, SHARED) for what in ("evaluate", "attack")]
    cases += [(f"a step by ARD, {size:,} classes", "step", size) for size in (10, 1000)]
    for told, what, size in cases:
        seconds = [cpu(lines, what, size, count) for count in PROCESSES]
        cells = [f"{figure(total)} ({total / seconds[0]:.2f})" for total in seconds]
        found.append([told, *cells])
    return found


def hosts_rows(lines: Lines) -> Rows:
    """Seconds by the clock of a benchmark of so many boards, all on this machine."""
    seconds, power = growth(lines, "hosts", HOSTS)
    header = ["boards", *(f"{count}" for count in HOSTS), "exponent"]
    return [header, ["s", *map(figure, seconds), f"{power:.2f}"]]


def turns(batches: int, processes: int) -> int:
    """How often the busiest process takes a batch."""
    return math.ceil(batches / processes)


def imagenet_rows(lines: Lines) -> Rows:
    """Hours of N such processes for work of ImageNet's size, by ResNet-18."""
    forward, both = (cpu(lines, "passes", size) / LARGE_BATCH for size in (0, 1))
    ranking = cpu(lines, "ranking", 1000)
    standing = sum(PASSES[part] * TARGETS.get(part, 1) for part in PASSES)
    rows = [["", *(f"N = {count}" for count in N)]]
    pgd = BATCH * (STEPS * both + 2 * forward)
    auto = BATCH * (standing * both + SQUARE_QUERIES * forward)
    # Two images to the weights, whose way back costs twice that to the image; two by a teacher.
    step = RANKED * (INNER * both + 2 * (forward + 2 * (both - forward)) + 2 * forward)
    steps = TRAINING // RANKED
    for told, seconds in (
        (f"PGD-{STEPS}, {TEST:,} images", lambda n: pgd * turns(TEST // BATCH, n)),
        (f"AutoAttack, {TEST:,} images", lambda n: auto * turns(TEST // BATCH, n)),
        (f"AutoAttack, {MILLION:,} images", lambda n: auto * turns(MILLION // BATCH, n)),
        (f"an epoch of ARD, PGD-{INNER}", lambda n: steps * (step / n + ranking)),
        ("of which ranking", lambda n: steps * ranking),
    ):
        rows.append([told, *(hours(seconds(count)) for count in N)])
    return rows


def hours(seconds: float) -> str:
    """Two digits are more than an estimate is worth."""
    value = seconds / 3600
    return f"{value:.1f}" if value < 10 else f"{float(f'{value:.2g}'):,.0f}"


def figure(seconds: float) -> str:
    """Three digits."""
    return f"{float(f'{seconds:.3g}'):g}"


def about(lines: Lines) -> str:
    """The machine, the commit, and what else ran."""
    machines = ", ".join(sorted({line["machine"] for line in lines.values()}))
    commits = ", ".join(sorted({line["commit"] for line in lines.values()}))
    loads = [line["load"] for line in lines.values()]
    seconds = [line[seconds_of(line["what"])] for line in lines.values()]
    times = {len(values) for values in seconds}
    spread = max(max(values) / min(values) for values in seconds)
    return (
        f"{machines}; commit {commits}; medians of {min(times)} times, the furthest of which "
        f"lie a factor of {spread:.2f} apart, with a load of {min(loads)} to {max(loads)}."
    )


def maker(lines: Lines) -> Maker:
    """The blocks of the page."""
    tables: dict[str, Any] = {
        "images": images_rows,
        "classes": classes_rows,
        "processes": processes_rows,
        "imagenet": imagenet_rows,
        "hosts": hosts_rows,
    }

    def make(kind: str, name: str) -> str:
        return about(lines) if kind == "about" else markdown(tables[name](lines))

    return make


def main(check: Annotated[bool, typer.Option("--check", help="Only compare.")] = False) -> None:
    """Make the page's blocks anew."""
    update(PAGE, maker(recorded(LINES)), check=check)


if __name__ == "__main__":
    command.run(main)
