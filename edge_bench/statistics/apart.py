"""What a report says beside its parent: on which images the two differ, and what nature costs it.

None of this is part of the adversarial worst case: a differential set looks for images on which
parent and artefact disagree, whoever of them errs, and a corruption has no adversary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edge_bench.core.series import series_array
from edge_bench.core.spec import Report, SetResult
from edge_bench.statistics.metrics import BoolArray, decode_mask, labels_of

CORRUPTION = "corruption"


@dataclass(frozen=True, kw_only=True)
class Apart:
    """(N,) booleans: the samples on which parent and artefact were told apart.

    Attributes:
        unattacked: their classes differ on the clean image already.
        artefact: on some image within the budget the parent is right and the artefact wrong.
        parent: on some image within the budget the artefact is right and the parent wrong.
    """

    unattacked: BoolArray
    artefact: BoolArray
    parent: BoolArray

    @property
    def either(self) -> BoolArray:
        """Told apart in one direction or the other."""
        found: BoolArray = self.artefact | self.parent
        return found

    def by_direction(self) -> dict[str, BoolArray]:
        """The samples told apart in either direction, and in each."""
        return {"either": self.either, "artefact": self.artefact, "parent": self.parent}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure and its standard error, from `samples` images.

    The error counts two images more, one each way at its most, as Laplace would: images that are
    all alike show no spread, and that so many showed none does not mean that there is none.
    """

    value: float
    error: float
    samples: int
    least: float = 0.0

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Normal interval, within `least` and 1."""
        half = NormalDist().inv_cdf(0.5 + confidence / 2) * self.error
        return max(self.value - half, self.least), min(self.value + half, 1.0)


def apart(report: Report) -> Apart | None:
    """Over all differential sets of a report, clean images included; None without such a set.

    A clean image is within every budget, so what tells the two apart there counts, too.
    """
    labels, clean = labels_of(report), report.clean_answers
    compared = [s for s in report.sets if s.manifest.threat == "differential"]
    if labels is None or clean is None or not compared:
        return None
    ours = series_array(clean.predicted)
    unattacked = np.zeros(len(labels), dtype=np.bool_)
    artefact, parent = unattacked.copy(), unattacked.copy()
    for result in compared:
        if result.parent is None or result.answers is None:
            continue
        theirs = series_array(result.parent.clean)
        unattacked |= ours != theirs
        pairs = (
            (ours, theirs),
            (series_array(result.answers.predicted), series_array(result.parent.stored)),
        )
        for mine, its in pairs:
            artefact |= (its == labels) & (mine != labels)
            parent |= (its != labels) & (mine == labels)
    return Apart(unattacked=unattacked, artefact=artefact, parent=parent)


def corrupted(report: Report) -> list[SetResult]:
    """The results of the corruptions of a report."""
    return [s for s in report.sets if s.manifest.threat == CORRUPTION]


def corruption_accuracy(report: Report) -> Estimate | None:
    """Mean accuracy over all corruptions of a report; None without any.

    Images count as drawn, each with the share of corruptions that it stood.
    """
    found = corrupted(report)
    if not found:
        return None
    masks = np.array([decode_mask(s.mask) for s in found])
    # Of whole counts, so that an accuracy of exactly a limit is that.
    return replace(mean_of(masks.mean(axis=0)), value=int(masks.sum()) / masks.size)


def corruption_loss(report: Report) -> Estimate | None:
    """What the artefact loses of its parent's mean accuracy under corruption, relative to it.

    None where no corruption says what the parent answers, or the parent is right of none. Positive
    where the artefact is the worse one. Both are of the same images, so the error is that of the
    ratio of two paired means (linearised).
    """
    labels = labels_of(report)
    found = [(s, s.parent) for s in corrupted(report) if s.parent is not None]
    if labels is None or not found:
        return None
    ours = np.mean([decode_mask(s.mask) for s, _ in found], axis=0)
    theirs = np.mean([series_array(parent.stored) == labels for _, parent in found], axis=0)
    return relative_loss(ours, theirs) if theirs.any() else None


def mean_of(shares: NDArray[np.float64]) -> Estimate:
    """The mean of (N,) shares in [0, 1]."""
    return Estimate(
        value=float(shares.mean()), error=_error([*shares, 0.0, 1.0]), samples=len(shares)
    )


def relative_loss(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Estimate:
    """One minus the ratio of the means of paired (N,) shares in [0, 1], by linearisation."""
    base = float(theirs.mean())
    ratio = float(ours.mean()) / base
    # An image that is ours alone and one that is theirs alone: 1 - 0 and 0 - ratio.
    apart = [*(ours - ratio * theirs), 1.0, -ratio]
    error = _error(apart) / base
    return Estimate(value=1 - ratio, error=error, samples=len(ours), least=-inf)


def _error(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) / sqrt(len(values))
