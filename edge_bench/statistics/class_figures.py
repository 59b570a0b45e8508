"""Accuracy class by class: a mean over unbalanced classes hides the one that fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench.statistics.metrics import decode_mask, encode_mask

Labels = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class ClassFigure:
    """Right answers for the images of one class.

    Attributes:
        mask: a '1' for each of its images that was answered rightly; never empty.
    """

    name: str
    mask: str

    @property
    def samples(self) -> int:
        """Images of this class."""
        return len(self.mask)

    @property
    def accuracy(self) -> float:
        """Fraction of them."""
        return self.mask.count("1") / len(self.mask)


def by_class(mask: str, labels: Labels, names: Mapping[int, str]) -> list[ClassFigure]:
    """Those of every class that has images, in the order of the labels.

    Args:
        mask: of N samples.
        labels: (N,) class numbers.
        names: of the classes; one without a name is called by its number.
    """
    correct = decode_mask(mask)
    return [
        ClassFigure(
            name=names.get(int(label), str(label)), mask=encode_mask(correct[labels == label])
        )
        for label in np.unique(labels)
    ]


def worst(found: list[ClassFigure]) -> ClassFigure:
    """The class with the lowest accuracy; the first by name of several."""
    return min(found, key=lambda each: (each.accuracy, each.name))


def class_figures(
    masks: Mapping[str, str], labels: Labels, names: Mapping[int, str]
) -> dict[str, Any]:
    """For JSON: accuracies by mask and class, and the worst class of each mask."""
    found = {name: by_class(mask, labels, names) for name, mask in masks.items()}
    lowest = {name: worst(each) for name, each in found.items()}
    return {
        "class_accuracy": {
            name: {figure.name: figure.accuracy for figure in each} for name, each in found.items()
        },
        "worst_class": {
            name: {"class": each.name, "accuracy": each.accuracy, "samples": each.samples}
            for name, each in lowest.items()
        },
    }


def named(names: tuple[str, ...] | None) -> dict[int, str]:
    """The names of classes by their numbers; none where nobody told them."""
    return dict(enumerate(names or ()))
