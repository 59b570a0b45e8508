"""The table of how far students share their teacher's order of the classes."""

from __future__ import annotations

import statistics
from collections import defaultdict

from benchmarks.lines import Line
from benchmarks.methods.figures import OURS, deviation, p_value

COLUMNS = {
    "clean": "tau, clean",
    "adversarial": "tau, attacked",
    "change": "tau of the change",
    "label": "pairs of the label, attacked",
}


def order_table(groups: dict[str, list[Line]]) -> list[list[str]]:
    """Means and SDs over seeds for each stage that was asked; ours first, then the nearest."""
    rows = [["students of", "method", "seeds", *COLUMNS.values(), "ard minus it, attacked"]]
    for stage, runs in sorted(_by_stage(groups).items()):
        ours = runs.get(OURS, [])
        for name in sorted(runs, key=lambda label: (label != OURS, -_mean(runs[label]))):
            rows.append(
                [
                    stage,
                    f"**{name}**" if name == OURS else name,
                    str(len(runs[name])),
                    *(_spread(runs[name], column) for column in COLUMNS),
                    "" if name == OURS else _versus(ours, runs[name]),
                ]
            )
    return rows


def _by_stage(groups: dict[str, list[Line]]) -> dict[str, dict[str, list[Line]]]:
    found: dict[str, dict[str, list[Line]]] = defaultdict(lambda: defaultdict(list))
    for label, runs in groups.items():
        for line in runs:
            found[line["of"]][label].append(line)
    return found


def _values(runs: list[Line], column: str) -> list[float]:
    return [float(line["order"][column]) for line in runs]


def _mean(runs: list[Line]) -> float:
    return statistics.fmean(_values(runs, "adversarial"))


def _spread(runs: list[Line], column: str) -> str:
    values = _values(runs, column)
    text = f"{statistics.fmean(values):.3f}"
    return text + (f" ± {deviation(values):.3f}" if len(values) > 1 else "")


def _versus(ours: list[Line], theirs: list[Line]) -> str:
    """The difference in tau at attacked images, and p of the paired t-test over seeds."""
    pairs = [(a, b) for a in ours for b in theirs if a["seed"] == b["seed"]]
    if not pairs:
        return ""
    leads = [a["order"]["adversarial"] - b["order"]["adversarial"] for a, b in pairs]
    lead = f"{statistics.fmean(leads):+.3f}"
    if len(pairs) == 1:
        return f"{lead} (one seed)"
    p = p_value(leads)
    return f"{lead} (p {'< 0.01' if p < 0.01 else f'{p:.2f}'})"
