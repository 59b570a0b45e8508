"""The few statistics that a device without scipy needs; checked against scipy in the tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from math import comb, cos, erfc, exp, lgamma, log, pi, sin, sqrt, tan
from statistics import NormalDist

import numpy as np

from edge_bench.core.timings import Measurement

MANY = 500
"""Above this many values, exact sums of whole numbers cost more than they tell."""

EPSILON = 1e-17


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
    alone; under the null hypothesis either is Binomial(sum, 1/2). Summed in whole numbers up to
    MANY discordant samples, in floats above, where a factorial's digits would take minutes.
    """
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    most = min(only_first, only_second)
    if discordant > MANY:
        return min(1.0, 2 * _lower_tail(most, discordant))
    tail = sum(islice(_binomials(discordant), most + 1))
    return min(1.0, 2 * tail / (1 << discordant))


def _lower_tail(most: int, n: int) -> float:
    """P[Binomial(n, 1/2) <= most], the largest term first and until no further one counts."""
    log_term = lgamma(n + 1) - lgamma(most + 1) - lgamma(n - most + 1) - n * log(2)
    total = part = 1.0
    for i in range(most, 0, -1):
        part *= i / (n - i + 1)
        total += part
        if part < total * EPSILON:
            break
    return exp(log_term) * total


def _binomials(n: int) -> Iterator[int]:
    """C(n, 0), C(n, 1), ... each from the last: computing them anew is quadratic."""
    found = 1
    for i in range(n + 1):
        yield found
        found = found * (n - i) // (i + 1)


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


def unpaired_difference_interval(
    old: tuple[int, int], new: tuple[int, int], confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the new proportion minus the old, each (successes, trials) of its own samples.

    Newcombe (1998), method 10: the Wilson intervals of the two, combined.

    Raises:
        ValueError: counts that no samples can have.
    """
    (old_low, old_high), (new_low, new_high) = (
        wilson_interval(*counts, confidence) for counts in (old, new)
    )
    was, now = old[0] / old[1], new[0] / new[1]
    below = sqrt((now - new_low) ** 2 + (old_high - was) ** 2)
    above = sqrt((new_high - now) ** 2 + (was - old_low) ** 2)
    return now - was - below, now - was + above


def unpaired_p_value(old: tuple[int, int], new: tuple[int, int]) -> float:
    """Two-sided z-test of two proportions with pooled variance, each (successes, trials)."""
    (was, before), (now, after) = old, new
    pooled = (was + now) / (before + after)
    variance = pooled * (1 - pooled) * (1 / before + 1 / after)
    if variance == 0:
        return 1.0
    z = (now / after - was / before) / sqrt(variance)
    return erfc(abs(z) / sqrt(2))  # Of a far tail one minus the other would leave nothing.


def student_quantile(confidence: float, freedom: int) -> float:
    """The t that Student's t of so many degrees of freedom lies within with this probability.

    Bisects the finite series of the distribution (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4);
    above MANY degrees of freedom it is the normal one's.

    Raises:
        ValueError: no degree of freedom.
    """
    if freedom < 1:
        raise ValueError(f"{freedom} degrees of freedom")
    normal = NormalDist().inv_cdf(0.5 + confidence / 2)
    if freedom > MANY:
        return normal
    low, high = 0.0, pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (low, angle) if _within(angle, freedom) > confidence else (angle, high)
    return tan(low) * sqrt(freedom)


def _within(angle: float, freedom: int) -> float:
    """P[|t| < tan(angle) sqrt(freedom)]."""
    is_odd = freedom % 2
    part = cos(angle) if is_odd else 1.0
    total = 0.0
    for k in range(2 + is_odd, freedom + 1, 2):
        total += part
        part *= (k - 1) / k * cos(angle) ** 2
    total *= sin(angle)
    return 2 / pi * (angle + total) if is_odd else total


def quantile_interval(
    values: Sequence[float], quantile: float, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Interval of a quantile in (0, 1) of what `values` are drawn from, whatever that is.

    Two order statistics, by the exact binomial number of values below the quantile. None where
    there are too few values for an upper or a lower one.
    """
    count = len(values)
    k = np.arange(count + 1)
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, count + 1)))))
    logs = log_factorial[-1] - log_factorial - log_factorial[::-1]
    at_most = np.cumsum(np.exp(logs + k * np.log(quantile) + (count - k) * np.log1p(-quantile)))
    tail = (1 - confidence) / 2
    # P[fewer than `low` values lie below the quantile] <= tail, and likewise above.
    low = int(np.searchsorted(at_most, tail, side="right"))
    high = int(np.searchsorted(at_most, 1 - tail, side="left")) + 1
    if low < 1 or high > count:
        return None
    ranked = np.partition(np.asarray(values, dtype=np.float64), (low - 1, high - 1))
    return float(ranked[low - 1]), float(ranked[high - 1])


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the median of what `values` are drawn from, whatever their distribution.

    Two order statistics: as few values lie outside as the binomial of fair coins allows. Of fewer
    than 6 values it is, at 95%, the whole range, which holds the median less often than that.

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("no values")
    count = len(values)
    if count > MANY and (found := quantile_interval(values, 0.5, confidence)):
        return found
    ranked = sorted(values)
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
