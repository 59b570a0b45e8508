"""A history in words, tables and JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edge_bench.core.markdown import escaped, plain, table
from edge_bench.history.series import REAL, Point, Series, Step
from edge_bench.policy.measured import Measured, measured
from edge_bench.statistics.path import PATH_ACCURACY

HEADER = ["commit", "date", "clean", "worst case", "95% interval", "p95", "what changed"]
PICTURES_AT, PICTURES = 5, "file to logits"
"""Where the column of pictures is put in, and its name."""
WIDEST = 12


def figure(point: Point, metric: str) -> Measured:
    """One figure of a report."""
    return measured(point.report, metric)[0][1]


def header(series: Series) -> list[str]:
    """HEADER, with a column for pictures where any were walked."""
    found = [*HEADER]
    if _has_pictures(series):
        found.insert(PICTURES_AT, PICTURES)
    return found


def rows(series: Series) -> list[list[str]]:
    """A row of `header` for each report."""
    steps: list[Step | None] = [None, *series.steps]
    told = [_row(point, step) for point, step in zip(series.points, steps, strict=True)]
    if _has_pictures(series):
        for point, row in zip(series.points, told, strict=True):
            row.insert(PICTURES_AT, _percent(figure(point, PATH_ACCURACY).value))
    return told


def _has_pictures(series: Series) -> bool:
    return any(point.report.pictures is not None for point in series.points)


def short(label: str) -> str:
    """A commit as people write it; other names stay, on one line."""
    is_hash = len(label) > WIDEST and not set(label) - set("0123456789abcdef")
    return label[:WIDEST] if is_hash else plain(label)


def _row(point: Point, step: Step | None) -> list[str]:
    clean, worst = figure(point, "clean"), figure(point, "worst_case")
    interval = worst.interval(0.95) if worst.interval else None
    p95 = figure(point, "latency_p95_ms")
    return [
        short(point.label),
        point.report.created[:10],
        _percent(clean.value),
        _percent(worst.value),
        "-" if interval is None else " to ".join(f"{100 * end:.1f}" for end in interval),
        "-" if p95.value is None or p95.too_few else f"{p95.value:.3f} ms",
        "" if step is None else changed(step),
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def changed(step: Step) -> str:
    """The real changes of a step; empty where there are none."""
    told = []
    if step.accuracy is not None and step.accuracy.verdict in REAL:
        name = step.accuracy.metric.replace("_", " ")
        told.append(f"{name} {100 * step.accuracy.difference:+.1f} points")
    if step.latency is not None and step.latency.verdict in REAL:
        name = step.latency.metric.removeprefix("latency_").removesuffix("_ms")
        told.append(f"{name} {100 * (step.latency.ratio[0] - 1):+.0f} %")
    return ", ".join(told)


def sentence(series: Series) -> str:
    """What became of the series, for people and for those who do not see its picture."""
    real = [bool(changed(step)) for step in series.steps]
    at = [short(p.label) for p, is_real in zip(series.points[1:], real, strict=True) if is_real]
    told = f"{len(series.points)} reports of {plain(series.name)}"
    told += f"; real changes at {', '.join(at)}" if at else "; no step is a real change"
    if series.overall is not None:
        over_all = changed(series.overall)
        told += f"; from the first to the last: {over_all or 'no real change'}"
    return told


def as_markdown(history: list[Series]) -> str:
    """A table for each series."""
    parts = [
        f"### {escaped(s.name)}\n\n{table(header(s), rows(s))}\n{escaped(sentence(s))}\n"
        for s in history
    ]
    return "\n".join(parts)


def as_json(history: list[Series]) -> dict[str, Any]:
    """Plain JSON values."""
    return {
        "series": [
            {
                "name": series.name,
                "points": [_point(point) for point in series.points],
                "steps": [_step(step) for step in series.steps],
                "overall": series.overall and _step(series.overall),
            }
            for series in history
        ]
    }


def _point(point: Point) -> dict[str, Any]:
    names = ("clean", "worst_case", PATH_ACCURACY, "latency_p50_ms", "latency_p95_ms")
    return {
        "commit": point.label,
        "report": str(point.path),
        "created": point.report.created,
        **{name: figure(point, name).value for name in names},
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "is_real": bool(changed(step)),
        "accuracy": step.accuracy and asdict(step.accuracy),
        "latency": step.latency and asdict(step.latency),
    }
