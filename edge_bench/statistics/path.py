"""What the way from file to logits does to accuracy: the product's against the card's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_bench.core.pictures.answers import Answers
from edge_bench.core.pictures.walked import CARD, Walked
from edge_bench.core.series import series_array
from edge_bench.core.timings import Measurement
from edge_bench.statistics.metrics import BoolArray
from edge_bench.statistics.stats import mcnemar_p_value, paired_difference_interval

TOTAL = "in all"
PATH_ACCURACY = "path_accuracy"
"""What conditions and comparisons call the accuracy from file to logits."""


@dataclass(frozen=True, kw_only=True)
class PathGap:
    """Accuracy on the product's way minus that on the card's, of the same pictures.

    Attributes:
        samples: pictures.
        only_product: right on the product's way alone.
        only_card: right on the card's way alone.
        changed: of another class, right or wrong.
        same_way: the product goes the card's way, so that there is nothing to differ.
    """

    samples: int
    only_product: int
    only_card: int
    changed: int
    same_way: bool

    @property
    def gap(self) -> float:
        """As a fraction; negative where the product's way is the worse one."""
        return (self.only_product - self.only_card) / self.samples

    @property
    def lost(self) -> float:
        """The accuracy that the product's way loses: minus the gap."""
        return (self.only_card - self.only_product) / self.samples

    @property
    def p_value(self) -> float:
        """Of the exact McNemar test."""
        return mcnemar_p_value(self.only_card, self.only_product)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Of the gap, paired (Bonett and Price 2012)."""
        if self.same_way:
            return 0.0, 0.0
        return paired_difference_interval(
            self.only_card, self.only_product, self.samples, confidence
        )

    def interval_of_loss(self, confidence: float = 0.95) -> tuple[float, float]:
        """Of `lost`."""
        low, high = self.interval(confidence)
        return -high, -low


def right(walked: Walked) -> BoolArray:
    """(N,) booleans: is the answer on the product's way the label?"""
    return _right(walked, walked.answers)


def path_gap(walked: Walked) -> PathGap | None:
    """Over all pictures; None where the card's way was not gone."""
    return _gap(walked, np.ones(len(walked.answers), dtype=np.bool_))


def path_gaps(walked: Walked) -> dict[str, PathGap]:
    """By the name of each class that has pictures; none where the card's way was not gone."""
    return dict(_by_class(walked))


def worst_gap(walked: Walked) -> tuple[str, PathGap] | None:
    """The class that the product's way costs most, the first by name of several."""
    found = path_gaps(walked)
    return min(found.items(), key=lambda pair: (pair[1].gap, pair[0]), default=None)


def stage_ns(walked: Walked) -> dict[str, NDArray[np.int64]]:
    """(N,) times of each stage, and of all together."""
    times = {name: series_array(text) for name, text in walked.stages.items()}
    total: NDArray[np.int64] = np.sum(list(times.values()), axis=0)
    return times | {TOTAL: total}


def as_measurement(walked: Walked) -> Measurement:
    """The times of all stages together, one picture a call."""
    total = stage_ns(walked)[TOTAL].tolist()
    return Measurement(batch_size=1, warmup_runs=0, first_ns=total[0], latency_ns=tuple(total))


def _by_class(walked: Walked) -> Iterator[tuple[str, PathGap]]:
    labels = series_array(walked.labels)
    for label in np.unique(labels).tolist():
        if (found := _gap(walked, labels == label)) is not None:
            yield walked.class_names[label], found


def _gap(walked: Walked, which: BoolArray) -> PathGap | None:
    if walked.card_answers is None:
        return None
    product, card = right(walked)[which], _right(walked, walked.card_answers)[which]
    classes = [series_array(a.predicted)[which] for a in (walked.answers, walked.card_answers)]
    return PathGap(
        samples=int(which.sum()),
        only_product=int((product & ~card).sum()),
        only_card=int((card & ~product).sum()),
        changed=int((classes[0] != classes[1]).sum()),
        same_way=walked.pipeline == CARD,
    )


def _right(walked: Walked, answers: Answers) -> BoolArray:
    found: BoolArray = series_array(answers.predicted) == series_array(walked.labels)
    return found
