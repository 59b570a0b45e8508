"""All settings at once: against tests computed one by one, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ttest_rel

from benchmarks.lines import pack
from benchmarks.methods.tables.figures import worst_of
from benchmarks.methods.tables.frontiers import Stages
from benchmarks.methods.tables.together import beside, together_table

Mask = NDArray[np.bool_]
SHARES = {"main": 0.4, "budget 6": 0.6, "limited 10": 0.5}
SEEDS = (0, 1, 2)


def line(seed: int, mask: Mask) -> dict[str, Any]:
    everything = np.ones_like(mask)
    return {
        "seed": seed,
        "images": len(mask),
        "test": {"clean": 1.0, "apgd_t": float(mask.mean())},
        "masks": {"clean": pack(everything), "apgd_t": pack(mask)},
    }


@pytest.fixture
def masks() -> dict[tuple[str, str, int], Mask]:
    """Of ours, which keeps most of what a rival keeps, and of a rival."""
    rng = np.random.default_rng(3)
    found: dict[tuple[str, str, int], Mask] = {}
    for name, share in SHARES.items():
        for seed in SEEDS:
            theirs = rng.random(2003) < share + 0.01 * seed
            found["igdm", name, seed] = theirs
            found["ard", name, seed] = (theirs & (rng.random(2003) < 0.98)) | (
                rng.random(2003) < 0.05
            )
    return found


@pytest.fixture
def stages(masks: dict[tuple[str, str, int], Mask]) -> Stages:
    return {
        name: {
            label: [line(seed, masks[label, name, seed]) for seed in SEEDS]
            for label in ("ard", "igdm")
        }
        for name in SHARES
    }


def test_pairs_of_all_settings_are_compared_by_the_weakest_of_three_tests(
    masks: dict[tuple[str, str, int], Mask], stages: Stages
) -> None:
    keys = [(name, seed) for name in SHARES for seed in SEEDS]
    ours, theirs = (
        np.stack([masks[who, name, seed] for name, seed in keys]) for who in ("ard", "igdm")
    )
    images = ttest_rel(ours.mean(axis=0), theirs.mean(axis=0)).pvalue
    pairs = ttest_rel(ours.mean(axis=1), theirs.mean(axis=1)).pvalue
    seeds = ttest_rel(
        *([side[[s == seed for _, s in keys]].mean() for seed in SEEDS] for side in (ours, theirs))
    ).pvalue

    found = beside(stages, "igdm", worst_of)

    assert found is not None
    assert found.mean == pytest.approx(ours.mean() - theirs.mean())
    assert found.p == pytest.approx(max(images, pairs, seeds))
    assert found.ahead == sum(a.mean() > b.mean() for a, b in zip(ours, theirs, strict=True))
    # All groups have as many seeds, so the pooled variance is the mean of theirs.
    variances = [
        np.var([masks[who, name, seed].mean() for seed in SEEDS], ddof=1)
        for who in ("ard", "igdm")
        for name in SHARES
    ]
    assert found.deviation == pytest.approx(np.sqrt(np.mean(variances)))
    head, row = together_table(stages)
    assert head[3:5] == ["clean: ard minus it", "robust: ard minus it"]
    assert row[:4] == ["igdm", "3", "9", "+0.0 (p 1.00)"]
    assert row[4].startswith(f"{100 * found.mean:+.1f} (p ")


def test_runs_without_a_partner_are_left_out(stages: Stages) -> None:
    stages["budget 6"]["igdm"] = stages["budget 6"]["igdm"][:1]
    stages["main"]["trades"] = stages["main"]["igdm"][:1]
    # ARD with other settings is no rival of it.
    stages["main"]["ard, learning rate 0.8"] = stages["main"]["igdm"]
    # Judged on other images, so no part of this.
    stages["100 classes"] = stages["main"]

    rows = together_table(stages)

    assert [row[:3] for row in rows[1:]] == [["igdm", "3", "7"]]
    del stages["main"]["ard"], stages["limited 10"]["ard"]
    assert len(together_table(stages)) == 1
