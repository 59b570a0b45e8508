"""Frontiers: what a method reaches at several budgets, compared at equal clean accuracy.

A larger budget buys robust accuracy for clean accuracy, so one figure of each says little of two
methods. Here every method has a line of points, one for each budget, mean clean against mean robust
accuracy of its seeds, joined by straight lines; two methods are compared where both have one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.lines import Line, unpack
from benchmarks.methods.tables.figures import worst_of

DRAWS = 2_000
PLACES = 41
"""Clean accuracies at which two frontiers are compared, evenly over what both reach."""

FloatArray = NDArray[np.float64]
Budgets = dict[str, list[Line]]
"""The runs of one method by their budget, from the least to the largest."""


@dataclass(frozen=True, kw_only=True)
class Lead:
    """How far one frontier is above another, in shares, with a 95 % interval.

    Attributes:
        mean: robust accuracy more than the other at equal clean accuracy, a mean over `clean`.
        low, high: of it, over draws of images and of seeds.
        least: the smallest such difference.
        clean: the clean accuracies that both reach, from and to.
    """

    mean: float
    low: float
    high: float
    least: float
    clean: tuple[float, float]


def lead(ours: Budgets, theirs: Budgets, *, draws: int = DRAWS, seed: int = 0) -> Lead | None:
    """How far ours is above theirs; None where no clean accuracy is reached by both.

    The interval is a percentile bootstrap: images are drawn with replacement, the same ones for
    both, and for each method and budget its seeds. A draw without an overlap does not count.
    """
    both = [_masks(ours), _masks(theirs)]
    found = _difference(*(_points(masks.mean(axis=2) for masks in each) for each in both))
    if found is None:
        return None
    generator = np.random.default_rng(seed)
    images = both[0][0].shape[-1]
    counts = generator.multinomial(images, np.full(images, 1 / images), size=draws)
    # (budget) of (seeds, 2, draws): what each run has of the images of each draw.
    shares = [[masks @ (counts.T / images) for masks in each] for each in both]
    drawn = []
    for draw in range(draws):
        points = (
            _points(_of_drawn_seeds(each[..., draw], generator) for each in one) for one in shares
        )
        again = _difference(*points)
        if again is not None:
            drawn.append(float(again[0].mean()))
    low, high = np.percentile(drawn, [2.5, 97.5])
    differences, clean = found
    return Lead(
        mean=float(differences.mean()),
        low=float(low),
        high=float(high),
        least=float(differences.min()),
        clean=clean,
    )


def ahead(ours: Budgets, theirs: Budgets) -> tuple[float, float] | None:
    """By how much the least of ours is above the most of theirs, in clean and robust accuracy.

    None where it is not above in both: one has more of both at every budget, or it says nothing.
    """
    first, second = (_points(masks.mean(axis=2) for masks in _masks(one)) for one in (ours, theirs))
    clean, robust = (float(least) for least in first.min(axis=0) - second.max(axis=0))
    return (clean, robust) if min(clean, robust) > 0 else None


def _masks(budgets: Budgets) -> list[FloatArray]:
    """(seeds, 2, images) for each budget: right on the clean image, and in the worst case."""
    return [
        np.stack([[unpack(run, "clean"), unpack(run, worst_of(run))] for run in runs]).astype(float)
        for runs in budgets.values()
    ]


def _of_drawn_seeds(runs: FloatArray, generator: np.random.Generator) -> FloatArray:
    """(seeds, 2) anew, with replacement."""
    return runs[generator.integers(0, len(runs), len(runs))]


def _points(budgets: Iterable[FloatArray]) -> FloatArray:
    """(budgets, 2), clean and robust accuracy: means over the seeds of (seeds, 2) for each."""
    return np.stack([runs.mean(axis=0) for runs in budgets])


def _difference(
    ours: FloatArray, theirs: FloatArray
) -> tuple[FloatArray, tuple[float, float]] | None:
    """Robust accuracy of ours minus theirs over the clean accuracies that both reach."""
    low = max(ours[:, 0].min(), theirs[:, 0].min())
    high = min(ours[:, 0].max(), theirs[:, 0].max())
    if low >= high:
        return None
    places = np.linspace(low, high, PLACES)
    heights = []
    for points in (ours, theirs):
        rising = points[np.argsort(points[:, 0])]
        heights.append(np.interp(places, rising[:, 0], rising[:, 1]))
    return heights[0] - heights[1], (float(low), float(high))
