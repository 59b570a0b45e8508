"""The statistics agree with scipy's."""

from __future__ import annotations

import pytest
from scipy.stats import binom, binomtest, multinomial

from edge_bench.core.stats import (
    early_stopping_floor,
    mcnemar_p_value,
    median_interval,
    paired_difference_interval,
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


def test_the_paired_interval_adds_one_sample_to_either_discordant_count() -> None:
    # By hand, of 21 samples with 7 and 1 discordant: 8 and 2 of 23.
    half = 1.959964 * ((10 / 23 - (6 / 23) ** 2) / 23) ** 0.5
    expected = (-6 / 23 - half, -6 / 23 + half)
    assert paired_difference_interval(7, 1, 21) == pytest.approx(expected, abs=1e-6)
    assert paired_difference_interval(1, 7, 21) == pytest.approx((-expected[1], -expected[0]))


@pytest.mark.parametrize(("lost", "won"), [(0.0, 0.0), (0.01, 0.01), (0.05, 0.02), (0.2, 0.1)])
def test_the_paired_interval_holds_the_difference_as_often_as_it_says(
    lost: float, won: float
) -> None:
    samples, covered = 60, 0.0
    for only_first in range(samples + 1):
        for only_second in range(samples + 1 - only_first):
            counts = [only_first, only_second, samples - only_first - only_second]
            low, high = paired_difference_interval(only_first, only_second, samples)
            if low <= won - lost <= high:
                covered += multinomial.pmf(counts, samples, [lost, won, 1 - lost - won])
    assert covered > 0.94


@pytest.mark.parametrize("counts", [(0, 0, 0), (-1, 0, 5), (3, 3, 5)])
def test_the_paired_interval_of_impossible_counts_is_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="discordant of"):
        paired_difference_interval(*counts)


@pytest.mark.parametrize("count", [6, 9, 21, 100, 2001])
def test_the_interval_of_a_median_is_the_narrowest_that_binomials_allow(count: int) -> None:
    low, high = (int(v) for v in median_interval([float(v) for v in range(count)]))
    assert low + high == count - 1
    # The median lies below the value of rank `low` (from 0) where `low` values or fewer lie below.
    assert 2 * binom.cdf(low, count, 0.5) <= 0.05
    assert 2 * binom.cdf(low + 1, count, 0.5) > 0.05


def test_few_values_give_their_range_and_none_an_error() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    with pytest.raises(ValueError, match="no values"):
        median_interval([])
