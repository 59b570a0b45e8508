"""The change of a latency, by bootstrap over raw samples.

Calls that follow one another are alike (clocks, caches, other work), so whole blocks of them are
drawn: a circular block bootstrap (Politis and Romano 1992) with blocks of the cube root of twice
the samples, at least. The calls of two runs have nothing in common one by one, so they are never
paired.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_bench.compare.accuracies import BETTER, CONFIDENCE, INCONCLUSIVE, SAME, WORSE
from edge_bench.core.timings import Measurement
from edge_bench.statistics.stats import early_stopping_floor, percentile_ms

PERCENTILES = (0.5, 0.95)
DRAWS = 500
MOST_DRAWN = 4_000_000
"""Samples drawn for one interval: a long run needs fewer draws for as steady an interval."""


@dataclass(frozen=True, kw_only=True)
class LatencyChange:
    """One percentile of two reports.

    Attributes:
        metric: such as `latency_p95_ms`, or `path_p95_ms` from file to logits.
        old, new: milliseconds.
        samples: calls of the old and of the new.
        ratio: new over old, with the 95% interval.
        verdict: `better` (faster), `same`, `worse` or `inconclusive`.
    """

    metric: str
    old: float
    new: float
    samples: tuple[int, int]
    ratio: tuple[float, float, float]
    verdict: str


def compare_latency(
    old: Measurement, new: Measurement, percentile: float, margin: float, of: str = "latency"
) -> LatencyChange | None:
    """The change of a percentile in (0, 1); None where a measurement cannot give it.

    Args:
        old, new: calls of equal batches.
        percentile: in (0, 1).
        margin: the relative change up to which both count as equally fast, above 0.
        of: what took the time, for the metric's name.
    """
    counts = len(old.latency_ns), len(new.latency_ns)
    bound = old.batch_size != new.batch_size
    if bound or min(counts) < early_stopping_floor(percentile):
        return None
    before, after = percentile_ms(old, percentile), percentile_ms(new, percentile)
    drawn = [
        drawn_percentiles(np.asarray(timed.latency_ns, dtype=np.int64), percentile, seed)
        for seed, timed in enumerate((old, new))
    ]
    if not all(part.all() for part in drawn):
        return None  # A clock of long steps, by which calls took no time, tells no ratio.
    count = min(len(part) for part in drawn)
    ratios = drawn[1][:count] / drawn[0][:count]
    tail = (1 - CONFIDENCE) / 2
    low, high = (float(q) for q in np.quantile(ratios, [tail, 1 - tail]))
    return LatencyChange(
        metric=f"{of}_p{round(100 * percentile)}_ms",
        old=before,
        new=after,
        samples=counts,
        ratio=(after / before, low, high),
        verdict=_decide(low, high, margin),
    )


def drawn_percentiles(
    samples: NDArray[np.int64], percentile: float, seed: int
) -> NDArray[np.float64]:
    """The percentile of each of up to DRAWS resamples of (N,) samples in their order."""
    count = len(samples)
    length = max(1, round((2 * count) ** (1 / 3)))
    draws = max(100, min(DRAWS, MOST_DRAWN // count))
    blocks = -(-count // length)
    starts = np.random.default_rng(seed).integers(0, count, size=(draws, blocks))
    at = (starts[:, :, None] + np.arange(length)).reshape(draws, -1)[:, :count] % count
    rank = min(int(np.ceil(percentile * (count - 1))), count - 1)  # As numpy's `higher`.
    return np.partition(samples[at], rank, axis=1)[:, rank].astype(np.float64)


def _decide(low: float, high: float, margin: float) -> str:
    if 1 / (1 + margin) <= low and high <= 1 + margin:
        return SAME
    if high < 1:
        return BETTER
    return WORSE if low > 1 else INCONCLUSIVE
