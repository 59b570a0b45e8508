"""Frontiers of methods, held against accuracies that were written down by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.lines import Line, pack
from benchmarks.methods.tables.frontier import Budgets, ahead, lead
from benchmarks.methods.tables.frontiers import (
    Stages,
    draw_frontiers,
    frontier_table,
    frontiers,
    lead_table,
)

IMAGES = 1_000


def run_of(clean: float, robust: float, seed: int = 0) -> Line:
    """A run that is right on the first images only."""
    shares = {"clean": clean, "apgd_ce": robust + 0.01, "apgd_t": robust}
    masks = {name: pack(np.arange(IMAGES) < share * IMAGES) for name, share in shares.items()}
    return {"test": shares, "masks": masks, "images": IMAGES, "seed": seed}


def budgets_of(*points: tuple[float, float]) -> Budgets:
    return {str(budget): [run_of(*point)] for budget, point in enumerate(points)}


def test_frontiers_are_compared_at_equal_clean_accuracy() -> None:
    # Ours falls from 30 to 20 between 50 and 60 clean; theirs is 2 points below all along, with
    # other points of it taken.
    ours = budgets_of((0.6, 0.2), (0.5, 0.3))
    theirs = budgets_of((0.64, 0.14), (0.56, 0.22), (0.54, 0.24))
    found = lead(ours, theirs, draws=50)
    assert found is not None
    assert found.mean == pytest.approx(0.02)
    assert found.least == pytest.approx(0.02)
    assert found.clean == pytest.approx((0.54, 0.6))
    # A higher robust accuracy at a lower clean one is no lead by itself.
    better_robust = budgets_of((0.56, 0.24), (0.5, 0.3))
    level = lead(better_robust, ours, draws=50)
    assert level is not None
    assert level.mean == pytest.approx(0.0)


def test_frontiers_that_share_no_clean_accuracy_are_not_compared() -> None:
    assert lead(budgets_of((0.6, 0.2), (0.5, 0.3)), budgets_of((0.4, 0.3), (0.3, 0.4))) is None


def test_more_of_both_at_every_budget_is_said_where_no_clean_accuracy_is_shared() -> None:
    ours, theirs = budgets_of((0.6, 0.25), (0.55, 0.3)), budgets_of((0.5, 0.2), (0.45, 0.24))
    assert ahead(ours, theirs) == pytest.approx((0.05, 0.01))
    assert ahead(theirs, ours) is None
    # More robust at one of theirs than at one of ours.
    assert ahead(ours, budgets_of((0.5, 0.2), (0.45, 0.26))) is None
    budgets = {"budget 6": 0, "main": 1}
    pairs = {"ard": [*ours.values()], "trades": [*theirs.values()]}
    stages = {
        stage: {label: runs[at] for label, runs in pairs.items()} for stage, at in budgets.items()
    }
    (row,) = lead_table(stages)[1:]
    assert row[1:] == [
        "none",
        "at every budget 5.0 more clean, 1.0 more robust, or more than that",
        "",
    ]


def test_the_interval_knows_of_seeds_and_images() -> None:
    ours = {"6": [run_of(0.6, 0.2, 0), run_of(0.6, 0.2, 1)], "8": [run_of(0.5, 0.3)] * 2}
    same = lead(ours, ours, draws=200)
    assert same is not None
    # The same images are drawn for both, and all seeds are alike: nothing is left to chance.
    assert [same.low, same.high] == pytest.approx([0.0, 0.0])
    scattered = {"6": [run_of(0.6, 0.15, 0), run_of(0.6, 0.25, 1)], "8": [run_of(0.5, 0.3)] * 2}
    of_seeds = lead(scattered, ours, draws=200)
    assert of_seeds is not None
    assert of_seeds.mean == pytest.approx(0.0, abs=1e-9)
    assert of_seeds.low == pytest.approx(-0.025, abs=0.01)
    assert of_seeds.high == pytest.approx(0.025, abs=0.01)
    # One seed each, and a lead that 40 images make.
    above = lead(budgets_of((0.6, 0.24), (0.5, 0.34)), budgets_of((0.6, 0.2), (0.5, 0.3)))
    assert above is not None
    # Binomial, each end on images of its own: sqrt(0.04 * 0.96 / 1000 / 2) = 0.0044, twice that to
    # each side; what the draw does to clean accuracy is common to both.
    assert above.high - above.low == pytest.approx(4 * 0.0044, rel=0.2)
    assert above.low < above.mean < above.high


def stages() -> Stages:
    return {
        "budget 6": {"ard": [run_of(0.6, 0.2)], "rslad": [run_of(0.58, 0.2)]},
        "main": {"ard": [run_of(0.55, 0.25)], "rslad": [run_of(0.53, 0.25)], "nat": [run_of(1, 0)]},
        "budget 10": {"ard": [run_of(0.5, 0.3)], "rslad": [run_of(0.4, 0.31)]},
    }


def test_tables_and_picture(tmp_path: Path) -> None:
    assert set(frontiers(stages())) == {"ard", "rslad"}
    assert frontier_table(stages())[1:] == [
        ["**ard**", "60.0 / 20.0", "55.0 / 25.0", "50.0 / 30.0"],
        ["rslad", "58.0 / 20.0", "53.0 / 25.0", "40.0 / 31.0"],
    ]
    (row,) = lead_table(stages())[1:]
    assert row[:2] == ["rslad", "50.0 to 58.0"]
    assert row[2].startswith("+2.")
    draw_frontiers(stages(), tmp_path / "frontiers.svg")
    assert (tmp_path / "frontiers.svg").stat().st_size > 5_000
