"""The statistics agree with scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest, multinomial
from scipy.stats import t as student

from edge_bench.statistics.stats import (
    early_stopping_floor,
    mcnemar_p_value,
    median_interval,
    paired_difference_interval,
    quantile_interval,
    student_quantile,
    unpaired_difference_interval,
    unpaired_p_value,
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


@pytest.mark.parametrize("trials", [2, 6, 9, 14])
def test_rounding_takes_no_wilson_interval_out_of_what_a_proportion_can_be(trials: int) -> None:
    # A hair below 0 would be told as -0.0 %.
    assert 0 <= wilson_interval(0, trials)[0] < 1e-12
    assert 1 - 1e-12 < wilson_interval(trials, trials)[1] <= 1


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


def test_the_paired_interval_ends_where_differences_do() -> None:
    # By hand, of 5 samples that one alone has right: 5/7 and 1.96 sqrt((1 - 25/49) / 7) beyond.
    inner = 5 / 7 - 1.959964 * ((1 - 25 / 49) / 7) ** 0.5
    assert paired_difference_interval(5, 0, 5) == pytest.approx((-1, -inner), abs=1e-6)
    assert paired_difference_interval(0, 5, 5) == pytest.approx((inner, 1), abs=1e-6)


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


@pytest.mark.parametrize("count", [6, 9, 21, 100, 501, 502, 527, 1000, 2001, 10_000])
def test_the_interval_of_a_median_is_the_narrowest_that_binomials_allow(count: int) -> None:
    low, high = (int(v) for v in median_interval([float(v) for v in range(count)]))
    assert low + high == count - 1
    # The median lies below the value of rank `low` (from 0) where `low` values or fewer lie below.
    assert 2 * binom.cdf(low, count, 0.5) <= 0.05
    assert 2 * binom.cdf(low + 1, count, 0.5) > 0.05


@pytest.mark.parametrize("freedom", [1, 2, 3, 9, 10, 99, 500])
def test_student_s_quantile_is_scipy_s(freedom: int) -> None:
    for confidence in (0.5, 0.9, 0.95, 0.999):
        expected = student.ppf(0.5 + confidence / 2, freedom)
        assert student_quantile(confidence, freedom) == pytest.approx(expected, rel=1e-10)
    assert student_quantile(0.95, 5000) == pytest.approx(student.ppf(0.975, 5000), rel=1e-3)
    with pytest.raises(ValueError, match="0 degrees of freedom"):
        student_quantile(0.95, 0)


def test_few_values_give_their_range_and_none_an_error() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    with pytest.raises(ValueError, match="no values"):
        median_interval([])


Counts = tuple[int, int]


def random_counts(seed: int, cases: int, most: int) -> list[tuple[Counts, Counts]]:
    """(successes, trials) twice, a case each."""
    rng = np.random.default_rng(seed)
    trials = rng.integers(2, most, size=(cases, 2))
    right = rng.binomial(trials, rng.uniform(size=(cases, 2)))
    return [
        ((int(r[0]), int(t[0])), (int(r[1]), int(t[1]))) for r, t in zip(right, trials, strict=True)
    ]


def test_the_interval_of_independent_samples_is_statsmodels_on_a_thousand_cases() -> None:
    from statsmodels.stats.proportion import confint_proportions_2indep

    for old, new in random_counts(seed=1, cases=1000, most=3000):
        expected = confint_proportions_2indep(*new, *old, method="newcomb")
        assert unpaired_difference_interval(old, new) == pytest.approx(expected, abs=1e-12)


def test_the_test_of_independent_samples_is_statsmodels_on_a_thousand_cases() -> None:
    from statsmodels.stats.proportion import proportions_ztest

    for old, new in random_counts(seed=2, cases=1000, most=3000):
        if 0 < old[0] + new[0] < old[1] + new[1]:
            _, expected = proportions_ztest((new[0], old[0]), (new[1], old[1]))
            assert unpaired_p_value(old, new) == pytest.approx(expected, rel=1e-9, abs=1e-300)
    assert unpaired_p_value((5, 5), (7, 7)) == 1.0


def test_mcnemar_is_scipy_s_on_a_thousand_cases_and_statsmodels_too() -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    rng = np.random.default_rng(3)
    for lost, won in rng.integers(0, 400, size=(1000, 2)):
        expected = mcnemar([[0, lost], [won, 0]], exact=True).pvalue
        assert mcnemar_p_value(int(lost), int(won)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("lost", "won"),
    [
        (250, 251),
        (300, 300),
        (200, 400),
        (1, 900),
        (0, 600),
        (5000, 5300),
        (224_000, 226_000),
        (100, 100_000),
    ],
)
def test_mcnemar_of_many_is_scipy_s_too(lost: int, won: int) -> None:
    expected = binomtest(lost, lost + won).pvalue
    assert mcnemar_p_value(lost, won) == pytest.approx(expected, rel=1e-7, abs=1e-300)


@pytest.mark.parametrize("quantile", [0.05, 0.5, 0.95, 0.99])
@pytest.mark.parametrize("count", [6, 20, 130, 662, 5000])
def test_the_interval_of_a_quantile_is_made_of_scipy_s_binomial(
    quantile: float, count: int
) -> None:
    values = np.random.default_rng(count).permutation(count)  # Ranks from 0 on.
    low, high = binom.ppf([0.025, 0.975], count, quantile).astype(int)
    found = quantile_interval(values.tolist(), quantile)
    below = binom.cdf(low - 1, count, quantile)  # Fewer than `low` values below the quantile.
    if low < 1 or high + 1 > count:
        assert found is None
    else:
        assert below <= 0.025 < binom.cdf(low, count, quantile)
        assert found == (low - 1, high)


@pytest.mark.parametrize("quantile", [0.5, 0.95])
def test_the_interval_of_a_quantile_holds_it_as_often_as_it_says(quantile: float) -> None:
    rng = np.random.default_rng(7)
    truth = -np.log1p(-quantile)
    held = 0
    for _ in range(400):
        interval = quantile_interval(rng.exponential(size=300).tolist(), quantile)
        assert interval is not None
        held += interval[0] <= truth <= interval[1]
    assert held / 400 > 0.93
