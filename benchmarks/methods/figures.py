"""What is read off a finished run, and how several seeds of one setting are told and drawn."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.lines import Line

OURS = "ard"


def clean(line: Line) -> float:
    """Accuracy on the test images as they are."""
    return float(line["test"]["clean"])


def robust(line: Line) -> float:
    """Accuracy that all attacks of the line left: the last one attacked what the others left."""
    return float(line["test"][worst_of(line)])


def worst_of(line: Line) -> str:
    """The attack that saw only what the others left, so that its mask is the worst case."""
    return str(min(line["test"], key=lambda attack: float(line["test"][attack])))


def spread(runs: list[Line], figure: Callable[..., float]) -> str:
    """Mean and SD over seeds in percent."""
    values = [100 * figure(line) for line in runs]
    text = f"{statistics.fmean(values):.1f}"
    return text + (f" ± {deviation(values):.1f}" if len(values) > 1 else "")


def deviation(values: list[float]) -> float:
    """The SD over seeds; 0 of a single one, which shows none."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


@contextmanager
def accuracies(path: Path) -> Iterator[Any]:
    """Axes of clean against robust accuracy to draw in; at the end they are a picture in `path`."""
    import matplotlib

    matplotlib.use("svg")
    # The same lines make the same file.
    matplotlib.rcParams["svg.hashsalt"] = path.stem
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 5))
    yield axes
    axes.set_xlabel("clean accuracy, %")
    axes.set_ylabel("accuracy under APGD-CE and APGD-T, %")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
