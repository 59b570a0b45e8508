"""The change of one accuracy: its interval, its verdict, and what would decide it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edge_bench.statistics.metrics import BoolArray
from edge_bench.statistics.power import (
    paired_detectable,
    paired_samples,
    unpaired_detectable,
    unpaired_samples,
)
from edge_bench.statistics.stats import (
    mcnemar_p_value,
    paired_difference_interval,
    unpaired_difference_interval,
    unpaired_p_value,
)

BETTER, SAME, WORSE, INCONCLUSIVE = "better", "same", "worse", "inconclusive"
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class AccuracyChange:
    """One accuracy of two reports.

    Attributes:
        metric: `clean`, `worst_case`, `attack:NAME`, `class:NAME`, or `path_accuracy` from file
            to logits.
        old, new: fractions.
        samples: of the old and of the new.
        lost, won: indices of samples that only the old, or only the new, gets right; None where
            the two saw other samples.
        interval: of new - old, at 95%.
        p_value: exact McNemar for pairs, else the two-sided z-test of two proportions; among
            classes Holm's correction for their number is in it.
        verdict: `better`, `same`, `worse` or `inconclusive`.
        detectable: the smallest difference that so many samples show with a power of 80%.
        needed: samples that would decide an inconclusive one, if the truth is what was observed;
            None where it is decided.
    """

    metric: str
    old: float
    new: float
    samples: tuple[int, int]
    lost: tuple[int, ...] | None
    won: tuple[int, ...] | None
    interval: tuple[float, float]
    p_value: float
    verdict: str
    detectable: float
    needed: int | None

    @property
    def difference(self) -> float:
        """New minus old."""
        return self.new - self.old


def compare_accuracy(
    metric: str,
    old: BoolArray,
    new: BoolArray,
    margin: float,
    at: NDArray[np.int64] | None,
) -> AccuracyChange:
    """The change between two masks (N,), (M,).

    Args:
        metric: its name.
        old, new: right on each sample.
        margin: a difference up to it counts as none, a fraction above 0.
        at: the index of each sample, where both masks are over the same ones; None where not.
    """
    if at is None:
        return _unpaired(metric, old, new, margin)
    lost, won = at[old & ~new], at[new & ~old]
    count = len(old)
    interval = paired_difference_interval(len(lost), len(won), count, CONFIDENCE)
    # One sample more to either side, as in the interval: none seen is not none possible.
    spread = (len(lost) + len(won) + 2) / (count + 2)
    difference = float(new.mean() - old.mean())
    verdict = decide(interval, margin)
    needed = None
    if verdict == INCONCLUSIVE:
        needed = _least_needed(
            difference,
            margin,
            sqrt(spread),
            paired_samples(difference, max(spread, abs(difference))) if difference else None,
        )
    return AccuracyChange(
        metric=metric,
        old=float(old.mean()),
        new=float(new.mean()),
        samples=(count, count),
        lost=tuple(lost.tolist()),
        won=tuple(won.tolist()),
        interval=interval,
        p_value=mcnemar_p_value(len(lost), len(won)),
        verdict=verdict,
        detectable=paired_detectable(count, min(spread, 1.0)),
        needed=needed,
    )


def _unpaired(metric: str, old: BoolArray, new: BoolArray, margin: float) -> AccuracyChange:
    counts = (int(old.sum()), len(old)), (int(new.sum()), len(new))
    was, now = (right / of for right, of in counts)
    interval = unpaired_difference_interval(*counts, CONFIDENCE)
    verdict = decide(interval, margin)
    needed = None
    if verdict == INCONCLUSIVE:
        deviation = sqrt(was * (1 - was) + now * (1 - now))
        needed = _least_needed(
            now - was, margin, deviation, unpaired_samples(was, now) if was != now else None
        )
    return AccuracyChange(
        metric=metric,
        old=was,
        new=now,
        samples=(counts[0][1], counts[1][1]),
        lost=None,
        won=None,
        interval=interval,
        p_value=unpaired_p_value(*counts),
        verdict=verdict,
        detectable=unpaired_detectable(min(counts[0][1], counts[1][1]), was),
        needed=needed,
    )


def decide(interval: tuple[float, float], margin: float) -> str:
    """Whether an interval of new - old, of which more is better, tells the two apart."""
    low, high = interval
    if -margin <= low and high <= margin:
        return SAME
    if low > 0:
        return BETTER
    if high < 0:
        return WORSE
    return INCONCLUSIVE


def _least_needed(
    difference: float, margin: float, deviation: float, to_tell_apart: int | None
) -> int | None:
    """Samples that show either the difference itself, or that it is within the margin."""
    found = [] if to_tell_apart is None else [to_tell_apart]
    if abs(difference) < margin:
        z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
        found.append(ceil((z * deviation / (margin - abs(difference))) ** 2))
    return min(found, default=None)


def corrected(changes: Iterable[AccuracyChange]) -> tuple[AccuracyChange, ...]:
    """The same with Holm's (1979) correction of their p-values, for of many classes one always
    looks worse; a verdict of a difference that does not survive it is inconclusive."""
    found = sorted(changes, key=lambda change: change.p_value)
    least, told = 0.0, []
    for rank, change in enumerate(found):
        least = max(least, min(1.0, change.p_value * (len(found) - rank)))
        verdict = change.verdict
        if verdict in (BETTER, WORSE) and least > 1 - CONFIDENCE:
            verdict = INCONCLUSIVE
        told.append(replace(change, p_value=least, verdict=verdict))
    return tuple(told)
