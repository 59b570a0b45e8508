"""The few statistics that a device without scipy needs; checked against scipy in the tests."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, sqrt
from statistics import NormalDist

import numpy as np

from edge_bench.core.spec import Measurement

MANY = 500
"""Above this many values, exact sums of binomials cost more than they tell."""


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927), as fractions.

    Raises:
        ValueError: no trials, or successes outside [0, trials].
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes of {trials} trials")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / trials
    denominator = 1 + z * z / trials
    centre = (p + z * z / (2 * trials)) / denominator
    half = z / denominator * sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Two-sided exact McNemar test (McNemar 1947) from the two counts of discordant samples.

    `only_first` samples are right under the first model alone, `only_second` under the second
    alone; under the null hypothesis either is Binomial(sum, 1/2).
    """
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    tail = sum(comb(discordant, i) for i in range(min(only_first, only_second) + 1))
    # Whole numbers until the last division: a float 2**-n underflows beyond n = 1074.
    return min(1.0, 2 * tail / (1 << discordant))


def early_stopping_floor(percentile: float, confidence: float = 0.99) -> int:
    """Least number of samples for which a latency percentile may be claimed.

    The rule of MLPerf Inference: the smallest n with P[Binomial(n, 1 - percentile) <= 1] at
    most 1 - confidence. Gives 64 at p90 and 662 at p99.
    """
    over = 1 - percentile
    n = 1
    while percentile**n + n * over * percentile ** (n - 1) > 1 - confidence:
        n += 1
    return n


def paired_difference_interval(
    only_first: int, only_second: int, samples: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the second accuracy minus the first, on the same samples, as fractions.

    Wald with the Laplace adjustment of Bonett and Price (2012): one sample is added to either
    count of discordant ones, so that models without any are equal up to what `samples` can show.

    Raises:
        ValueError: no samples, or counts that they cannot have.
    """
    if samples < 1 or min(only_first, only_second) < 0 or only_first + only_second > samples:
        raise ValueError(f"{only_first} and {only_second} discordant of {samples} samples")
    lost, won = ((count + 1) / (samples + 2) for count in (only_first, only_second))
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    half = z * sqrt((lost + won - (won - lost) ** 2) / (samples + 2))
    return max(-1.0, won - lost - half), min(1.0, won - lost + half)


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the median of what `values` are drawn from, whatever their distribution.

    Two order statistics: as few values lie outside as the binomial of fair coins allows, whose
    normal approximation serves above MANY values. Of fewer than 6 values it is, at 95%, the whole
    range, which holds the median less often than that.

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("no values")
    ranked, count = sorted(values), len(values)
    if count > MANY:
        z = NormalDist().inv_cdf(0.5 + confidence / 2)
        at = int((count - z * sqrt(count)) / 2)
        return ranked[at], ranked[-1 - at]
    outside, below = 0, 1
    # `below` of the 2**n outcomes have `outside` or fewer values under the median.
    while 2 * below / (1 << count) <= 1 - confidence:
        outside += 1
        below += comb(count, outside)
    at = max(outside - 1, 0)
    return ranked[at], ranked[-1 - at]


def percentile_ms(measurement: Measurement, percentile: float) -> float:
    """Percentile in (0, 1) of the latency of one call, in milliseconds.

    The nearest-rank sample above (numpy's `higher`): a latency that was really seen.
    """
    return float(np.quantile(measurement.latency_ns, percentile, method="higher")) / 1e6
