"""Each rival beside ours over all settings of CIFAR-10 at once, which have too few seeds alone."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.documents import Rows
from benchmarks.lines import Line, unpack
from benchmarks.methods.tables.figures import (
    OURS,
    FloatArray,
    is_ours,
    lead_and_p,
    p_value,
    worst_of,
)
from benchmarks.methods.tables.frontiers import Stages

SETTINGS = ("main", "budget 6", "budget 10", "limited 10", "limited 10 unlabelled", "longer")
"""Stages that were judged alike, on the same test images."""

Which = Callable[[Line], str]
"""A line to the attack whose mask is compared."""


@dataclass(frozen=True, kw_only=True)
class Together:
    """What sets ours apart from a rival.

    Attributes:
        stages, seeds: of each pair of runs, (pairs,).
        difference: ours minus theirs, by pair and image, (pairs, images) of -1, 0 and 1.
        deviation: the SD over seeds of one method in one setting, pooled over both and all.
    """

    stages: tuple[str, ...]
    seeds: tuple[int, ...]
    difference: FloatArray
    deviation: float

    @property
    def mean(self) -> float:
        """The mean difference, a share of images."""
        return float(self.difference.mean())

    @property
    def ahead(self) -> int:
        """In how many pairs ours has more."""
        return int((self.difference.mean(axis=1) > 0).sum())

    @property
    def p(self) -> float:
        """The largest p of three t-tests: over images, over pairs of runs, and over seeds.

        The first asks for other images, the second for other runs. Runs of one seed share weights
        at the start and are no independent draws; the third takes their mean as one, and lets few
        seeds that happen to agree look surer than they are, hence the second.
        """
        by_seed = defaultdict(list)
        pairs = self.difference.mean(axis=1)
        for seed, value in zip(self.seeds, pairs, strict=True):
            by_seed[seed].append(float(value))
        seeds = [statistics.fmean(values) for values in by_seed.values()]
        return max(p_value(self.difference.mean(axis=0)), p_value(pairs), p_value(seeds))


def together_table(stages: Stages) -> Rows:
    """Every rival, the one with the most settings first."""
    rows = [["rival", "settings", "pairs", "clean: ard minus it", "robust: ard minus it"]]
    rows[0] += ["pooled SD", "pairs with ard ahead"]
    labels = {label for name in SETTINGS for label in stages.get(name, {}) if not is_ours(label)}
    found = []
    for label in sorted(labels):
        clean, robust = beside(stages, label, lambda line: "clean"), beside(stages, label, worst_of)
        if clean is not None and robust is not None:
            found.append((label, clean, robust))
    for label, clean, robust in sorted(found, key=lambda each: -len(set(each[2].stages))):
        rows.append(
            [
                label,
                str(len(set(robust.stages))),
                str(len(robust.seeds)),
                lead_and_p(clean.mean, clean.p),
                lead_and_p(robust.mean, robust.p),
                f"{100 * robust.deviation:.1f}",
                str(robust.ahead),
            ]
        )
    return rows


def beside(stages: Stages, label: str, attack: Which) -> Together | None:
    """Ours beside a rival wherever both have a seed; nothing where they share fewer than two."""
    pairs = [
        (name, a, b)
        for name in SETTINGS
        for a in stages.get(name, {}).get(OURS, [])
        for b in stages.get(name, {}).get(label, [])
        if a["seed"] == b["seed"]
    ]
    if len({a["seed"] for _, a, _ in pairs}) < 2:
        return None
    first, second = (
        np.stack([unpack(one, attack(one)) for one in some]).astype(float)
        for some in ([a for _, a, _ in pairs], [b for _, _, b in pairs])
    )
    names = tuple(name for name, _, _ in pairs)
    return Together(
        stages=names,
        seeds=tuple(int(a["seed"]) for _, a, _ in pairs),
        difference=first - second,
        deviation=_within(names, first.mean(axis=1), second.mean(axis=1)),
    )


def _within(stages: tuple[str, ...], *sides: FloatArray) -> float:
    """The SD of values about the mean of their stage and side, with Bessel's correction."""
    squares, freedom = 0.0, 0
    for values in sides:
        for stage in dict.fromkeys(stages):
            some = values[[name == stage for name in stages]]
            squares += float(((some - some.mean()) ** 2).sum())
            freedom += len(some) - 1
    return math.sqrt(squares / freedom) if freedom else math.nan
