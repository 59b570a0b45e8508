"""Make the tables and the pictures of docs/results/methods.md from the lines of finished runs.

python -m benchmarks.methods.report            writes them, and the tables of the pages beside it
python -m benchmarks.methods.report --check    exits 1 where the tables are not what they say
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks import command
from benchmarks.documents import Maker, markdown, update
from benchmarks.lines import LINES, RESULTS, Line, read_lines, unpack
from benchmarks.methods.tables.attacks import blackbox_table, deployed_table, ensemble_table
from benchmarks.methods.tables.figures import (
    OURS,
    Groups,
    accuracies,
    clean,
    deviation,
    is_ours,
    lead_and_p,
    p_value,
    robust,
    spread,
    worst_of,
)
from benchmarks.methods.tables.frontiers import (
    Stages,
    draw_frontiers,
    frontier_table,
    frontiers,
    lead_table,
)
from benchmarks.methods.tables.order import order_table
from benchmarks.methods.tables.together import together_table

PAGES = [RESULTS / f"{name}.md" for name in ("methods", "methods_search", "methods_attacks")]
"""What is made where no document is named."""

CHOSEN = "ard, on igdm"
"""The settings of ARD that the search chose."""

ASIDE = {
    "ard, attack of adaad": ((0, -24), "center"),
    "igdm, alpha 8": ((-5, 5), "right"),
    "igdm": ((-7, -14), "right"),
}
"""Where the picture puts names that would lie over others."""


def main(
    lines: Annotated[Path, typer.Option(help="Lines of finished runs.")] = (LINES),
    document: Annotated[
        list[Path], typer.Option(help="Document with tables; may be repeated.")
    ] = PAGES,
    picture: Annotated[Path, typer.Option(help="Picture of the main table.")] = (
        RESULTS / "methods.svg"
    ),
    check: Annotated[bool, typer.Option("--check", help="Compare, write nothing.")] = False,
) -> None:
    """Fill in the tables of the documents, and draw what they tell."""
    stages = read(lines)
    for page in document:
        update(page, maker(stages), check=check)
    if check:
        return
    if "main" in stages:
        draw(stages["main"], picture)
    if frontiers(stages):
        draw_frontiers(stages, picture.with_name("frontiers.svg"))


def read(path: Path) -> dict[str, Groups]:
    """Lines by stage and label."""
    stages: dict[str, Groups] = defaultdict(lambda: defaultdict(list))
    found = read_lines(path)
    for line in sorted(found, key=lambda line: int(line["seed"])):
        if "diverged" in line:
            continue
        stages[line["stage"]][line["label"]].append(line)
    return stages


def maker(stages: dict[str, Groups]) -> Maker:
    """How each table is made; one for another stage than its own is named `TABLE STAGE`."""

    def make(_: str, name: str) -> str:
        kind, _, stage = name.partition(" ")
        if kind in ACROSS:
            return markdown(ACROSS[kind](stages))
        return markdown(TABLES[kind](stages.get(stage or kind, {})))

    return make


def main_table(groups: Groups) -> list[list[str]]:
    """Mean and SD over seeds on test images, each rival compared with ours by pairs."""
    rows = [
        [
            "method",
            "seeds",
            "clean",
            "APGD-CE",
            "APGD-CE + T",
            "weighted",
            "clean: ard minus it",
            "robust: ard minus it",
        ]
    ]
    for label, runs in sorted(groups.items(), key=lambda item: -mean(item[1], robust)):
        ours = groups.get(OURS, [])
        compared = ["", ""]
        if label != OURS:
            compared = [versus(ours, runs, lambda line: "clean"), versus(ours, runs, worst_of)]
        rows.append(
            [
                f"**{label}**" if label == OURS else label,
                str(len(runs)),
                spread(runs, clean),
                spread(runs, lambda line: line["test"]["apgd_ce"]),
                spread(runs, robust),
                spread(runs, weighted),
                *compared,
            ]
        )
    return rows


def rivals_table(groups: Groups) -> list[list[str]]:
    """The chosen settings of ARD against every rival by pairs, the most robust rival first."""
    ours = groups.get(CHOSEN, [])
    rivals = {k: runs for k, runs in groups.items() if runs[0]["settings"]["method"] != "ard"}
    rows = [["rival", "seeds", "clean", "robust", "pooled SD", "weighted"]]
    for label, runs in sorted(rivals.items(), key=lambda item: -mean(item[1], robust)):
        rows.append(
            [
                label,
                str(len(runs)),
                versus(ours, runs, lambda line: "clean"),
                versus(ours, runs, worst_of),
                pooled(ours, runs, robust),
                f"{100 * (mean(ours, weighted) - mean(runs, weighted)):+.1f}" if ours else "",
            ]
        )
    return rows


def search_table(groups: Groups) -> list[list[str]]:
    """Figures on training images that the runs left unused, the best robust accuracy first."""
    rows = [["setting", "seeds", "clean", "PGD-10 and CW-10"]]

    def left(line: Line) -> float:
        return float(min(line["unused"].values()))

    for label, runs in sorted(groups.items(), key=lambda item: -mean(item[1], left)):
        rows.append(
            [
                label,
                str(len(runs)),
                spread(runs, lambda line: line["unused"]["clean"]),
                spread(runs, left),
            ]
        )
    return rows


def ablation_table(groups: Groups) -> list[list[str]]:
    """Each change of ARD compared with ARD by pairs, on training images that were left unused."""
    rows = [["setting", "seeds", "clean", "PGD-10 and CW-10", "clean: ard minus it", "robust"]]

    def weakest(line: Line) -> str:
        return str(min(line["unused"], key=lambda attack: float(line["unused"][attack])))

    ours = groups.get(OURS, [])
    for label, runs in groups.items():
        compared = ["", ""]
        if label != OURS:
            compared = [versus(ours, runs, lambda line: "clean"), versus(ours, runs, weakest)]
        rows.append(
            [
                f"**{label}**" if label == OURS else label,
                str(len(runs)),
                spread(runs, lambda line: line["unused"]["clean"]),
                spread(runs, lambda line: min(line["unused"].values())),
                *compared,
            ]
        )
    return rows


def validation_table(groups: Groups) -> list[list[str]]:
    """Figures on the 1,000 held-out validation images, in the order of the labels."""
    rows = [["setting", "seeds", "clean", "PGD-10"]]
    for label, runs in sorted(groups.items()):
        figures = [
            spread(runs, lambda line, name=name: line["validation"][name])
            for name in ("clean", "pgd10")
        ]
        rows.append([label, str(len(runs)), *figures])
    return rows


TABLES: dict[str, Callable[[Groups], list[list[str]]]] = {
    "main": main_table,
    "rivals": rivals_table,
    "search": search_table,
    "ablation": ablation_table,
    "autoattack": ensemble_table,
    "ensemble": ensemble_table,
    "validation": validation_table,
    "blackbox": blackbox_table,
    "deployed": deployed_table,
    "order": order_table,
}

ACROSS: dict[str, Callable[[Stages], list[list[str]]]] = {
    "frontier": frontier_table,
    "leads": lead_table,
    "together": together_table,
}
"""Tables of several stages."""


def weighted(line: Line) -> float:
    """The mean of clean and robust accuracy."""
    return (clean(line) + robust(line)) / 2


def mean(runs: list[Line], figure: Callable[[Line], float]) -> float:
    """Mean over seeds."""
    return statistics.fmean(figure(line) for line in runs)


def pooled(ours: list[Line], theirs: list[Line], figure: Callable[[Line], float]) -> str:
    """The SD over seeds that two methods share, in points; nothing where one has a single seed."""
    if min(len(ours), len(theirs)) < 2:
        return ""
    squares = [
        (len(runs) - 1, statistics.variance(100 * figure(line) for line in runs))
        for runs in (ours, theirs)
    ]
    freedom = sum(count for count, _ in squares)
    return f"{math.sqrt(sum(count * square for count, square in squares) / freedom):.1f}"


def versus(ours: list[Line], theirs: list[Line], attack: Callable[[Line], str]) -> str:
    """Difference in accuracy over common seeds, and p of the paired tests over it.

    p is the larger one of the paired t-test over images, each the mean of its seeds (another draw
    of images), and of the paired t-test over seeds (another draw of weights).
    """
    pairs = [(a, b) for a in ours for b in theirs if a["seed"] == b["seed"]]
    if not pairs:
        return ""
    first = np.stack([unpack(a, attack(a)) for a, _ in pairs]).astype(float)
    second = np.stack([unpack(b, attack(b)) for _, b in pairs]).astype(float)
    difference = float((first - second).mean())
    if len(pairs) == 1:
        return f"{100 * difference:+.1f} (one seed)"
    p = max(p_value((first - second).mean(axis=axis)) for axis in (0, 1))
    return lead_and_p(difference, p)


def draw(groups: Groups, path: Path) -> None:
    """Clean against robust accuracy, one cross of mean and SD for each method."""
    with accuracies(path) as axes:
        for label, runs in groups.items():
            if mean(runs, robust) < 0.05:
                continue
            place, side = ASIDE.get(label, ((5, 5), "left"))
            both = [[100 * read(line) for line in runs] for read in (clean, robust)]
            middle = (statistics.fmean(both[0]), statistics.fmean(both[1]))
            axes.errorbar(
                *middle,
                xerr=deviation(both[0]),
                yerr=deviation(both[1]),
                fmt="D" if is_ours(label) else "o",
                color="#c0392b" if is_ours(label) else "#34495e",
                capsize=2,
            )
            axes.annotate(
                label, middle, xytext=place, ha=side, textcoords="offset points", fontsize=9
            )
        axes.margins(x=0.1)


if __name__ == "__main__":
    command.run(main)
