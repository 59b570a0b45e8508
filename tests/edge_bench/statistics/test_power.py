"""Sample sizes and detectable differences are those of the field's formulas, and of simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import power_proportions_2indep

from edge_bench.statistics.power import (
    paired_detectable,
    paired_samples,
    unpaired_detectable,
    unpaired_samples,
)


def simulated_power(samples: int, difference: float, spread: float, runs: int = 1500) -> float:
    """How often exact McNemar at 5% sees `difference` in so many pairs."""
    lost_rate, won_rate = (spread + difference) / 2, (spread - difference) / 2
    rng = np.random.default_rng(0)
    counts = rng.multinomial(samples, [lost_rate, won_rate, 1 - spread], size=runs)
    seen = [
        binomtest(int(lost), int(lost + won)).pvalue < 0.05 for lost, won, _ in counts if lost + won
    ]
    return float(np.sum(seen)) / runs


@pytest.mark.parametrize(("difference", "spread"), [(0.01, 0.04), (0.03, 0.1), (0.02, 0.2)])
def test_so_many_pairs_show_the_difference_four_times_in_five(
    difference: float, spread: float
) -> None:
    samples = paired_samples(difference, spread)
    # The exact test is a little less powerful than the normal one that the formula is of.
    assert 0.74 < simulated_power(samples, difference, spread) < 0.84


@pytest.mark.parametrize(("samples", "spread"), [(500, 0.05), (1000, 0.1), (10_000, 0.03)])
def test_the_smallest_pair_difference_needs_just_so_many(samples: int, spread: float) -> None:
    least = paired_detectable(samples, spread)
    assert paired_samples(least * 1.001, spread) <= samples < paired_samples(least * 0.98, spread)


def test_a_spread_too_small_to_show_anything_says_how_many_would_have_to_differ() -> None:
    least = paired_detectable(100, 0.001)
    assert least > 0.001
    assert paired_samples(least, least) <= 100


@pytest.mark.parametrize(("old", "new"), [(0.5, 0.45), (0.9, 0.88), (0.45, 0.5)])
def test_independent_samples_are_as_many_as_statsmodels_says(old: float, new: float) -> None:
    samples = unpaired_samples(old, new)
    power = power_proportions_2indep(new - old, old, samples, return_results=False)
    assert float(power) == pytest.approx(0.8, abs=0.01)


def test_the_smallest_loss_of_independent_samples_needs_just_so_many() -> None:
    least = unpaired_detectable(2000, 0.5)
    assert unpaired_samples(0.5, 0.5 - least * 1.001) <= 2000
    effect = 2 * (np.arcsin(np.sqrt(0.5)) - np.arcsin(np.sqrt(0.5 - least)))
    assert NormalIndPower().power(effect, 2000, 0.05) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("old", [0.3, 0.9])
def test_what_independent_samples_show_is_a_loss_and_not_a_gain_as_large(old: float) -> None:
    least = unpaired_detectable(2000, old)
    assert unpaired_samples(old, old - 1.001 * least) <= 2000
    assert unpaired_samples(old, old - 0.98 * least) > 2000


@pytest.mark.parametrize(("samples", "old"), [(100, 0.0), (50, 0.01), (2000, 0.0)])
def test_where_no_loss_can_be_shown_a_gain_is(samples: int, old: float) -> None:
    """A model without any robustness is the ordinary case before a defence."""
    least = unpaired_detectable(samples, old)
    assert unpaired_samples(old, old + 1.001 * least) <= samples
    assert unpaired_samples(old, old + 0.98 * least) > samples


@pytest.mark.parametrize("old", [0.0, 0.5, 1.0])
def test_one_sample_shows_nothing(old: float) -> None:
    assert unpaired_detectable(1, old) == max(old, 1 - old)


@pytest.mark.parametrize(("difference", "spread"), [(0.0, 0.1), (0.2, 0.1), (0.1, 1.5)])
def test_what_cannot_be_is_refused(difference: float, spread: float) -> None:
    with pytest.raises(ValueError, match="difference"):
        paired_samples(difference, spread)
    with pytest.raises(ValueError, match="no difference"):
        unpaired_samples(0.5, 0.5)
