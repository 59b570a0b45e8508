"""The statistics agree with scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest, multinomial

from edge_bench.stats import (
    early_stopping_floor,
    mcnemar_p_value,
    paired_drop_interval,
    wilson_interval,
)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize(
    ("successes", "trials"),
    [(0, 1), (1, 1), (0, 10), (3, 10), (10, 10), (512, 1000), (9_999, 10_000)],
)
def test_the_wilson_interval_is_scipy_s(successes: int, trials: int, confidence: float) -> None:
    theirs = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert wilson_interval(successes, trials, confidence) == pytest.approx(
        (theirs.low, theirs.high), abs=1e-12
    )


def test_the_wilson_interval_is_of_95_percent_unless_asked() -> None:
    assert wilson_interval(40, 100) == wilson_interval(40, 100, 0.95)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 10), (11, 10)])
def test_the_wilson_interval_of_impossible_counts_is_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} successes of {trials} trials"):
        wilson_interval(successes, trials)


@pytest.mark.parametrize(
    ("lost", "won"),
    [(0, 0), (1, 0), (0, 1), (5, 5), (12, 3), (3, 12), (30, 31), (2600, 2400), (2410, 2590)],
)
def test_the_mcnemar_test_is_scipy_s_exact_binomial_test(lost: int, won: int) -> None:
    theirs = binomtest(lost, lost + won, 0.5).pvalue if lost + won else 1.0
    assert mcnemar_p_value(lost, won) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize(
    # The numbers of MLPerf Inference's rules, "Early stopping": 64 queries at p90, 662 at p99.
    ("percentile", "floor"),
    [(0.9, 64), (0.99, 662)],
)
def test_the_early_stopping_floor_is_mlperf_s(percentile: float, floor: int) -> None:
    assert early_stopping_floor(percentile) == floor


@pytest.mark.parametrize("percentile", [0.5, 0.9, 0.95, 0.99])
def test_the_early_stopping_floor_is_the_least_number_that_meets_the_rule(
    percentile: float,
) -> None:
    floor = early_stopping_floor(percentile)
    assert binom.cdf(1, floor, 1 - percentile) <= 0.01
    assert binom.cdf(1, floor - 1, 1 - percentile) > 0.01


@pytest.mark.parametrize(("lost", "gained", "trials"), [(-1, 0, 10), (6, 5, 10), (0, 0, 0)])
def test_the_interval_of_an_impossible_drop_is_refused(lost: int, gained: int, trials: int) -> None:
    with pytest.raises(ValueError, match=f"{lost} lost and {gained} gained of {trials} trials"):
        paired_drop_interval(lost, gained, trials)


@pytest.mark.parametrize(("lose", "gain"), [(0.0, 0.0), (0.01, 0.0), (0.03, 0.02), (0.3, 0.1)])
@pytest.mark.parametrize("trials", [72, 500])
def test_the_interval_of_a_drop_holds_the_truth_as_often_as_it_says(
    lose: float, gain: float, trials: int
) -> None:
    counts = np.arange(trials + 1)
    lost, gained = np.meshgrid(counts, counts, indexing="ij")
    chance = multinomial.pmf(
        np.stack([lost, gained, trials - lost - gained], axis=-1),
        trials,
        [lose, gain, 1 - lose - gain],
    )
    covered = 0.0
    for i, j in zip(*np.nonzero(chance > 1e-7), strict=True):
        low, high = paired_drop_interval(int(i), int(j), trials)
        covered += float(chance[i, j]) if low <= lose - gain <= high else 0.0
    assert covered > 0.93


def test_the_interval_of_a_drop_is_bonett_and_price_s() -> None:
    # Of 100 samples 10 lost and 4 gained: (11 - 5)/102 +- 1.96 sqrt((16/102 - (6/102)^2) / 102).
    low, high = paired_drop_interval(10, 4, 100)
    assert (low, high) == pytest.approx((-0.01721, 0.13486), abs=1e-4)
    assert paired_drop_interval(4, 10, 100) == pytest.approx((-high, -low))
    assert paired_drop_interval(0, 0, 100) == pytest.approx((-0.02717, 0.02717), abs=1e-4)
