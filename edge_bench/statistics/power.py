"""How small a difference of two accuracies samples can show, and how many would show one.

`spread` of a paired comparison is the fraction of samples on which the two models differ; it bounds
the difference, and with it the variance. Formulas: Miettinen (1968) and Connor (1987) for pairs,
the usual normal ones for independent samples (Fleiss et al. 2003, ch. 4).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import ceil, sqrt
from statistics import NormalDist

POWER = 0.8
STEPS = 60


def paired_samples(difference: float, spread: float, level: float = 0.05) -> int:
    """Samples of which McNemar's two-sided test shows `difference` with a power of 80%.

    Raises:
        ValueError: no difference, or one larger than the spread.
    """
    size = abs(difference)
    if not 0 < size <= spread <= 1:
        raise ValueError(f"a difference of {difference} in a spread of {spread}")
    alpha, beta = _quantiles(level)
    return ceil((alpha * sqrt(spread) + beta * sqrt(spread - size * size)) ** 2 / (size * size))


def unpaired_samples(old: float, new: float, level: float = 0.05) -> int:
    """Samples of each model of which a two-sided test of proportions shows their difference.

    Raises:
        ValueError: no difference.
    """
    if old == new:
        raise ValueError("no difference")
    alpha, beta = _quantiles(level)
    mean = (old + new) / 2
    apart = sqrt(old * (1 - old) + new * (1 - new))
    root = (alpha * sqrt(2 * mean * (1 - mean)) + beta * apart) / (new - old)
    return ceil(root * root)


def paired_detectable(samples: int, spread: float, level: float = 0.05) -> float:
    """The smallest difference that so many pairs show with a power of 80%, as a fraction."""
    if paired_samples(spread, spread, level) > samples:
        # Even if all that differ differed the same way: then as many as must differ do.
        return _least(lambda size: paired_samples(size, size, level) <= samples, 1.0)
    return _least(lambda size: paired_samples(size, spread, level) <= samples, spread)


def unpaired_detectable(samples: int, old: float, level: float = 0.05) -> float:
    """The smallest change from `old` that so many samples of each model show, as a fraction.

    A loss, or where no loss is large enough for so few, a gain; all that there is where neither is.
    """
    for to in (-1, 1):
        most = old if to < 0 else 1 - old
        if most and unpaired_samples(old, old + to * most, level) <= samples:
            return _least(partial(_shows, samples, old, to, level), most)
    return max(old, 1 - old)


def _shows(samples: int, old: float, to: int, level: float, size: float) -> bool:
    return unpaired_samples(old, old + to * size, level) <= samples


def _quantiles(level: float) -> tuple[float, float]:
    normal = NormalDist()
    return normal.inv_cdf(1 - level / 2), normal.inv_cdf(POWER)


def _least(shows: Callable[[float], bool], most: float) -> float:
    """The least size in (0, most] that is shown; `most` where none is."""
    low, high = 0.0, most
    for _ in range(STEPS):
        middle = (low + high) / 2
        if middle > 0 and shows(middle):
            high = middle
        else:
            low = middle
    return high
