"""Masks hold everything; accuracies are functions of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edge_bench.core.series import encode_series
from edge_bench.core.spec import Report
from edge_bench.statistics.metrics import (
    accuracy,
    decode_mask,
    encode_mask,
    labels_of,
    worst_case_mask,
)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("samples", [1, 2, 63, 1000])
def test_a_mask_survives_the_way_through_its_string(samples: int, seed: int) -> None:
    correct = np.random.default_rng(seed).random(samples) < 0.5
    np.testing.assert_array_equal(decode_mask(encode_mask(correct)), correct)


def test_a_mask_has_a_one_for_each_correct_sample() -> None:
    assert encode_mask(np.array([True, False, True, True])) == "1011"


@pytest.mark.parametrize(("mask", "expected"), [("1", 1), ("0", 0), ("1011", 0.75), ("100", 1 / 3)])
def test_accuracy_is_the_fraction_of_ones(mask: str, expected: float) -> None:
    assert accuracy(mask) == expected


def test_the_worst_case_is_right_only_where_everything_is(
    make_report: Callable[..., Report],
) -> None:
    report = make_report("11110", {"fgsm": "11011", "pgd": "01111"})
    assert worst_case_mask(report) == "01010"


@pytest.mark.parametrize("seed", range(5))
def test_the_worst_case_is_never_above_the_clean_images_or_any_set(
    make_report: Callable[..., Report], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    masks = [encode_mask(rng.random(50) < 0.8) for _ in range(4)]
    worst = worst_case_mask(make_report(masks[0], dict(zip("abc", masks[1:], strict=True))))
    assert worst is not None
    assert accuracy(worst) <= min(map(accuracy, masks))


def test_the_worst_case_without_sets_is_unmeasured(make_report: Callable[..., Report]) -> None:
    assert worst_case_mask(make_report("111")) is None


def test_the_worst_case_without_images_is_unmeasured(make_report: Callable[..., Report]) -> None:
    assert worst_case_mask(make_report()) is None


def test_the_labels_of_a_report_are_read_once_and_cannot_be_written_to(
    make_report: Callable[..., Report],
) -> None:
    report = replace(make_report("1101", {"pgd": "1001"}), labels=encode_series([0, 1, 1, 0]))
    found = labels_of(report)
    assert found is not None
    assert labels_of(report) is found
    assert found.tolist() == [0, 1, 1, 0]
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 5
