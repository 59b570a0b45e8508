"""The table of how far students share their teacher's order of the classes."""

from __future__ import annotations

import statistics

from benchmarks.lines import Line
from benchmarks.methods.tables.figures import OURS, Groups, by_stage, deviation, lead_and_p, p_value

TAUS = {
    "clean": "Kendall's tau",
    "adversarial": "the same, attacked",
    "change": "of the change",
}
SHARES = {
    "label": "pairs of the label, attacked",
    "among clean": "label among the likeliest",
    "among adversarial": "the same, attacked",
}
FIGURES = TAUS | SHARES


def order_table(groups: Groups) -> list[list[str]]:
    """A row for each figure of each stage that was asked, a column for each method: ours, then the
    others from the nearest on, in tau under attack, with whose seeds ours are compared."""
    stages = by_stage(groups)
    nearness = [_ranked(runs) for runs in stages.values()]
    methods = max(nearness, key=len, default=[])
    rows = [["students of", "", *methods, *(f"{OURS} minus {m}" for m in methods[1:2])]]
    for stage, runs in sorted(stages.items()):
        for figure, told in FIGURES.items():
            cells = [_spread(runs[method], figure) if runs[method] else "" for method in methods]
            leads = [_lead(runs[OURS], runs[method], figure) for method in methods[1:2]]
            rows.append([stage, told, *cells, *leads])
    return rows


def _ranked(runs: Groups) -> list[str]:
    return sorted(
        runs, key=lambda name: (name != OURS, -statistics.fmean(_values(runs[name], "adversarial")))
    )


def _values(runs: list[Line], figure: str) -> list[float]:
    return [float(line["order"][figure]) for line in runs]


def _spread(runs: list[Line], figure: str) -> str:
    """Mean and SD over seeds: of taus as they are, of shares in percent."""
    values = _values(runs, figure)
    scale, digits, unit = (1, 3, "") if figure in TAUS else (100, 1, " %")
    text = f"{scale * statistics.fmean(values):.{digits}f}"
    return text + (f" ± {scale * deviation(values):.{digits}f}" if values[1:] else "") + unit


def _lead(ours: list[Line], theirs: list[Line], figure: str) -> str:
    """The difference over common seeds, and p of the paired t-test over them."""
    pairs = [(a, b) for a in ours for b in theirs if a["seed"] == b["seed"]]
    if not pairs:
        return ""
    leads = [a["order"][figure] - b["order"][figure] for a, b in pairs]
    lead = statistics.fmean(leads)
    tau = f"{lead:+.3f}"
    if len(pairs) == 1:
        return f"{tau if figure in TAUS else f'{100 * lead:+.1f}'} (one seed)"
    told = lead_and_p(lead, p_value(leads))
    return told if figure in SHARES else f"{tau} {told.partition(' ')[2]}"
