"""What is read off a finished run, and how several seeds of one setting are told and drawn."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_1samp

from benchmarks.lines import Line

OURS = "ard"

FloatArray = NDArray[np.float64]

Groups = dict[str, list[Line]]
"""Lines of one stage by label, each list in the order of its seeds."""


def by_stage(groups: Groups) -> dict[str, Groups]:
    """Lines of students that were judged once more, by the stage that these are of."""
    found: dict[str, Groups] = defaultdict(lambda: defaultdict(list))
    for label, runs in groups.items():
        for line in runs:
            found[line["of"]][label].append(line)
    return found


def is_ours(label: str) -> bool:
    """Whether the runs are of ARD, with whatever settings."""
    return label.partition(",")[0] == OURS


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


def p_value(differences: FloatArray | list[float]) -> float:
    """Of a t-test of paired differences against 0; 1 where there is none, so nothing to test."""
    if np.allclose(differences, 0):
        return 1.0
    p = float(ttest_1samp(differences, 0.0).pvalue)
    # Where every difference is the same there is no spread to judge by: as sure as it gets.
    return 0.0 if math.isnan(p) else p


def lead_and_p(lead: float, p: float) -> str:
    """A difference of accuracies, told in points, and how likely chance is to make it."""
    return f"{100 * lead:+.1f} (p {'< 0.01' if p < 0.01 else f'{p:.2f}'})"


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
