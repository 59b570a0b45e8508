"""The few statistics that a device without scipy needs; checked against scipy in the tests."""

from __future__ import annotations

from math import comb, sqrt
from statistics import NormalDist


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


def paired_drop_interval(
    lost: int, gained: int, trials: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of `(lost - gained) / trials`, a difference of proportions on the same samples.

    The adjusted Wald interval of Bonett and Price 2012: half a sample is added to each kind, so
    that it has a width even where no sample changed.

    Args:
        lost: samples that are right under the first model alone.
        gained: samples that are right under the second alone.

    Raises:
        ValueError: no trials, or more changed samples than trials.
    """
    if min(lost, gained) < 0 or lost + gained > trials or trials == 0:
        raise ValueError(f"{lost} lost and {gained} gained of {trials} trials")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p, q = (lost + 1) / (trials + 2), (gained + 1) / (trials + 2)
    half = z * sqrt((p + q - (p - q) ** 2) / (trials + 2))
    return max(-1.0, p - q - half), min(1.0, p - q + half)


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
