"""Reports of past commits in their order, and which changes between them are real.

Among many comparisons one always looks like a change, so the p-values of a series are corrected
together (Holm 1979): those of each report with the one before it, and that of the last with the
first, which shows a decline too slow for any single step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from math import log
from pathlib import Path
from statistics import NormalDist
from typing import TypeVar

from edge_bench.compare.accuracies import (
    BETTER,
    CONFIDENCE,
    INCONCLUSIVE,
    WORSE,
    AccuracyChange,
)
from edge_bench.compare.latencies import LatencyChange
from edge_bench.compare.reports import compare_reports
from edge_bench.core.errors import InputError
from edge_bench.core.spec import Report
from edge_bench.explain.departures import Explanation
from edge_bench.files.report_file import read_report
from edge_bench.files.store import read_json
from edge_bench.options.margins import LATENCY_MARGIN, MARGIN
from edge_bench.report.compare import Comparison

REAL = (BETTER, WORSE)
T = TypeVar("T", AccuracyChange, LatencyChange)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A report, called by its commit."""

    label: str
    path: Path
    report: Report


@dataclass(frozen=True, kw_only=True)
class Step:
    """From one report to another.

    Attributes:
        accuracy: change of the worst case, of the clean accuracy where nothing was attacked, or
            from file to logits where nothing was replayed; None where one of the two measured none.
        latency: change of the p95, or of the median where the calls are too few for it; None on
            another device.
    """

    accuracy: AccuracyChange | None
    latency: LatencyChange | None


@dataclass(frozen=True, kw_only=True)
class Series:
    """The reports of one class of device and runtime, in time.

    Attributes:
        name: such as `jetson, trt`.
        points: at least one.
        steps: of each point but the first, from the one before it.
        overall: from the first to the last; None of fewer than three, where a step says it.
    """

    name: str
    points: tuple[Point, ...]
    steps: tuple[Step, ...]
    overall: Step | None


def read_history(folder: Path) -> list[Point]:
    """Every `FILE.json` and `COMMIT/FILE.json` of `folder`, the oldest first.

    Raises:
        InputError: no such folder, no report in it, or a file that is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of reports, there is none; name one")
    files = history_files(folder)
    if not files:
        raise InputError(
            f"{folder}: expected reports (FILE.json or COMMIT/FILE.json), found none; keep what "
            "ardx bench writes there, one a commit"
        )
    # The shorter name first: what `bench --backend all` writes is also there under its own.
    files.sort(key=lambda path: (len(path.name), path))
    found = _once(point for path in files if (point := _point(folder, path)) is not None)
    if not found:
        raise InputError(
            f"{folder}: expected reports, found only what ardx bench lays beside them; keep the "
            "reports there, too"
        )
    return sorted(found, key=lambda point: (_created(point), point.path))


def history_files(folder: Path) -> list[Path]:
    """The reports of `folder` by their names, in no order; none where it is no folder."""
    return [path for path in (*folder.glob("*.json"), *folder.glob("*/*.json")) if path.is_file()]


def _point(folder: Path, path: Path) -> Point | None:
    """The report, or None of what `bench` itself lays beside one."""
    label = path.stem if path.parent == folder else path.parent.name
    try:
        return Point(label=label, path=path, report=read_report(path))
    except InputError:
        if _is_beside(path):
            return None
        raise


def _once(points: Iterable[Point]) -> list[Point]:
    """The first of all reports of one content in one folder: a copy is no second measurement."""
    found: dict[tuple[Path, str], Point] = {}
    for point in points:
        content = point.report.content_sha256 or str(point.path)
        found.setdefault((point.path.parent, content), point)
    return list(found.values())


def _is_beside(path: Path) -> bool:
    """Is it an explanation, or a comparison of backends?"""
    for kind in (Explanation, Comparison):
        with suppress(InputError):
            read_json(path, kind, kind.FORMAT.name)
            return True
    return False


def _created(point: Point) -> datetime:
    try:
        return point.report.made_at
    except InputError as error:
        raise InputError(f"{point.path}: {error}") from None


def series_of(
    points: list[Point], margin: float = MARGIN, latency_margin: float = LATENCY_MARGIN
) -> list[Series]:
    """A series for each class of device and runtime, in the order in which they first appear.

    Margins are as in `compare_reports`.

    Example:
        for series in series_of(read_history(Path("history"))):
            print(series.name, [step.accuracy and step.accuracy.verdict for step in series.steps])

    Raises:
        InputError: two reports have nothing to compare, such as those of other datasets.
    """
    found: dict[str, list[Point]] = {}
    for point in points:
        name = f"{point.report.device.device}, {point.report.backend.name}"
        found.setdefault(name, []).append(point)
    return [_series(name, of, margin, latency_margin) for name, of in found.items()]


def _series(name: str, points: list[Point], margin: float, latency_margin: float) -> Series:
    pairs = list(pairwise(points))
    if pairs[1:]:
        pairs.append((points[0], points[-1]))
    steps = _corrected([_step(*pair, margin, latency_margin) for pair in pairs])
    count = len(points) - 1
    return Series(
        name=name,
        points=tuple(points),
        steps=tuple(steps[:count]),
        overall=steps[count] if steps[count:] else None,
    )


def _step(old: Point, new: Point, margin: float, latency_margin: float) -> Step:
    try:
        change = compare_reports(old.report, new.report, margin, latency_margin)
    except InputError as error:
        raise InputError(f"{old.path} and {new.path}: {error}") from None
    latency = change.latencies[-1] if change.is_same_device and change.latencies else None
    return Step(accuracy=change.headline, latency=latency)


def _corrected(steps: list[Step]) -> list[Step]:
    accuracies = _holm([step.accuracy for step in steps], lambda change: change.p_value)
    latencies = _holm([step.latency for step in steps], latency_p_value)
    return [
        Step(accuracy=accuracy, latency=latency)
        for accuracy, latency in zip(accuracies, latencies, strict=True)
    ]


def _holm(changes: list[T | None], p_value: Callable[[T], float]) -> Iterator[T | None]:
    """The same, undecided where a difference does not survive the correction."""
    known = [(p_value(change), at) for at, change in enumerate(changes) if change is not None]
    least, survives = 0.0, set()
    for rank, (p, at) in enumerate(sorted(known)):
        least = max(least, p * (len(known) - rank))
        if least <= 1 - CONFIDENCE:
            survives.add(at)
    for at, change in enumerate(changes):
        lost = change is not None and change.verdict in REAL and at not in survives
        yield replace(change, verdict=INCONCLUSIVE) if change is not None and lost else change


def latency_p_value(change: LatencyChange) -> float:
    """Two-sided, of a ratio of 1, by the normal law that fits the logarithm of its interval."""
    ratio, low, high = change.ratio
    spread = (log(high) - log(low)) / (2 * NormalDist().inv_cdf(0.5 + CONFIDENCE / 2))
    if spread == 0:
        return 1.0 if ratio == 1 else 0.0
    return 2 * NormalDist().cdf(-abs(log(ratio)) / spread)
