"""Tables and picture of the frontiers, from the stages of `frontiers.toml`."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.documents import Rows
from benchmarks.lines import Line
from benchmarks.methods.frontier import Budgets, lead, worst_of

OURS = "ard"
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
            rows.append([label, "none", "", ""])
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


def _cell(runs: list[Line]) -> str:
    if not runs:
        return ""
    return " / ".join(_spread(runs, robust=robust) for robust in (False, True))


def _shares(runs: list[Line], *, robust: bool) -> list[float]:
    return [100 * float(run["test"][worst_of(run) if robust else "clean"]) for run in runs]


def _spread(runs: list[Line], *, robust: bool) -> str:
    values = _shares(runs, robust=robust)
    text = f"{statistics.fmean(values):.1f}"
    return text + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def _deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def draw_frontiers(stages: Stages, path: Path) -> None:
    """One line for each method, a cross of mean and SD for each budget."""
    import matplotlib

    matplotlib.use("svg")
    # The same lines make the same file.
    matplotlib.rcParams["svg.hashsalt"] = "frontiers"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 5))
    for label, budgets in frontiers(stages).items():
        clean, left = (
            [_shares(runs, robust=robust) for runs in budgets.values()] for robust in (False, True)
        )
        axes.errorbar(
            [statistics.fmean(values) for values in clean],
            [statistics.fmean(values) for values in left],
            xerr=[_deviation(values) for values in clean],
            yerr=[_deviation(values) for values in left],
            fmt="D-" if label == OURS else "o--",
            capsize=2,
            markersize=4,
            label=label,
        )
    axes.set_xlabel("clean accuracy, %")
    axes.set_ylabel("accuracy under APGD-CE and APGD-T, %")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
