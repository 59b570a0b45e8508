"""Accuracy class by class."""

from __future__ import annotations

import numpy as np

from edge_bench.statistics.class_figures import by_class, class_figures, named, worst

LABELS = np.array([2, 0, 0, 2, 2, 0, 0, 2])
MASK = "10110111"


def test_each_class_has_its_own_images() -> None:
    found = by_class(MASK, LABELS, named(("cat", "dog", "elk")))
    assert [(f.name, f.mask, f.samples, f.accuracy) for f in found] == [
        ("cat", "0111", 4, 0.75),
        ("elk", "1101", 4, 0.75),
    ]
    # The mean of the classes' images is that of all.
    assert sum(f.mask.count("1") for f in found) == MASK.count("1")


def test_the_worst_class_is_the_lowest_and_of_equals_the_first_by_name() -> None:
    assert worst(by_class(MASK, LABELS, {0: "zebra", 2: "elk"})).name == "elk"
    assert worst(by_class("10110110", LABELS, {0: "cat", 2: "elk"})).name == "elk"
    assert worst(by_class("11111111", LABELS, {})).name == "0"


def test_figures_for_json_name_every_class_of_every_mask() -> None:
    found = class_figures({"clean": "11111111", "pgd": MASK}, LABELS, {0: "cat", 2: "elk"})
    assert found["class_accuracy"]["pgd"] == {"cat": 0.75, "elk": 0.75}
    assert found["worst_class"]["clean"] == {"class": "cat", "accuracy": 1.0, "samples": 4}
