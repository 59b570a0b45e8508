"""Tables and picture of the frontiers, from the stages of `frontiers.toml`."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.documents import Rows
from benchmarks.lines import Line
from benchmarks.methods.tables.figures import OURS, accuracies, clean, deviation, robust, spread
from benchmarks.methods.tables.frontier import Budgets, ahead, lead

STAGES = {6: "budget 6", 8: "main", 10: "budget 10"}
"""Where the runs of each budget of training stand, in 1/255."""

Stages = dict[str, dict[str, list[Line]]]
"""Lines by stage and label."""


def frontiers(stages: Stages) -> dict[str, Budgets]:
    """The budgets of each method that has runs at two of them or more."""
    found: dict[str, Budgets] = {}
    for budget, stage in STAGES.items():
        for label, runs in stages.get(stage, {}).items():
            found.setdefault(label, {})[str(budget)] = runs
    return {label: budgets for label, budgets in found.items() if len(budgets) > 1}


def frontier_table(stages: Stages) -> Rows:
    """Clean and robust accuracy at every budget, mean and SD over seeds."""
    rows = [["method", *(f"{budget}/255: clean / robust" for budget in STAGES)]]
    for label, budgets in frontiers(stages).items():
        cells = [_cell(budgets.get(str(budget), [])) for budget in STAGES]
        rows.append([f"**{label}**" if label == OURS else label, *cells])
    return rows


def lead_table(stages: Stages) -> Rows:
    """How far ours is above each rival at equal clean accuracy."""
    rows = [["rival", "clean accuracies of both", "robust: ard minus it", "least"]]
    found = frontiers(stages)
    for label, budgets in found.items():
        if label == OURS or OURS not in found:
            continue
        above = lead(found[OURS], budgets)
        if above is None:
            rows.append([label, "none", _more_of_both(found[OURS], budgets), ""])
            continue
        low, high = above.clean
        interval = f"({100 * above.low:+.1f} to {100 * above.high:+.1f})"
        rows.append(
            [
                label,
                f"{100 * low:.1f} to {100 * high:.1f}",
                f"{100 * above.mean:+.1f} {interval}",
                f"{100 * above.least:+.1f}",
            ]
        )
    return rows


def _more_of_both(ours: Budgets, theirs: Budgets) -> str:
    """What is said of two frontiers that share no clean accuracy."""
    by = ahead(ours, theirs)
    if by is None:
        return ""
    clean, robust = (f"{100 * share:.1f}" for share in by)
    return f"at every budget {clean} more clean, {robust} more robust, or more than that"


def _cell(runs: list[Line]) -> str:
    return f"{spread(runs, clean)} / {spread(runs, robust)}" if runs else ""


def draw_frontiers(stages: Stages, path: Path) -> None:
    """One line for each method, a cross of mean and SD for each budget, which is named in 1/255."""
    with accuracies(path) as axes:
        for label, budgets in frontiers(stages).items():
            both = [
                [[100 * read(run) for run in runs] for runs in budgets.values()]
                for read in (clean, robust)
            ]
            means = [[statistics.fmean(values) for values in each] for each in both]
            errors = [[deviation(values) for values in each] for each in both]
            axes.errorbar(
                means[0],
                means[1],
                xerr=errors[0],
                yerr=errors[1],
                fmt="D-" if label == OURS else "o--",
                capsize=2,
                markersize=4,
                label=label,
            )
            for budget, *middle in zip(budgets, *means, strict=True):
                axes.annotate(budget, middle, xytext=(4, 4), textcoords="offset points", fontsize=8)
        axes.legend()
