"""The statistics agree with scipy's."""

from __future__ import annotations

import pytest
from scipy.stats import binom, binomtest

from edge_bench.stats import early_stopping_floor, mcnemar_p_value, wilson_interval


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
